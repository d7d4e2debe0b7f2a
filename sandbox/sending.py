"""How an answer leaves: whole, in drips, cut short, or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from sandbox.wire import Answer

Part = Literal["headers", "body"]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds: closing sends RST
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Manner:
    """What happens to an answer on its way out."""

    drip: Part | None = None  # this part goes byte by byte
    seconds: float = 0.0  # between two bytes of a drip
    cut: Part | None = None  # the connection ends in the middle of this part
    reset: bool = False  # it ends by RST rather than FIN


WHOLE = Manner()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and its manner. Without an answer the connection just ends, after `hang` seconds
    (None: when the peer gives up)."""

    answer: Answer | None
    manner: Manner = field(default=WHOLE)
    hang: float | None = 0.0


async def send(
    writer: asyncio.StreamWriter, answer: Answer, manner: Manner, *, keep_alive: bool, body: bool
) -> bool:
    """Whether all of it went out. `body` is False in answer to HEAD."""
    head = answer.head(keep_alive=keep_alive)
    content = answer.body if body else b""
    if manner.cut == "headers":
        head, content = head[: len(head) // 2], b""
    elif manner.cut == "body":
        content = content[: len(content) // 2]
    if manner.drip is None and len(content) <= PIECE:
        writer.write(head + content)
        await writer.drain()
        return manner.cut is None
    await _write(writer, head, manner.seconds if manner.drip == "headers" else None)
    await _write(writer, content, manner.seconds if manner.drip == "body" else None)
    return manner.cut is None


async def _write(writer: asyncio.StreamWriter, octets: bytes, drip: float | None) -> None:
    step = PIECE if drip is None else 1
    for start in range(0, len(octets), step):
        writer.write(octets[start : start + step])
        await writer.drain()
        if drip:
            await asyncio.sleep(drip)


async def wait_for_the_end(reader: asyncio.StreamReader, seconds: float | None) -> None:
    """Until the peer hangs up, `seconds` at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await reader.read(PIECE):
                pass


def end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Close the connection, in the rude way if asked to."""
    if reset:
        connection = writer.get_extra_info("socket")
        with suppress(OSError):  # the peer was ruder
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    else:
        writer.close()
