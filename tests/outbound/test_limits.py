"""Calls per second, and retries per window: never more than allowed, whoever asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import islice
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outbound import clock, limits, parking
from outbound.ids import uuid7
from outbound.limits import (
    Limits,
    bucket_name,
    build_limits,
    bulkhead_name,
    recent_first_attempts,
    retries_name,
    return_token,
    take_retry,
    take_token,
    take_turn,
    turns_ahead,
)
from outbound.models import CallAttempt, Circuit, OutboundCall, Permit, RateBucket
from outbound.permits import held
from outbound.states import AttemptTrigger
from tests.emptying import rolled_back
from tests.outbound.conftest import VirtualTime
from tests.outbound.threads import at_once

virtual = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
MICROSECOND = 0.000001


class Statements:
    """What was executed while it was on."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "SAVEPOINT" not in sql:
            self.all.append(sql)
        return execute(sql, params, many, context)

    @property
    def writes(self) -> list[str]:
        return [sql for sql in self.all if sql.startswith(("INSERT", "UPDATE", "DELETE"))]


@pytest.fixture
def statements() -> Callable[[Callable[[], object]], Statements]:
    """What a piece of work executes."""

    def executed(work: Callable[[], object]) -> Statements:
        seen = Statements()
        with connection.execute_wrapper(seen):
            work()
        return seen

    return executed


class TestSettings:
    def test_defaults(self) -> None:
        """Nothing is limited but retries."""
        assert build_limits({}) == Limits()
        assert (Limits().rate, Limits().concurrency) == (None, None)

    @pytest.mark.parametrize("rate, burst", [(0.01, 1), (1, 1), (2.5, 3), (100, 100)])
    def test_a_burst_is_one_seconds_calls(self, rate: float, burst: int) -> None:
        """Where it is not set; it is at least one."""
        assert build_limits({"rate": rate}).burst == burst
        assert build_limits({"rate": rate, "burst": 7}).burst == 7

    @pytest.mark.parametrize(
        "key, value",
        [
            ("rate", 0),
            ("rate", -1),
            ("rate", 1 / 86_401),
            ("rate", 1_000_001),
            ("rate", math.inf),
            ("rate", math.nan),
            ("rate", "5"),
            ("rate", True),
            ("burst", 0),
            ("burst", 1.5),
            ("burst", None),
            ("concurrency", 0),
            ("concurrency", 1_001),
            ("concurrency", 2.0),
            ("retry_ratio", -0.1),
            ("retry_ratio", math.nan),
            ("retry_ratio", None),
            ("retry_window", 0),
            ("retry_window", math.inf),
            ("retry_floor", 0),
            ("retry_floor", [10]),
        ],
    )
    def test_out_of_range(self, key: str, value: object) -> None:
        """The message names the key."""
        with pytest.raises(ImproperlyConfigured, match=f"'{key}' must be"):
            build_limits({key: value})
        with pytest.raises(ImproperlyConfigured, match=f"'{key}' must be"):
            Limits(**{key: value})  # type: ignore[arg-type]

    @pytest.mark.parametrize("entry", [{"rates": 5}, {"rate": 5, 3: 4}])
    def test_unknown_key(self, entry: dict[Any, Any]) -> None:
        """A typo is no limit."""
        with pytest.raises(ImproperlyConfigured, match=r"unknown limit '(rates|3)'"):
            build_limits(entry)

    @pytest.mark.parametrize("entry", [None, 5, ["rate"], "rate"])
    def test_no_dict(self, entry: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match="limits must be a dict"):
            build_limits(entry)

    def test_names(self) -> None:
        """Each kind has its own, and they fit their columns with the longest names there are."""
        longest = {"adapter": "a" * 50, "account": "b" * 100}
        names = [bulkhead_name(**longest), bucket_name(**longest), retries_name("a" * 50)]
        assert len(set(names)) == 3
        assert max(map(len, names)) <= 200
        assert bulkhead_name("acme") == "bulkhead:acme"
        assert bucket_name("acme", "eu") == "rate:acme:eu"


