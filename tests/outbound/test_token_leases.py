"""Tokens taken a few at a time: fewer writes, and still never more than the limit."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outbound import token_leases
from outbound.models import RateBucket
from outbound.token_leases import GOOD_FOR, TokenLeases
from tests.outbound.conftest import VirtualTime
from tests.outbound.threads import at_once

RATE, BURST = 160.0, 700  # 10 at once

_names = (f"bucket-{number}" for number in itertools.count(1))


class Process:
    """One of several that take tokens of the same bucket."""

    def __init__(self, name: str, *, rate: float = RATE, burst: int = BURST) -> None:
        self._leases = TokenLeases()
        self._name, self._rate, self._burst = name, rate, burst

    def take(self) -> float:
        return self._leases.take(self._name, rate=self._rate, burst=self._burst)


def writes_of(process: Process, takes: int) -> int:
    with CaptureQueriesContext(connection) as statements:
        assert [process.take() for _ in range(takes)] == [0] * takes
    return sum(statement["sql"].startswith("UPDATE") for statement in statements)


@pytest.mark.both_databases
@pytest.mark.django_db
def test_one_write_for_several(time: VirtualTime) -> None:
    """What is held is used up, for as long as it is good, and then there are more."""
    process = Process(next(_names))
    process.take()  # makes the bucket
    assert writes_of(process, 10) == 1
    assert writes_of(process, 5) == 1
    time.now += GOOD_FOR - timedelta(microseconds=1)
    assert writes_of(process, 1) == 0
    time.now += timedelta(microseconds=1)
    assert writes_of(process, 1) == 1


@pytest.mark.parametrize("rate, burst", [(10.0, 60), (31.0, 300), (160.0, 640)])
@pytest.mark.django_db
def test_one_by_one(rate: float, burst: int, time: VirtualTime) -> None:
    """Where the rate is low, or the bucket small, nothing is held: a burst is exactly so many."""
    one, other = (Process(f"b{rate}", rate=rate, burst=burst) for _ in range(2))
    waits = [process.take() for process in [one, other] * (burst // 2)] + [one.take()]
    assert waits == [0] * burst + [pytest.approx(1 / rate, abs=0.001)]


@pytest.mark.both_databases
@pytest.mark.django_db
def test_scarce_tokens_are_not_lost(time: VirtualTime) -> None:
    """From the half of it on, what is taken is used: the wait that is told is exact."""
    name = next(_names)
    one, other = Process(name), Process(name)
    waits = [process.take() for _ in range(BURST // 2) for process in (one, other)]
    first = next(place for place, wait in enumerate(waits) if wait > 0)
    assert 0 <= BURST - first <= RATE * token_leases.MARGIN_SECONDS + 20
    assert waits[first] == pytest.approx(1 / RATE, abs=0.001)
    time.passes(seconds=waits[first])
    assert (one.take(), other.take() > 0) == (0, True)


@pytest.mark.both_databases
@pytest.mark.django_db
def test_what_is_held_counts(time: VirtualTime) -> None:
    """Tokens that several hold while the bucket fills up again are not on top of a full one."""
    name = next(_names)
    processes = [Process(name) for _ in range(8)]
    for process in [*processes, processes[0]]:  # the first take makes the bucket
        process.take()
    time.now += GOOD_FOR - timedelta(microseconds=1)
    waits = [process.take() for _ in range(BURST // 4) for process in processes]
    assert 0 <= BURST - waits.count(0) <= RATE * token_leases.MARGIN_SECONDS


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(
    rate=st.floats(32, 50),
    burst=st.integers(140, 300),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 0.01, 0.3, 0.99, 1, 2, 5]),
            st.integers(0, 3),
            st.integers(1, 90),
        ),
        max_size=12,
    ),
)
def test_never_more(
    rate: float, burst: int, steps: list[tuple[float, int, int]], time: VirtualTime
) -> None:
    """Whoever takes them, and whenever: a bucket that is counted at the moment of use never runs
    below empty."""
    name = next(_names)
    processes = [Process(name, rate=rate, burst=burst) for _ in range(4)]
    level, then = float(burst), time.now
    for pause, which, wanted in steps:
        time.passes(seconds=pause)
        level = min(burst, level + rate * (time.now - then).total_seconds())
        then = time.now
        level -= sum(processes[which].take() == 0 for _ in range(wanted))
        assert level >= -0.001


@pytest.mark.django_db(transaction=True)
def test_threads_share_what_is_held() -> None:
    """No token is used twice, and none of another rate's."""
    name = next(_names)
    process = Process(name)
    process.take()
    before = RateBucket.objects.get(name=name).full_at

    def ask() -> int:
        return sum(process.take() == 0 for _ in range(25))

    assert at_once(8, ask) == [25] * 8
    after = RateBucket.objects.get(name=name).full_at
    assert after - before >= 200 / RATE
