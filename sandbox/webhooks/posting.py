"""One POST to the webhook URL."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from sandbox.fields import BadInput

MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where to."""

    host: str
    port: int
    tls: bool
    authority: str
    path: str


def read_url(url: str) -> Target:
    """Raises BadInput when it is no http or https URL."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise BadInput(f"the webhook URL {url!r} has no valid port") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise BadInput(f"the webhook URL {url!r} must be http(s)://host[:port]/path")
    if not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url):
        raise BadInput(f"the webhook URL {url!r} must be percent-encoded")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    tls = parts.scheme == "https"
    return Target(parts.hostname, port or (443 if tls else 80), tls, parts.netloc, path)


async def post(
    target: Target, *, headers: Mapping[str, str], body: bytes, patience: float
) -> tuple[int | None, str]:
    """The status of the answer, or None and why there was none. Redirects are not followed.
    `patience` is in seconds, for everything together."""
    try:
        async with asyncio.timeout(patience):
            return await _post(target, headers, body), ""
    except TimeoutError:
        return None, f"no answer within {patience:g} s"
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        return None, f"{type(error).__name__}: {error}"


async def _post(target: Target, headers: Mapping[str, str], body: bytes) -> int:
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=_trust() if target.tls else None
    )
    with closing(writer):
        lines = [
            f"POST {target.path} HTTP/1.1",
            f"Host: {target.authority}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = _read_status(head)
        await _read_rest(reader, head)
        return status


def _read_status(head: str) -> int:
    version, _, rest = head.partition(" ")
    if not version.startswith("HTTP/") or not rest[:3].isdigit():
        raise ValueError("the answer is no HTTP")
    return int(rest[:3])


async def _read_rest(reader: asyncio.StreamReader, head: str) -> None:
    """Closing before the peer has said everything would look to it like an error."""
    left = MAX_ANSWER_BYTES
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and value.strip().isdigit():
            left = min(left, int(value))
    while left > 0 and (octets := await reader.read(left)):
        left -= len(octets)


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