def numbers(outcomes: Sequence[float | Exception]) -> list[float]:
    """What threads returned; what one raised is raised."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]


class Rate:
    """A bucket with its settings, as the tests use it."""

    def __init__(self, rate: float, burst: int, name: str = "bucket") -> None:
        self.rate, self.burst, self.name = rate, burst, name

    def take(self) -> float:
        return take_token(self.name, rate=self.rate, burst=self.burst)

    def take_all(self, most: int = 1000) -> int:
        """Until there is none."""
        return next(taken for taken in range(most) if self.take() > 0)


def within_bounds(taken: list[datetime], *, rate: float, burst: int) -> bool:
    """Whether any `t` seconds saw no more than `burst + rate * t`, to the microsecond."""
    moments = [(moment - taken[0]) // timedelta(microseconds=1) for moment in taken]
    return all(
        last - first + 1 <= burst + Fraction(rate) * (then - since + 1) / 1_000_000
        for first, since in enumerate(moments)
        for last, then in enumerate(moments[first:], start=first)
    )


RATES = st.floats(1 / 3600, 100_000)
BURSTS = st.integers(1, 20)
PAUSES = st.lists(st.floats(0, 4), max_size=30)


@pytest.mark.both_databases
@pytest.mark.django_db
class TestTokens:
    def test_a_burst_and_then_a_rate(self, time: VirtualTime) -> None:
        """After a quiet time as many as the burst; then one after another."""
        bucket = Rate(rate=4, burst=3)
        assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.25]
        time.passes(seconds=0.25)
        assert [bucket.take() for _ in range(2)] == [0, 0.25]
        time.passes(seconds=0.6)
        assert [bucket.take() for _ in range(3)] == [0, 0, 0.15]
        time.passes(hours=1)
        assert bucket.take_all() == 3

    def test_names(self, time: VirtualTime) -> None:
        """Tokens of one bucket are no tokens of another."""
        one, other = Rate(1, 1, "one"), Rate(1, 1, "other")
        assert (one.take(), other.take()) == (0, 0)
        assert one.take() > 0

    @virtual
    @given(
        interval=st.sampled_from([Fraction(1, 64), Fraction(1, 4), Fraction(1), Fraction(3)]),
        burst=BURSTS,
        steps=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 5)), max_size=20),
    )
    @rolled_back()
    def test_as_a_bucket(
        self, interval: Fraction, burst: int, steps: list[tuple[int, int]], time: VirtualTime
    ) -> None:
        """It does what a bucket does that is counted in fractions: the same tokens, the same
        waits. Times are multiples of 1/64 s, which both count exactly."""
        bucket, tokens = Rate(float(1 / interval), burst), Fraction(burst)
        for pause, wanted in steps:
            time.passes(seconds=pause / 64)
            tokens = min(tokens + Fraction(pause, 64) / interval, Fraction(burst))
            for _ in range(wanted):
                wait = bucket.take()
                if tokens >= 1:
                    tokens -= 1
                    assert wait == 0
                else:
                    exact = (1 - tokens) * interval
                    assert 0 <= Fraction(wait) - exact < Fraction(1, 1_000_000)

    @virtual
    @given(rate=RATES, burst=BURSTS, pauses=PAUSES)
    @rolled_back()
    def test_never_more(
        self, rate: float, burst: int, pauses: list[float], time: VirtualTime
    ) -> None:
        """Whatever the rate, and whenever somebody asks."""
        bucket, taken = Rate(rate, burst), []
        for pause in pauses:
            time.passes(seconds=pause / rate)
            taken += [time.now for _ in range(3) if bucket.take() == 0]
        assert within_bounds(taken, rate=rate, burst=burst)

    @virtual
    @given(rate=RATES, burst=BURSTS, pauses=PAUSES, offset=st.floats(0, 1))
    @rolled_back()
    def test_waits_are_exact(
        self, rate: float, burst: int, pauses: list[float], offset: float, time: VirtualTime
    ) -> None:
        """After exactly the wait there is a token; a microsecond earlier there is none."""
        time.passes(seconds=offset)
        bucket = Rate(rate, burst)
        for pause in pauses:
            time.passes(seconds=pause / rate)
            wait = bucket.take()
            while wait == 0:
                wait = bucket.take()
            time.passes(seconds=wait - MICROSECOND)
            left = bucket.take()
            if wait > MICROSECOND:
                assert left == pytest.approx(MICROSECOND)
            time.passes(seconds=MICROSECOND)
            assert bucket.take() == 0

    def test_no_rounding_adds_up(self, time: VirtualTime) -> None:
        """Also after years of tokens the rate is the one that was asked for."""
        bucket = Rate(rate=3, burst=2)
        time.passes(hours=24 * 365 * 60)
        start = time.now
        assert bucket.take_all() == 2
        for _ in range(300):
            time.passes(seconds=bucket.take())
            assert bucket.take() == 0
        assert (time.now - start).total_seconds() == pytest.approx(100, abs=0.001)

    def test_a_changed_limit(self, time: VirtualTime) -> None:
        """What was owed at a much slower rate is forgiven, but for one token."""
        slow = Rate(rate=1 / 3600, burst=24)
        assert slow.take_all() == 24
        slow.rate, slow.burst = 10, 1
        assert slow.take() == pytest.approx(0.1, abs=0.001)
        time.passes(seconds=0.11)
        assert slow.take_all() == 1

    def test_a_clock_that_goes_back(self, time: VirtualTime) -> None:
        """The bucket is empty then, and not unusable for as long as the clock went back."""
        bucket = Rate(rate=1, burst=5)
        assert bucket.take_all() == 5
        time.passes(hours=-5)
        assert bucket.take() == 1
        time.passes(seconds=1)
        assert bucket.take_all() == 1

    def test_a_clock_that_lags(self, time: VirtualTime) -> None:
        """One whose reading of the clock is a little old gets nothing extra."""
        bucket = Rate(rate=10, burst=2)
        time.passes(seconds=5)
        assert bucket.take_all() == 2
        time.passes(seconds=-5)
        assert bucket.take() == pytest.approx(5.1, abs=0.001)
        time.passes(seconds=5)
        assert bucket.take() == pytest.approx(0.1, abs=0.001)

    def test_statements(self, statements: Any, time: VirtualTime) -> None:
        """One takes a token; where there is none it changes nothing, and another tells why."""
        bucket = Rate(rate=1, burst=2)
        bucket.take()
        took = statements(bucket.take)
        assert (len(took.all), len(took.writes)) == (1, 1)
        refused = statements(bucket.take)
        assert (len(refused.all), len(refused.writes)) == (2, 1)
        assert RateBucket.objects.get(pk=bucket.name).full_at == time.now.timestamp() + 2


@pytest.mark.both_databases
@pytest.mark.django_db
class TestTokensGivenBack:
    def test_at_once(self, time: VirtualTime) -> None:
        """As if it had never been taken."""
        bucket = Rate(rate=1, burst=2)
        assert bucket.take_all() == 2
        return_token(bucket.name, rate=1)
        assert bucket.take_all() == 1

    def test_never_more_than_fit(self, time: VirtualTime) -> None:
        """A full bucket does not overflow."""
        bucket = Rate(rate=1, burst=2)
        for _ in range(5):
            return_token(bucket.name, rate=1)
        assert bucket.take_all() == 2

    def test_too_late(self, time: VirtualTime) -> None:
        """In its place another one has grown meanwhile, and may have been taken."""
        bucket = Rate(rate=1, burst=1)
        assert bucket.take() == 0
        time.passes(seconds=1)
        assert bucket.take() == 0
        return_token(bucket.name, rate=1, held=1)
        assert bucket.take() == 1

    @virtual
    @given(
        rate=st.floats(0.01, 1000),
        burst=st.integers(1, 5),
        steps=st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(0, 9)), max_size=30),
    )
    @rolled_back()
    def test_never_more(
        self, rate: float, burst: int, steps: list[tuple[float, bool, int]], time: VirtualTime
    ) -> None:
        """Of the calls that were made, whatever was given back in between, and when."""
        bucket, taken = Rate(rate, burst), []
        for pause, take, number in steps:
            time.passes(seconds=pause / rate)
            if take:
                taken += [time.now for _ in range(burst) if bucket.take() == 0]
            elif taken:
                since = taken.pop(number % len(taken))
                return_token(bucket.name, rate=rate, held=(time.now - since).total_seconds())
        assert within_bounds(taken or [time.now], rate=rate, burst=burst)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
class TestRacesForTokens:
    @pytest.mark.parametrize("known", [False, True])
    def test_a_crowd(self, known: bool) -> None:
        """Of fifty at once the burst gets through, also where the bucket is new."""
        if known:
            RateBucket.objects.create(name="bucket", full_at=0.0)
        waits = numbers(at_once(50, lambda: take_token("bucket", rate=1 / 3600, burst=7)))
        assert waits.count(0) == 7
        # who has read the clock before the first taker did hears of a token a moment away
        late = [wait for wait in waits if wait > 1]
        assert late
        assert late == pytest.approx([3600] * len(late), abs=60)

    def test_asking_all_the_time(self) -> None:
        """Threads that ask again and again get what the rate allows, on the database's clock."""
        start = clock.now()

        def ask() -> int:
            return sum(take_token("bucket", rate=20, burst=3) == 0 for _ in range(25))

        taken = sum(numbers(at_once(8, ask)))
        assert 3 <= taken <= 3 + 20 * (clock.now() - start).total_seconds()

    def test_turns(self) -> None:
        """No two get the same turn."""
        turns = numbers(at_once(16, lambda: take_turn("turns", rate=1 / 3600)))
        assert sorted(round(turn / 3600) for turn in turns) == list(range(1, 17))
        assert turns_ahead("turns") == pytest.approx(16 * 3600, abs=60)


