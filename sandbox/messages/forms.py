"""Forms, urlencoded or in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import HTTP
from urllib.parse import parse_qsl

from sandbox.fields import BadInput
from sandbox.wire import Request

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


@dataclass(frozen=True, slots=True)
class File:
    """One that came in a form."""

    field: str
    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """Fields in their order, each name as often as it came, and files."""

    pairs: tuple[tuple[str, str], ...]
    files: tuple[File, ...] = ()

    def first(self, name: str) -> str:
        """'' when it is not there."""
        return next((value for each, value in self.pairs if each == name), "")

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.pairs if each == name]

    def under(self, prefix: str) -> dict[str, str]:
        """The fields whose names begin so, without that."""
        return {n.removeprefix(prefix): v for n, v in self.pairs if n.startswith(prefix)}


def read_form(request: Request) -> Form:
    """Raises BadInput."""
    content_type = request.headers.get("content-type", URLENCODED)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == URLENCODED:
        try:
            text = request.body.decode("utf-8")
            return Form(tuple(parse_qsl(text, keep_blank_values=True, errors="strict")))
        except ValueError as error:
            raise BadInput("the form is no UTF-8") from error
    if kind != MULTIPART:
        raise BadInput(f"the content type must be {URLENCODED} or {MULTIPART}")
    head = _head(b"Content-Type: " + content_type.encode("latin-1"))
    pairs, files = [], []
    for part, content in _parts(request.body, str(head.get_param("boundary", ""))):
        name = str(part.get_param("name", "", "content-disposition"))
        if part.get_filename() is None:
            pairs.append((name, content.decode("utf-8", "replace")))
        else:
            filename = str(part.get_filename())
            files.append(File(name, filename, part.get_content_type(), content))
    return Form(tuple(pairs), tuple(files))


def _parts(body: bytes, boundary: str) -> Iterator[tuple[Message, bytes]]:
    mark = b"\r\n--" + boundary.encode("latin-1", "replace")
    pieces = (b"\r\n" + body).split(mark)
    if not boundary or len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise BadInput("the form's parts are not delimited")
    for piece in pieces[1:-1]:
        head, blank, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not blank:
            raise BadInput("a part of the form has no headers")
        yield _head(head), content


def _head(octets: bytes) -> Message:
    return BytesHeaderParser(policy=HTTP).parsebytes(octets + b"\r\n\r\n")
