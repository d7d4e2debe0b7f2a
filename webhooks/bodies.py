"""Reading a request's body: the exact bytes, and never more of them than the cap."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from webhooks.errors import BodyTooLarge, UnreadableBody

CHUNK_BYTES = 64 * 1024
MAX_DIGITS = 20  # of a length: more are too large in any case, and int() minds thousands


def read_body(request: HttpRequest, *, limit: int) -> bytes:
    """The body, of any content type. A declared length over `limit` bytes is refused unread; a
    body without a declared length (chunked) is read up to the limit.

    Raises BodyTooLarge, UnreadableBody.
    """
    declared = _declared_length(request)
    if declared is not None and declared > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    body, stream = bytearray(), _stream(request, declared)
    try:
        while len(body) <= limit and (chunk := stream.read(_room(body, limit))):
            body += chunk
    except Exception as error:  # each server has its own for a connection that broke
        raise UnreadableBody("the body could not be read") from error
    if len(body) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    if declared is not None and len(body) < declared:
        raise UnreadableBody("the body ended early")
    return bytes(body)


def _declared_length(request: HttpRequest) -> int | None:
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UnreadableBody("the length of the body is no number")
    return int(text[:MAX_DIGITS])


def _stream(request: HttpRequest, declared: int | None) -> Any:
    """Django reads as many bytes as were declared, so none of a chunked body; the server's own
    stream ends by itself where it says so."""
    if declared is None and request.META.get("wsgi.input_terminated"):
        return request.META["wsgi.input"]
    return request


def _room(body: bytearray, limit: int) -> int:
    return min(CHUNK_BYTES, limit + 1 - len(body))