@pytest.mark.both_databases
@pytest.mark.django_db
class TestTurns:
    def test_one_after_another(self, time: VirtualTime) -> None:
        """Each a little later than the one before, and the first as late as any token may be."""
        assert turns_ahead("turns") == 0
        assert [take_turn("turns", rate=2) for _ in range(3)] == [0.5, 1, 1.5]
        assert turns_ahead("turns") == 1.5
        time.passes(seconds=1.25)
        assert turns_ahead("turns") == 0.25
        assert take_turn("turns", rate=2) == 0.75

    def test_when_all_are_over(self, time: VirtualTime) -> None:
        take_turn("turns", rate=2)
        time.passes(hours=1)
        assert turns_ahead("turns") == 0
        assert take_turn("turns", rate=2) == 0.5

    @virtual
    @given(rate=RATES, burst=BURSTS, pause=st.floats(0, 5))
    @rolled_back()
    def test_there_is_a_token(
        self, rate: float, burst: int, pause: float, time: VirtualTime
    ) -> None:
        """For each who comes when it is his turn; he may be a microsecond late, and then so may
        be the token after him."""
        bucket = Rate(rate, burst)
        time.passes(seconds=pause)
        assert bucket.take_all() == burst
        start, turns = time.now, [take_turn("turns", rate=rate) for _ in range(5)]
        for late, turn in enumerate(turns):
            time.now = start + timedelta(seconds=turn, microseconds=late)
            assert bucket.take() == 0


