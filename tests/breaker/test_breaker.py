"""The shared breaker: what stock pybreaker gets wrong under load, and what it must keep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pybreaker
import pytest
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from outbound import circuits
from outbound.breaker import CircuitRefused, SharedCircuitBreaker
from outbound.circuits import tell, tell_untold
from outbound.errors import ReasonRequired
from outbound.models import Circuit, CircuitTransition
from outbound.signals import circuit_changed
from outbound.states import CircuitMode, CircuitState
from outbound.tallies import SliceTally
from outbound.thresholds import Thresholds
from tests.outbound.conftest import VirtualTime, time  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

SOON = Thresholds(minimum_calls=4, open_seconds=10, jitter=0, successes=2)


class Away(Exception):
    """The provider's fault."""


class Refusal(Exception):
    """The caller's fault."""


@pytest.fixture(autouse=True)
def clock(time: VirtualTime) -> VirtualTime:  # noqa: F811
    return time


@pytest.fixture
def breaker() -> SharedCircuitBreaker:
    return shared()


def shared(name: str = "acme", **options: Any) -> SharedCircuitBreaker:
    """What another process would make."""
    options = {"thresholds": SOON, "cache_seconds": 0, **options}
    return SharedCircuitBreaker(name=name, **options)


def fail() -> None:
    raise Away


def refuse() -> None:
    raise Refusal


def leave() -> None:
    raise SystemExit


def fine() -> str:
    return "fine"


def attempt(
    breaker: pybreaker.CircuitBreaker, what: Callable[[], Any]
) -> type[BaseException] | None:
    """Call through a breaker; the class of what was raised, if anything."""
    try:
        breaker.call(what)
    except BaseException as error:  # noqa: BLE001 - that is what is asked
        return type(error)
    return None


def trip(breaker: SharedCircuitBreaker, clock: VirtualTime) -> None:
    for _ in range(SOON.minimum_calls):
        clock.passes(seconds=1)
        attempt(breaker, fail)
    assert breaker.current_state == "open"


def circuit() -> Circuit:
    return Circuit.objects.get(pk="acme")


