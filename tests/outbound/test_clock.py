"""One clock: the database's, asked once in a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from outbound import clock
from outbound.clock import SECOND, Offset

pytestmark = pytest.mark.django_db

THEN = datetime(1999, 1, 1, tzinfo=UTC)
MS = SECOND // 1000
HOUR = timedelta(hours=1)


class Ticks:
    """This process's clock, moved forward at will."""

    def __init__(self) -> None:
        self._read = clock._ticks
        self.ahead = 0

    def __call__(self) -> int:
        return self._read() + self.ahead


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    moved = Ticks()
    monkeypatch.setattr(clock, "_ticks", moved)
    clock._forget()
    yield moved
    clock._forget()  # what was measured by a clock that was moved


def asked() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


@pytest.mark.both_databases
def test_aware() -> None:
    """Times are aware and in UTC."""
    for reading in (clock.now, clock.latest, clock.fresh):
        assert reading().utcoffset() == timedelta(0)


@pytest.mark.postgresql
def test_the_hosts_clock_does_not_matter() -> None:
    """A worker whose clock is wrong reads the same time as all others."""
    with time_machine.travel(THEN):
        for reading in (clock.now, clock.latest, clock.fresh):
            assert reading().year > 2020


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
        assert (clock.now(), clock.latest(), clock.fresh()) == (THEN, THEN, THEN)


@pytest.mark.both_databases
def test_virtual_time() -> None:
    """Another source is used while a block runs, also within one, and never after it."""
    with clock.use(lambda: THEN):
        assert (clock.now(), clock.latest(), clock.fresh()) == (THEN, THEN, THEN)
        with clock.use(lambda: THEN + timedelta(1)):
            assert clock.now() == THEN + timedelta(1)
        assert clock.now() == THEN
    assert clock.now() != THEN
    with pytest.raises(KeyError), clock.use(lambda: THEN):
        raise KeyError
    assert clock.now() != THEN


@pytest.mark.postgresql
def test_asked_once_in_a_while(ticks: Ticks) -> None:
    """Any number of readings within a second costs one question; a fresh one always asks."""
    with asked() as statements:
        for _ in range(50):
            clock.now()
            clock.latest()
    assert len(statements) == 1
    ticks.ahead += clock.MEASURE_EVERY
    with asked() as statements:
        clock.now()
        clock.fresh()
        clock.now()
    assert len(statements) == 2


@pytest.mark.postgresql
def test_never_ahead_and_never_behind(ticks: Ticks) -> None:
    """Between what is written and what is due lies the database's own answer, each time."""
    for _ in range(50):
        written, answer, due = clock.now(), clock.database_now(), clock.latest()
        assert written <= answer <= due


@pytest.mark.postgresql
def test_due_for_everybody(ticks: Ticks) -> None:
    """What one process has written as now is due for another, which has measured for itself, also
    when the first one's clock is as wrong as it can become until it measures again."""
    for _ in range(20):
        clock.now()
        ticks.ahead += clock.OLDEST // clock.DRIFT
        written = clock.now()
        clock._forget()
        assert clock.latest() >= written  # by a question of its own
        assert clock.latest() >= written


@pytest.mark.postgresql
def test_it_does_not_go_back(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is measured: readings that follow each other are in order, save for what
    two clocks may diverge within a second."""
    monkeypatch.setattr(clock, "MEASURE_EVERY", 0)
    readings = [clock.now() for _ in range(200)]
    assert min(later - first for first, later in pairwise(readings)) > -timedelta(milliseconds=1)


@pytest.mark.postgresql
def test_threads_share_it(ticks: Ticks) -> None:
    """Threads use what another one has measured, each after one question of its own connection."""
    clock.now()

    def count(_: int) -> int:
        try:
            with asked() as statements:
                for _ in range(20):
                    clock.now()
            return len(statements)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(count, range(4))) <= 1


@pytest.mark.postgresql
def test_a_process_that_was_stopped(ticks: Ticks) -> None:
    """A process that sleeps for an hour, frozen or with its machine, asks when it wakes up."""
    clock.now()
    ticks.ahead += 3600 * SECOND  # the database's clock has not moved: what was known is wrong
    with asked() as statements:
        assert abs(clock.now() - clock.database_now()) < HOUR / 2
    assert len(statements) == 2


@pytest.mark.postgresql
def test_a_question_that_takes_long(ticks: Ticks) -> None:
    """Nothing is kept of an answer that took so long that nobody knows when it was given."""

    def slowly(execute: Any, *arguments: Any) -> Any:
        answer = execute(*arguments)
        ticks.ahead += 2 * clock.WIDEST
        return answer

    with connection.execute_wrapper(slowly), asked() as statements:
        clock.now()
        clock.now()
    assert len(statements) == 2


@pytest.mark.postgresql
def test_trouble_comes_out(ticks: Ticks) -> None:
    """When the database does not answer the question, whoever has asked hears of it."""

    def fail(*_: Any) -> Any:
        raise OperationalError("gone")

    with connection.execute_wrapper(fail):
        with pytest.raises(OperationalError):
            clock.now()
        with pytest.raises(OperationalError):
            clock.fresh()
    assert clock.now() <= clock.fresh()


@pytest.fixture
def set_forward(transactional_db: None) -> Iterator[None]:
    """Whoever connects from now on meets a server whose clock is an hour ahead."""
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA elsewhere")
        cursor.execute(
            "CREATE FUNCTION elsewhere.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
            " $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$"
        )
        cursor.execute(f'ALTER DATABASE "{name}" SET search_path = elsewhere, pg_catalog, public')
    yield
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" RESET search_path')
        cursor.execute("DROP SCHEMA elsewhere CASCADE")
    reconnect()


def reconnect() -> None:
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's have one


@pytest.mark.postgresql
def test_another_server(ticks: Ticks, set_forward: None) -> None:
    """After a failover nothing that was known of the old server's clock is believed."""
    before = clock.now()
    reconnect()
    assert HOUR <= clock.now() - before < 2 * HOUR
    assert clock.latest() - before >= HOUR


@pytest.mark.postgresql
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_measures_for_itself() -> None:
    """Nothing is inherited by a process that was forked."""
    clock.now()
    child = os.fork()
    if child == 0:
        os._exit(0 if clock._offset is None and not clock._measured else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with asked() as statements:
        clock.now()
    assert len(statements) <= 1


@pytest.mark.parametrize(
    "before, found, expected",
    [
        pytest.param((0, 10), (4, 6), (4, 6), id="better known"),
        pytest.param((4, 6), (0, 10), (3, 7), id="known no better: what it was, and the drift"),
        pytest.param((0, 5), (3, 9), (3, 6), id="each knows one end"),
        pytest.param((0, 2), (10, 12), (10, 12), id="set forward"),
        pytest.param((10, 12), (0, 2), (0, 2), id="set back"),
    ],
)
def test_what_two_measurements_say(
    before: tuple[int, int], found: tuple[int, int], expected: tuple[int, int]
) -> None:
    """A measurement a second later, in milliseconds: where both can be true, both are."""
    first = Offset(before[0] * MS, before[1] * MS, 0)
    second = Offset(found[0] * MS, found[1] * MS, SECOND).narrowed(first)
    assert (second.least // MS, second.most // MS) == expected
