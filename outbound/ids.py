"""Time-ordered ids: random ones scatter the primary index."""

from __future__ import annotations

import os
import time
import uuid


def uuid7() -> uuid.UUID:
    """A UUID version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF000 << 64) | 0x7000 << 64
    value = value & ~(0xC000 << 48) | 0x8000 << 48
    return uuid.UUID(int=value)


def made_at(value: uuid.UUID | str) -> int:
    """When an id of ours was made, in whole seconds since 1970."""
    return (uuid.UUID(str(value)).int >> 80) // 1000
