"""The same thing done by many threads at once, each with its own database connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def at_once(count: int, act: Callable[[], T]) -> list[T | Exception]:
    """What each of `count` threads returned or raised; they start together."""
    together = threading.Barrier(count)

    def run() -> T | Exception:
        try:
            together.wait(30)
            return act()
        except Exception as error:  # noqa: BLE001 - handed to the test
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(run) for _ in range(count)]
        return [future.result() for future in futures]
