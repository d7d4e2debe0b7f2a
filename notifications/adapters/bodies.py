"""Bodies of requests: forms and JSON, the same bytes for the same key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

File = tuple[str, tuple[str, bytes, str]]  # field, and name, content and type


def encoded(document: Any) -> bytes:
    """JSON in UTF-8: other scripts take three times the room when escaped."""
    return json.dumps(document, ensure_ascii=False).encode()


def encode_form(
    fields: Mapping[str, Any], files: Iterable[File], *, seed: str
) -> tuple[str, bytes]:
    """The content type and the body; multipart only where there are files."""
    pairs = list(_pairs(fields))
    files = list(files)
    if not files:
        return "application/x-www-form-urlencoded", urlencode(pairs).encode()
    boundary = hashlib.sha256(seed.encode()).hexdigest()[:32]
    chunks = [
        *(_part(boundary, f'name="{_quoted(name)}"', value.encode()) for name, value in pairs),
        *(_file(boundary, *file) for file in files),
        f"--{boundary}--\r\n".encode(),
    ]
    return f"multipart/form-data; boundary={boundary}", b"".join(chunks)


def _pairs(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            yield name, str(each)


def _file(boundary: str, field: str, file: tuple[str, bytes, str]) -> bytes:
    name, content, content_type = file
    about = f'name="{_quoted(field)}"; filename="{_quoted(name)}"\r\nContent-Type: {content_type}'
    return _part(boundary, about, content)


def _part(boundary: str, about: str, content: bytes) -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; {about}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def _quoted(text: str) -> str:
    """https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data"""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
