"""Functions that are called at their time, all by one thread: most are called off long before, and
a thread for each would cost more than what it watches.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

import structlog

logger = structlog.get_logger(__name__)

Ring = Callable[[], object]


class Alarm:
    """One that is set."""

    def __init__(self, ring: Ring) -> None:
        self.ring: Ring | None = ring

    def cancel(self) -> None:
        """Not to ring any more; it may be ringing now."""
        self.ring = None


class Alarms:
    """What is set, and the daemon thread that waits for the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._set: list[tuple[float, int, Alarm]] = []  # a heap
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def set(self, at: float, ring: Ring) -> Alarm:
        """Call `ring` at a time, in monotonic seconds. It has to be quick: others wait for it."""
        alarm = Alarm(ring)
        with self._changed:
            heapq.heappush(self._set, (at, next(self._numbers), alarm))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
                self._thread.start()
            elif self._set[0][2] is alarm:  # else the thread wakes up early enough
                self._changed.notify()
        return alarm

    def _run(self) -> None:
        while True:
            ring = self._next()
            try:
                ring()
            except Exception:
                logger.exception("alarm_failed")

    def _next(self) -> Ring:
        """What is to be called now; waits for it."""
        with self._changed:
            while True:
                while self._set and self._set[0][2].ring is None:
                    heapq.heappop(self._set)
                left = self._set[0][0] - time.monotonic() if self._set else None
                if left is not None and left <= 0:
                    ring = heapq.heappop(self._set)[2].ring
                    if ring is not None:
                        return ring
                    continue
                self._changed.wait(left)


_alarms = Alarms()


def set_alarm(at: float, ring: Ring) -> Alarm:
    """See Alarms.set."""
    return _alarms.set(at, ring)


def _forget() -> None:
    """In a new process: the thread and what it waits for are the other's."""
    global _alarms
    _alarms = Alarms()


os.register_at_fork(after_in_child=_forget)
