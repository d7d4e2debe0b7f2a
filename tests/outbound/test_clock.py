"""One clock: the database's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection, transaction

from outbound import clock

pytestmark = pytest.mark.django_db

THEN = datetime(1999, 1, 1, tzinfo=UTC)


@pytest.mark.both_databases
def test_aware() -> None:
    """Times are aware and in UTC."""
    assert clock.now().utcoffset() == timedelta(0)


@pytest.mark.postgresql
def test_the_hosts_clock_does_not_matter() -> None:
    """A worker whose clock is wrong reads the same time as all others."""
    with time_machine.travel(THEN):
        assert clock.now().year > 2020


@pytest.mark.postgresql
def test_it_moves_within_a_transaction() -> None:
    """The time is that of the question, not that of the transaction's begin."""
    with transaction.atomic(), connection.cursor() as cursor:
        first = clock.now()
        cursor.execute("SELECT pg_sleep(0.01)")
        assert clock.now() > first


def test_sqlite_has_the_hosts() -> None:
    """SQLite runs in the host's processes, and has no other clock."""
    with time_machine.travel(THEN, tick=False):
        assert clock.now() == THEN


@pytest.mark.both_databases
def test_virtual_time() -> None:
    """Another source is used while a block runs, also within one, and never after it."""
    with clock.use(lambda: THEN):
        assert clock.now() == THEN
        with clock.use(lambda: THEN + timedelta(1)):
            assert clock.now() == THEN + timedelta(1)
        assert clock.now() == THEN
    assert clock.now() != THEN
    with pytest.raises(KeyError), clock.use(lambda: THEN):
        raise KeyError
    assert clock.now() != THEN
