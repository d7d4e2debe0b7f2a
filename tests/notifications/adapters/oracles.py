"""What django-anymail's own backends send, for the same messages written by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.mime.image import MIMEImage
from typing import Any
from urllib.parse import parse_qsl

import responses
from anymail.message import AnymailMessage

from tests.notifications.adapters import letters

HEADERS = ("authorization", "x-postmark-server-token")


def anymail_letter(**changes: Any) -> AnymailMessage:
    """`letters.letter()` as one would write it for anymail."""
    fields: dict[str, Any] = {
        "subject": letters.SUBJECT,
        "body": letters.TEXT,
        "from_email": '"Köhler & Söhne, Inc." <shop@example.com>',
        "to": ['"Jo \\"Süß\\" <Doe>" <jo@example.org>', "plain@example.org"],
        "cc": ["Books <books@example.org>"],
        "bcc": ["audit@example.org"],
        "reply_to": ["Hilfe für Sie <help@example.com>", "desk@example.com"],
        "headers": {"X-Order": "6735", "List-Unsubscribe": "<https://example.com/u?x=1&y=2>"},
        "tags": ["receipt"],
        **changes,
    }
    message = AnymailMessage(**fields)
    message.attach_alternative(letters.HTML, "text/html")
    message.attach("Beleg für Jo.pdf", letters.PDF, "application/pdf")
    message.attach("list.csv", letters.CSV, "text/csv")
    image = MIMEImage(letters.PNG, "png")
    image.add_header("Content-Disposition", "inline", filename="logo.png")
    image.add_header("Content-ID", "<logo@shop>")
    message.attach(image)
    return message


@dataclass(frozen=True)
class Wire:
    """A request as it stood on the wire, as far as it matters."""

    path: str
    headers: dict[str, str]
    content: Any

    @classmethod
    def read(cls, path: str, headers: dict[str, Any], body: bytes) -> Wire:
        lowered = {name.lower(): _text(value) for name, value in headers.items()}
        own = {name: lowered[name] for name in HEADERS if name in lowered}
        kind = lowered["content-type"]
        if kind.startswith("application/json"):
            return cls(path, own, json.loads(body))
        return cls(path, own, sorted(form_of(kind, body), key=repr))


def form_of(content_type: str, body: bytes) -> list[tuple[Any, ...]]:
    """The pairs of a form. Files: field, name, type and bytes."""
    if content_type.startswith("application/x-www-form-urlencoded"):
        return list(parse_qsl(body.decode(), keep_blank_values=True))
    assert content_type.startswith("multipart/form-data")
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    parts: list[tuple[Any, ...]] = []
    for chunk in body.split(boundary)[1:-1]:
        head, _, content = chunk.partition(b"\r\n\r\n")
        lines = head.decode().strip().split("\r\n")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        assert content.endswith(b"\r\n")
        content = content[:-2]
        name = fields["content-disposition"].partition('name="')[2].partition('"')[0]
        if "filename=" in fields["content-disposition"]:
            file = fields["content-disposition"].partition('filename="')[2].partition('"')[0]
            parts.append((name, file, fields["content-type"], content))
        else:
            parts.append((name, content.decode()))
    return parts


def sent_by_anymail(backend: Any, url: str, answer: Any, message: AnymailMessage) -> Wire:
    """The request by which anymail's backend sends a message."""
    with responses.RequestsMock() as provider:
        provider.post(url, json=answer)
        assert backend.send_messages([message]) == 1
        request = provider.calls[0].request
    body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
    return Wire.read(str(request.path_url), dict(request.headers), body)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
