"""The one clock: due times, leases and deadlines are all read from the database's clock.

Workers' own clocks differ; the database is the one they share. It is not asked for every reading:
this process measures how far its own monotonic clock is from it, once a second, and adds that up.
Three readings, for three sorts of questions (docs/decisions/0002-one-clock.md has the argument):

- `now()` is hardly behind the database's clock, and not ahead of it by more than two clocks diverge
  in a second. What is written down, and whether a lease or a limit has ended.
- `latest()` is never behind it. Whether a row is due: what anybody has written as `now()` is due.
- `fresh()` asks. When a lease or a permit ends, for that has to hold against everybody.

SQLite runs inside the host's processes: its clock is the host's, and all three are the same. Tests
put virtual time in its place with `use`.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.utils import timezone

SECOND = 1_000_000_000  # all sums are of whole nanoseconds
MEASURE_EVERY = SECOND
OLDEST = 3 * SECOND  # an offset that nobody managed to measure anew is used no longer than this
WIDEST = SECOND // 20  # an offset known less well is used by nobody
DRIFT = 1000  # two clocks that are being corrected diverge by at most 1 s in so many
LEEWAY = SECOND // 100  # above the drift, within OLDEST, of who has written and of who reads

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Linux's CLOCK_MONOTONIC stands still while the machine is suspended; the database's does not.
TICKING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Offset:
    """How far the database's clock is ahead of this process's: from `least` to `most`."""

    least: int
    most: int
    measured_at: int  # by this process's clock

    def narrowed(self, before: Offset) -> Offset:
        """With what was known before. Where the two contradict each other, it is another clock
        now, or it was set."""
        drift = abs(self.measured_at - before.measured_at) // DRIFT
        least = max(self.least, before.least - drift)
        most = min(self.most, before.most + drift)
        return Offset(least, most, self.measured_at) if least <= most else self


_offset: Offset | None = None
_asked_at = 0
_measured: weakref.WeakSet[object] = weakref.WeakSet()
"""The database connections through which it was measured: another one may lead elsewhere."""


def database_now() -> datetime:
    """The database's time, asked for."""
    if connection.vendor == "sqlite":
        return timezone.now()
    before = _ticks()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    _remember(moment, before=before, after=_ticks())
    return moment


_source: Callable[[], datetime] = database_now
_kept: ContextVar[list[datetime] | None] = ContextVar("kept_reading", default=None)


def now() -> datetime:
    """The current time, aware, in UTC."""
    kept = _kept.get()
    if kept is None:
        return _now()
    if not kept:
        kept.append(_now())
    return kept[0]


def latest() -> datetime:
    """The current time, or a moment later: nobody has read a `now()` that is ahead of it."""
    if _costs_nothing():
        return _source()
    ticks = _ticks()
    offset = _known_offset(ticks)
    if offset is None:
        return _source() + timedelta(microseconds=LEEWAY // 1000)
    return _moment(ticks + offset.most + LEEWAY)


def fresh() -> datetime:
    """The current time, asked for at this moment."""
    return _source()


def _now() -> datetime:
    if _costs_nothing():
        return _source()
    ticks = _ticks()
    offset = _known_offset(ticks)
    return _source() if offset is None else _moment(ticks + offset.least)


def _costs_nothing() -> bool:
    """Virtual time, and the host's."""
    return _source is not database_now or connection.vendor == "sqlite"


def _known_offset(ticks: int) -> Offset | None:
    """What was measured lately; None: ask."""
    global _asked_at
    connection.ensure_connection()
    offset = _offset
    if offset is None or ticks - offset.measured_at > OLDEST:
        return None
    if connection.connection not in _measured:
        return None
    if ticks - _asked_at > MEASURE_EVERY:
        _asked_at = ticks  # first: other threads go on with what is known meanwhile
        return None
    return offset


def _remember(moment: datetime, *, before: int, after: int) -> None:
    """It was `moment` at the database some time between `before` and `after`. Threads that do this
    at the same time overwrite each other, which costs a little accuracy."""
    global _offset, _asked_at
    told = (moment - EPOCH) // timedelta(microseconds=1) * 1000
    offset = Offset(told - after, told + 1000 - before, after)
    known, _asked_at = _offset, after
    if known is not None:
        offset = offset.narrowed(known)
    _offset = offset if offset.most - offset.least <= WIDEST else None
    _measured.add(connection.connection)


def _forget() -> None:
    """In a new process: it has connections of its own."""
    global _offset
    _offset = None
    _measured.clear()


os.register_at_fork(after_in_child=_forget)


def _ticks() -> int:
    return time.clock_gettime_ns(TICKING)


def _moment(nanoseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


@contextmanager
def one_reading() -> Iterator[None]:
    """Read the time at most once while the block runs: for steps that are one moment. Blocks may
    be nested."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set([])
    try:
        yield
    finally:
        _kept.reset(token)


@contextmanager
def use(source: Callable[[], datetime]) -> Iterator[None]:
    """Read the time from `source` while the block runs (tests)."""
    global _source
    previous, _source = _source, source
    try:
        yield
    finally:
        _source = previous