def make_calls(count: int, *, now: datetime) -> list[OutboundCall]:
    return OutboundCall.objects.bulk_create(
        OutboundCall(
            adapter="acme",
            operation="create",
            payload={},
            idempotency_key=str(uuid7()),
            max_attempts=9,
            due_at=now,
            hint_at=now,
            deadline_at=now,
            created_at=now,
            updated_at=now,
        )
        for _ in range(count)
    )


def make_attempts(count: int, *, circuit: str, number: int, now: datetime) -> list[CallAttempt]:
    return CallAttempt.objects.bulk_create(
        CallAttempt(
            call=call,
            number=number,
            circuit=circuit,
            trigger=AttemptTrigger.AUTO,
            idempotency_key=call.idempotency_key,
            started_at=now,
            finished_at=now,
        )
        for call in make_calls(count, now=now)
    )


class Attempts:
    """Attempts of an adapter that has one circuit for each account. `unused`: some of another
    circuit, which are taken over instead of making new ones."""

    def __init__(
        self, time: Callable[[], datetime] = clock.now, unused: Iterable[CallAttempt] = ()
    ) -> None:
        self._time, self._unused = time, iter(unused)
        self._circuits: set[str] = set()

    def first(
        self, count: int, *, adapter: str = "acme", account: str = "", number: int = 1
    ) -> None:
        """So many calls were attempted for the first time just now."""
        now, circuit = self._time(), f"{adapter}:{account}"
        if circuit not in self._circuits:
            self._circuits.add(circuit)
            Circuit.objects.create(name=circuit, adapter=adapter, counting_from=now, updated_at=now)
        taken = [attempt.pk for attempt in islice(self._unused, count)]
        CallAttempt.objects.filter(pk__in=taken).update(
            circuit=circuit, number=number, started_at=now, finished_at=now
        )
        if count > len(taken):
            make_attempts(count - len(taken), circuit=circuit, number=number, now=now)


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    limits._counted.clear()


