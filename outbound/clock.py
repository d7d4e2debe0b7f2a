"""The one clock: due times, leases and deadlines are all read from the database's clock.

Workers' own clocks differ; the database is the one they share. Tests put virtual time in its
place with `use`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from django.db import connection
from django.utils import timezone


def database_now() -> datetime:
    """The database's time. SQLite runs inside the host's processes: its clock is the host's."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


_source: Callable[[], datetime] = database_now
_kept: ContextVar[list[datetime] | None] = ContextVar("kept_reading", default=None)


def now() -> datetime:
    """The current time, aware, in UTC."""
    kept = _kept.get()
    if kept is None:
        return _source()
    if not kept:
        kept.append(_source())
    return kept[0]


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