class TestStock:
    """Each first shows the defect of the stock class, then that ours has it not."""

    def test_nothing_is_held_during_the_call(self) -> None:
        """Two calls are inside at the same time."""

        def both_inside(breaker: pybreaker.CircuitBreaker, *, seconds: float) -> bool:
            barrier = threading.Barrier(2)
            met: list[bool] = []

            def wait() -> None:
                try:
                    barrier.wait(timeout=seconds)
                    met.append(True)
                except threading.BrokenBarrierError:
                    met.append(False)

            def run() -> None:
                breaker.call(wait)
                connection.close()

            threads = [threading.Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return all(met)

        assert not both_inside(pybreaker.CircuitBreaker(), seconds=0.2)
        assert both_inside(shared(), seconds=20)

    def test_refusals_do_not_hide_an_outage(self, clock: VirtualTime) -> None:
        stock = pybreaker.CircuitBreaker(fail_max=3, exclude=[Refusal])
        ours = shared(exclude=[Refusal])
        for _ in range(6):
            for breaker in (stock, ours):
                clock.passes(seconds=1)
                attempt(breaker, fail)
                attempt(breaker, refuse)
        assert (stock.current_state, ours.current_state) == ("closed", "open")

    def test_two_of_three_are_too_many(self, clock: VirtualTime) -> None:
        stock, ours = pybreaker.CircuitBreaker(fail_max=3), shared()
        for what in (fine, fail, fail) * 4:
            for breaker in (stock, ours):
                clock.passes(seconds=1)
                attempt(breaker, what)
        assert (stock.current_state, ours.current_state) == ("closed", "open")

    def test_one_probe_in_all_processes(self, clock: VirtualTime) -> None:
        """Each breaker stands for a process."""
        ours = [shared() for _ in range(8)]
        trip(ours[0], clock)
        clock.passes(seconds=11)
        admitted = 0
        for breaker in ours:
            try:
                admitted += breaker.admit().probe is not None
            except CircuitRefused:
                continue
        assert admitted == 1

    def test_the_call_that_trips_raises_its_own_error(self, clock: VirtualTime) -> None:
        stock, ours = pybreaker.CircuitBreaker(fail_max=2), shared()
        seen = {stock: [], ours: []}  # type: dict[Any, list[type[BaseException] | None]]
        for _ in range(4):
            for breaker in (stock, ours):
                clock.passes(seconds=1)
                seen[breaker].append(attempt(breaker, fail))
        assert pybreaker.CircuitBreakerError in seen[stock]
        assert seen[ours] == [Away] * 4

    def test_unless_another_is_asked_for(self, clock: VirtualTime) -> None:
        ours = shared(throw_new_error_on_trip=True)
        errors = []
        for _ in range(4):
            clock.passes(seconds=1)
            errors.append(attempt(ours, fail))
        assert errors == [Away, Away, Away, pybreaker.CircuitBreakerError]

    def test_the_end_of_a_process_is_no_failure(self, clock: VirtualTime) -> None:
        stock, ours = pybreaker.CircuitBreaker(fail_max=4), shared()
        for _ in range(5):
            for breaker in (stock, ours):
                clock.passes(seconds=1)
                attempt(breaker, leave)
        assert (stock.current_state, ours.current_state) == ("open", "closed")

    def test_a_change_is_noticed_once(self, clock: VirtualTime) -> None:
        """By the process that made it, not by each that sees it."""

        class Listener(pybreaker.CircuitBreakerListener):
            def __init__(self) -> None:
                self.changes: list[tuple[str, str]] = []

            def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
                self.changes.append((old_state.name, new_state.name))

        listeners = [Listener(), Listener()]
        first, second = (shared(listeners=[listener]) for listener in listeners)
        trip(first, clock)
        assert attempt(second, fine) is CircuitRefused
        assert second.state.name == "open"
        assert listeners[0].changes == [("closed", "open")]
        assert listeners[1].changes == []

    def test_a_late_observer_erases_nothing(self, clock: VirtualTime) -> None:
        first, second = shared(), shared()
        for _ in range(3):
            clock.passes(seconds=1)
            attempt(first, fail)
        assert second.state.name == "closed"
        assert second.fail_counter == 3


class TestInterface:
    """What a user of pybreaker relies on."""

    def test_forms(self, breaker: SharedCircuitBreaker) -> None:
        """A call, a decorator, a block and a generator."""
        assert breaker.call(fine) == "fine"

        @breaker
        def guarded(word: str) -> str:
            return word

        assert guarded("so") == "so"
        with breaker.calling():
            pass

        @breaker
        def numbers() -> Iterator[int]:
            yield 1
            yield 2

        assert list(numbers()) == [1, 2]

    def test_a_block_that_fails_counts(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        for _ in range(4):
            clock.passes(seconds=1)
            with pytest.raises(Away), breaker.calling():
                fail()
        assert breaker.current_state == "open"
        with pytest.raises(pybreaker.CircuitBreakerError), breaker.calling():
            pass

    def test_by_hand(self, breaker: SharedCircuitBreaker) -> None:
        breaker.open()
        assert attempt(breaker, fine) is CircuitRefused
        breaker.half_open()
        assert breaker.current_state == "half-open"
        breaker.close()
        assert attempt(breaker, fine) is None

    def test_failures_in_a_row(self, clock: VirtualTime) -> None:
        """pybreaker's own arguments."""
        breaker = SharedCircuitBreaker(3, 20, 1, name="acme", cache_seconds=0)
        for what in (fail, fail, fine, fail, fail, fail):
            assert breaker.current_state == "closed"
            clock.passes(seconds=1)
            attempt(breaker, what)
        assert breaker.current_state == "open"

    def test_coroutines_are_refused(self, breaker: SharedCircuitBreaker) -> None:
        with pytest.raises(TypeError):
            breaker.call_async(fine)


class TestWindow:
    def test_too_few_calls(self, breaker: SharedCircuitBreaker, clock: VirtualTime) -> None:
        for _ in range(3):
            clock.passes(seconds=1)
            attempt(breaker, fail)
        assert breaker.current_state == "closed"

    def test_what_is_old_does_not_count(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        for _ in range(8):
            clock.passes(seconds=61)
            attempt(breaker, fail)
        assert breaker.current_state == "closed"

    def test_a_success_elsewhere_counts_once_there_is_doubt(self, clock: VirtualTime) -> None:
        """Successes are kept in memory; the first after somebody's failure writes them down."""
        good, bad = shared(), shared()
        for _ in range(8):
            attempt(good, fine)
        clock.passes(seconds=1)
        attempt(bad, fail)
        attempt(good, fine)
        for _ in range(4):
            clock.passes(seconds=1)
            attempt(bad, fail)
        assert bad.current_state == "closed", "5 of 14"

    def test_old_successes_do_not_hide_an_outage(self, clock: VirtualTime) -> None:
        """A long good time is worth no more than its last minute."""
        tally = SliceTally(window=SOON.window, monotonic=clock.seconds)
        breaker = shared(tally=tally)
        for _ in range(100):
            breaker.call(fine)
        clock.passes(seconds=90)
        for _ in range(4):
            clock.passes(seconds=1)
            attempt(breaker, fail)
        assert breaker.current_state == "open"

    def test_slow_calls(self, clock: VirtualTime) -> None:
        breaker = shared(
            thresholds=Thresholds(minimum_calls=4, slow_rate=0.5, slow_seconds=2, jitter=0)
        )
        for _ in range(4):
            clock.passes(seconds=1)
            breaker.succeeded(breaker.admit(), seconds=2.5)
        assert breaker.current_state == "open"

    def test_no_statement_for_a_healthy_call(self) -> None:
        breaker = shared(cache_seconds=3600)
        breaker.call(fine)
        with CaptureQueriesContext(connection) as statements:
            for _ in range(20):
                breaker.call(fine)
        assert len(statements) == 0


class TestHalfOpen:
    def test_it_closes_after_enough_successes(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        trip(breaker, clock)
        incident = circuit().incident
        clock.passes(seconds=11)
        breaker.call(fine)
        assert breaker.current_state == "half-open"
        breaker.call(fine)
        assert breaker.current_state == "closed"
        assert circuit().incident is None
        incidents = set(CircuitTransition.objects.values_list("incident", flat=True))
        assert incidents == {incident}

    def test_it_stays_open_for_longer_each_time(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        trip(breaker, clock)
        waits = []
        for _ in range(8):
            until = circuit().open_until
            assert until is not None
            waits.append((until - clock.now).total_seconds())
            clock.passes(seconds=waits[-1] + 0.01)
            assert attempt(breaker, fail) is Away
        assert waits == pytest.approx([10, 20, 40, 80, 160, 320, 600, 600])

    def test_a_dead_prober_is_waited_for_as_long_as_its_lease(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        trip(breaker, clock)
        clock.passes(seconds=11)
        breaker.admit()
        with pytest.raises(CircuitRefused) as refused:
            breaker.admit()
        lease = (refused.value.retry_at - clock.now).total_seconds()
        assert lease == pytest.approx(SOON.probe_lease)
        clock.passes(seconds=lease)
        assert breaker.admit().probe is not None

    def test_a_prober_that_lost_its_place_has_no_verdict(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        trip(breaker, clock)
        clock.passes(seconds=11)
        late = breaker.admit()
        clock.passes(seconds=SOON.probe_lease + 1)
        breaker.admit()
        assert breaker.failed(late, Away()) is None
        assert breaker.current_state == "half-open"

    def test_a_call_from_before_is_no_probe(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        """It was let through while the circuit was closed, and ends while it is half-open."""
        old = breaker.admit()
        trip(breaker, clock)
        clock.passes(seconds=11)
        breaker.admit()
        breaker.succeeded(old)
        breaker.failed(old, Away())
        assert (breaker.current_state, circuit().successes) == ("half-open", 0)

    def test_no_verdict_gives_the_place_back(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        trip(breaker, clock)
        clock.passes(seconds=11)
        breaker.forgo(breaker.admit())
        assert breaker.admit().probe is not None


class TestModes:
    def test_forced_open(self, breaker: SharedCircuitBreaker) -> None:
        breaker.force(CircuitMode.FORCED_OPEN, reason="maintenance", actor="li")
        assert attempt(breaker, fine) is CircuitRefused
        breaker.force(CircuitMode.AUTO)
        assert attempt(breaker, fine) is None

    def test_forced_closed_never_trips(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        breaker.force(CircuitMode.FORCED_CLOSED, reason="we know better")
        for _ in range(20):
            clock.passes(seconds=1)
            assert attempt(breaker, fail) is Away
        assert breaker.current_state == "closed"

    def test_observing_changes_state_and_blocks_nothing(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        breaker.force(CircuitMode.OBSERVE, reason="a new provider")
        trip(breaker, clock)
        assert attempt(breaker, fine) is None
        clock.passes(seconds=11)
        breaker.call(fine)
        breaker.call(fine)
        assert breaker.current_state == "closed"

    @pytest.mark.parametrize("works", [True, False])
    def test_who_was_observed_has_no_verdict_later(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime, works: bool
    ) -> None:
        """Once it is automatic again, only who has a probe's place has one."""
        breaker.force(CircuitMode.OBSERVE, reason="a new provider")
        trip(breaker, clock)
        clock.passes(seconds=11)
        observed = [breaker.admit() for _ in range(3)]
        assert breaker.current_state == "half-open"
        breaker.force(CircuitMode.AUTO)
        for admission in observed:
            breaker.succeeded(admission) if works else breaker.failed(admission, Away())
        assert (breaker.current_state, circuit().successes) == ("half-open", 0)

    def test_automatic_again_probes_at_once(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime
    ) -> None:
        trip(breaker, clock)
        breaker.force(CircuitMode.FORCED_OPEN, reason="their page says so")
        breaker.force(CircuitMode.AUTO)
        assert breaker.admit().probe is not None

    @pytest.mark.parametrize("mode", [m for m in CircuitMode if m != CircuitMode.AUTO])
    def test_a_reason_is_needed(self, breaker: SharedCircuitBreaker, mode: CircuitMode) -> None:
        with pytest.raises(ReasonRequired):
            breaker.force(mode, reason=" ")


class TestTelling:
    @pytest.fixture
    def heard(self) -> Iterator[list[CircuitTransition]]:
        found: list[CircuitTransition] = []

        def hear(*, transition: CircuitTransition, **_: Any) -> None:
            found.append(transition)

        circuit_changed.connect(hear)
        yield found
        circuit_changed.disconnect(hear)

    def test_once_for_each_change(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime, heard: list[CircuitTransition]
    ) -> None:
        with structlog.testing.capture_logs() as logs:
            trip(breaker, clock)
        assert [t.to_state for t in heard] == [CircuitState.OPEN]
        opened = [log for log in logs if log["event"] == "circuit_opened"]
        assert [(log["circuit"], log["first"]) for log in opened] == [("acme", True)]
        assert not tell(heard[0])
        assert len(heard) == 1

    def test_what_a_crashed_winner_did_not_tell(
        self, breaker: SharedCircuitBreaker, clock: VirtualTime, heard: list[CircuitTransition]
    ) -> None:
        trip(breaker, clock)
        heard.clear()
        CircuitTransition.objects.update(told_at=None)
        assert tell_untold() == 0, "its winner may be about to"
        clock.passes(seconds=11)
        assert tell_untold() == 1
        assert len(heard) == 1

    def test_a_change_that_is_lost_is_not_told(self, clock: VirtualTime) -> None:
        """Compare and swap: one of two wins."""
        shared().call(fine)
        row = circuit()
        first = circuits.change(row, CircuitState.OPEN, now=clock.now, why="a")
        second = circuits.change(row, CircuitState.OPEN, now=clock.now, why="b")
        assert first is not None
        assert second is None


class TestFailOpen:
    def test_without_a_storage_everything_goes(
        self, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted, and said once a minute."""

        def away() -> datetime:
            raise OperationalError("the database is away")

        monkeypatch.setattr(breaker._storage, "read", away)
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                assert attempt(breaker, fine) is None
                assert attempt(breaker, fail) is Away
        assert [log["event"] for log in logs] == ["circuit_failed_open"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"minimum_calls": 0},
        {"minimum_calls": 2.5},
        {"minimum_calls": True},
        {"open_seconds": 0.5},
        {"open_seconds": 100, "open_seconds_max": 50},
        {"window": 0},
        {"probes": 0},
        {"successes": 0},
        {"slow_rate": 2},
        {"consecutive_failures": 0},
        {"jitter": -1},
        {"window": float("nan")},
    ],
)
def test_thresholds_out_of_range(wrong: dict[str, Any]) -> None:
    """The setting is named."""
    with pytest.raises(ImproperlyConfigured) as error:
        Thresholds(**wrong)
    assert any(name in str(error.value) for name in wrong)