@pytest.fixture
def attempts(time: VirtualTime) -> Attempts:
    return Attempts(time)


@pytest.fixture
def unused(time: VirtualTime) -> list[CallAttempt]:
    """As many as an example of `TestRetries.test_never_more` uses at the most."""
    return make_attempts(300, circuit="unused", number=1, now=time.now)


def retries(most: int = 200, **changes: Any) -> int:
    """Until one has to wait."""
    bounds = Limits(**{"retry_ratio": 0.25, "retry_floor": 2, **changes})
    return next(done for done in range(most) if take_retry("acme", bounds) > 0)


@pytest.mark.both_databases
@pytest.mark.django_db
class TestRetries:
    def test_a_few_always(self, time: VirtualTime) -> None:
        """Where nothing was attempted for a while, as many as the floor says."""
        assert retries(retry_floor=3) == 3

    def test_a_share_of_the_first_attempts(self, attempts: Attempts) -> None:
        attempts.first(39)
        assert retries() == 9

    def test_which_attempts_count(self, attempts: Attempts) -> None:
        """First ones, of all circuits of this adapter, within the window."""
        attempts.first(10, account="eu")
        attempts.first(10, account="us")
        attempts.first(50, adapter="other")
        attempts.first(50, number=2)
        assert recent_first_attempts("acme", 60) == 20
        assert retries() == 5

    def test_the_window_slides(self, attempts: Attempts, time: VirtualTime) -> None:
        """Each retry makes room when it is as old as the window, and not before."""
        attempts.first(16)
        assert retries() == 4
        time.passes(seconds=30)
        attempts.first(16)
        assert retries() == 4
        time.passes(seconds=29.999999)
        assert retries() == 0
        time.passes(seconds=0.000001)
        assert held(retries_name("acme")) == 4
        assert retries() == 0, "sixteen first attempts are left"
        time.passes(seconds=30)
        assert retries() == 2, "none is left, so the floor decides"

    def test_counted_once_a_second(
        self, attempts: Attempts, statements: Any, time: VirtualTime
    ) -> None:
        """What may leave the window within this second is not counted any more."""
        attempts.first(8)
        time.passes(seconds=58.9)
        attempts.first(4)
        assert recent_first_attempts("acme", 60) == 12
        attempts.first(4)
        time.passes(seconds=0.999999)
        again = statements(lambda: recent_first_attempts("acme", 60))
        assert not again.all
        assert recent_first_attempts("acme", 60) == 12
        time.passes(seconds=0.000001)
        assert recent_first_attempts("acme", 60) == 8
        time.passes(hours=-1)
        assert recent_first_attempts("acme", 60) == 16, "a clock that goes back"

    def test_the_wait(self, attempts: Attempts, time: VirtualTime) -> None:
        """Until the retry that is in the way leaves the window."""
        bounds = Limits(retry_floor=2, retry_window=60)
        assert take_retry("acme", bounds) == 0
        time.passes(seconds=10)
        assert take_retry("acme", bounds) == 0
        time.passes(seconds=5)
        assert take_retry("acme", bounds) == 45
        time.passes(seconds=45)
        assert take_retry("acme", bounds) == 0
        assert take_retry("acme", bounds) == 10

    def test_adapters(self, time: VirtualTime) -> None:
        """One adapter's retries are not another's."""
        assert retries() == 2
        assert take_retry("other", Limits()) == 0

    def test_rows_do_not_grow(self, time: VirtualTime) -> None:
        """There are as many as retries in a window, however long there have been retries."""
        for _ in range(30):
            assert retries(retry_floor=5) == 5
            assert Permit.objects.count() == 5
            time.passes(seconds=60)

    def test_more_numbers_than_the_column_holds(self, time: VirtualTime) -> None:
        """After years of retries without a quiet window it still counts."""
        assert retries(retry_floor=2) == 2
        Permit.objects.filter(slot=2).update(slot=2**31 - 1)
        Permit.objects.filter(slot=1).update(slot=2**31 - 2)
        time.passes(seconds=30)
        assert retries(retry_floor=5) == 3
        time.passes(seconds=30)
        assert retries(retry_floor=5) == 2
        assert retries(retry_floor=5) == 0

    @virtual
    @given(
        steps=st.lists(
            st.tuples(st.integers(0, 100), st.integers(0, 12), st.integers(0, 6)), max_size=25
        ),
        ratio=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        floor=st.integers(1, 4),
    )
    @rolled_back()
    def test_never_more(
        self,
        steps: list[tuple[int, int, int]],
        ratio: float,
        floor: int,
        unused: list[CallAttempt],
        time: VirtualTime,
    ) -> None:
        """Whatever has happened: in the window that ends with a retry there are no more retries
        than the floor, or than the share of the first attempts in it. Nor is one held back while
        there are fewer, but for first attempts of the last second and of the window's first."""
        limits._counted.clear()
        attempts = Attempts(time, unused)
        bounds = Limits(retry_ratio=ratio, retry_floor=floor, retry_window=60)
        firsts: list[datetime] = []
        done: list[datetime] = []
        second = timedelta(seconds=1)
        for pause, started, wanted in steps:
            now, since = time.passes(seconds=pause / 4), time.now - timedelta(seconds=60)
            attempts.first(started)
            firsts += [now] * started
            most = max(floor, math.floor(ratio * sum(at > since for at in firsts)))
            counted = sum(since + second < at <= now - second for at in firsts)
            least = max(floor, math.floor(ratio * counted))
            for _ in range(wanted):
                recent = [at for at in done if at > since]
                wait = take_retry("acme", bounds)
                if wait == 0:
                    assert len(recent) < most
                    done.append(now)
                else:
                    assert len(recent) >= least
                    assert since + timedelta(seconds=wait) in recent

    def test_statements(self, attempts: Attempts, statements: Any, time: VirtualTime) -> None:
        """One write for one that may go, two where others have expired, none for one that must
        wait."""
        bounds = Limits(retry_floor=3)
        take_retry("acme", bounds)
        take_retry("acme", bounds)
        granted = statements(lambda: take_retry("acme", bounds))
        assert (len(granted.all), len(granted.writes)) == (3, 1)
        refused = statements(lambda: take_retry("acme", bounds))
        assert (len(refused.all), len(refused.writes)) == (2, 0)
        time.passes(seconds=60)
        again = statements(lambda: take_retry("acme", bounds))
        assert (len(again.all), len(again.writes)) == (5, 2), "first attempts are counted again"


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_race_for_retries() -> None:
    """Sixteen workers together get no more retries than one would, and not one less."""
    attempts = Attempts()
    attempts.first(50)
    bounds = Limits(retry_ratio=0.5, retry_floor=3, retry_window=3600)

    def ask() -> int:
        return sum(take_retry("acme", bounds) == 0 for _ in range(4))

    assert sum(numbers(at_once(16, ask))) == 25
    assert held(retries_name("acme")) == 25


@pytest.mark.django_db
def test_a_place_is_given_back_past_a_backlog() -> None:
    """Whether somebody waits for it is read from an index of those who wait for a limit; on SQLite,
    which reads it only where a statement speaks of it literally."""
    with CaptureQueriesContext(connection) as asked:
        assert parking.wake(bulkhead_name("acme"), limit=1) == 0
    [query] = asked
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
        [step] = cursor.fetchall()
    assert "USING INDEX call_parked (parked_by=?)" in step[-1]
