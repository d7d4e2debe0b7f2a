"""HTTP/1.1, read from a stream. No more of it than a provider's clients use."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus

from sandbox.limits import IDLE_SECONDS

CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Malformed(Exception):
    """What arrived is no HTTP request that we read. The connection ends with this answer."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower-case, `path` is still percent-encoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent back."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    def header(self, name: str) -> str:
        """The first value of a header, '' without one."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), "")

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """The same answer with these headers instead of those of the same name."""
        names = {name.lower() for name in headers}
        kept = (pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=(*kept, *headers.items()))

    def head(self, *, keep_alive: bool) -> bytes:
        """Status line and headers."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [
            f"HTTP/1.1 {self.status} {phrase}",
            "Server: sandbox",
            f"Date: {formatdate(time.time(), usegmt=True)}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
        ]
        if self.status not in BODILESS:
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, bound: Callable[[str], int]
) -> Request | None:
    """The next request; None when the peer has gone or is silent for too long. `bound` tells how
    many bytes of a body are read at a path.

    Raises Malformed.
    """
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    except asyncio.LimitOverrunError as error:
        raise Malformed(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long"
        ) from error
    method, target, version, headers = _parse_head(head)
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    most = bound(target)
    try:
        body = await asyncio.wait_for(_read_body(reader, headers, most), IDLE_SECONDS)
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    path, _, query = target.partition("?")
    connection = headers.get("connection", "").lower()
    keep_alive = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
    return Request(method, path, query, headers, body, keep_alive)


def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").lstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise Malformed(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
    method, target, version = words
    if not (method.isascii() and method.isalpha()) or not target.startswith("/"):
        raise Malformed(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed(HTTPStatus.BAD_REQUEST, "a header line is malformed")
        name, value = name.lower(), value.strip(" \t")
        if name in ("content-length", "idempotency-key") and headers.get(name, value) != value:
            raise Malformed(HTTPStatus.BAD_REQUEST, f"{name} is there twice")
        headers[name] = value
    return method, target, version, headers


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str], most: int) -> bytes:
    length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
    if encoding is not None:
        if encoding.lower() != "chunked" or length is not None:
            raise Malformed(HTTPStatus.BAD_REQUEST, "this body cannot be delimited")
        return await _read_chunks(reader, most)
    if length is None:
        return b""
    if not (length.isascii() and length.isdigit() and len(length) <= 10):
        raise Malformed(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
    return await reader.readexactly(_bounded(int(length), most))


async def _read_chunks(reader: asyncio.StreamReader, most: int) -> bytes:
    body = b""
    while size := await _chunk_size(reader, most):
        body += await reader.readexactly(_bounded(len(body) + size, most) - len(body))
        if await reader.readexactly(2) != b"\r\n":
            raise Malformed(HTTPStatus.BAD_REQUEST, "a chunk is malformed")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers mean nothing to us
    return body


async def _chunk_size(reader: asyncio.StreamReader, most: int) -> int:
    line = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip()
    if not CHUNK_SIZE.fullmatch(line):
        raise Malformed(HTTPStatus.BAD_REQUEST, "a chunk is malformed")
    return _bounded(int(line, 16), most)


def _bounded(length: int, most: int) -> int:
    if length > most:
        raise Malformed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long")
    return length
