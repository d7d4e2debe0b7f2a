"""Many threads that do something at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def together(functions: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """What each function returned or raised, in order. They all start when all are ready."""
    start = Barrier(len(functions))

    def run(function: Callable[[], T]) -> T | Exception:
        start.wait(timeout=30)
        try:
            return function()
        except Exception as error:  # noqa: BLE001 - the test says which errors it expects
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))
