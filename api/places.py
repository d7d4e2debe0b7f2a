"""How many requests of this process may wait for a provider at a time, so that a slow one leaves
threads for all others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings
from django.core.signals import setting_changed


@contextmanager
def place(*, wanted: bool = True) -> Iterator[bool]:
    """Hold one of the API_INLINE_CALLS places while the block runs. Yields whether there was
    one; nobody waits for a place."""
    places = _places()
    got = wanted and places.acquire(blocking=False)
    try:
        yield got
    finally:
        if got:
            places.release()


@cache
def _places() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(settings.API_INLINE_CALLS)


def _forget(*, setting: str, **_: object) -> None:
    if setting == "API_INLINE_CALLS":
        _places.cache_clear()


setting_changed.connect(_forget)
