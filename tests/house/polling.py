"""Waiting for something that can be seen, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(seen: Callable[[], object], *, seconds: float = 20.0, what: str = "") -> None:
    """Return as soon as `seen` is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or seen}")
        time.sleep(0.02)
