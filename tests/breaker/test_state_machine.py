"""Several processes, one circuit and a moving clock, against a simple model of what must hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outbound import clock
from outbound.breaker import Admission, CircuitRefused, SharedCircuitBreaker
from outbound.models import Circuit, CircuitTally, CircuitTransition, Permit
from outbound.states import CircuitMode, CircuitState
from outbound.tallies import SLICES, SliceTally
from outbound.thresholds import Thresholds
from tests.engine.looking import Look, Row
from tests.outbound.conftest import VirtualTime

pytestmark = [pytest.mark.django_db]

ACTORS = 3
BOUNDS = Thresholds(
    minimum_calls=4, window=60, open_seconds=10, open_seconds_max=40, jitter=0, probes=2,
    successes=2, probe_lease=20,
)  # fmt: skip


class Away(Exception):
    """The provider's fault."""


@contextmanager
def virtual() -> Iterator[VirtualTime]:
    """A clean slate at the start of time."""
    for model in (CircuitTransition, CircuitTally, Permit, Circuit):
        model.objects.all().delete()
    moving = VirtualTime()
    with clock.use(moving):
        yield moving


def breaker(time: VirtualTime) -> SharedCircuitBreaker:
    tally = SliceTally(window=BOUNDS.window, monotonic=time.seconds)
    return SharedCircuitBreaker(name="acme", thresholds=BOUNDS, tally=tally, cache_seconds=0)


WAITS = st.tuples(st.floats(min_value=0.5, max_value=45), st.booleans())


@given(steps=st.lists(WAITS, min_size=1, max_size=40))
@settings(max_examples=60)
def test_it_is_open_exactly_when_the_definition_says_so(steps: list[tuple[float, bool]]) -> None:
    """At each failure the window is counted, and nothing else opens it."""
    with virtual() as time:
        one = breaker(time)
        ended: list[tuple[datetime, bool]] = []
        slice_seconds = BOUNDS.window / SLICES
        for wait, works in steps:
            # on the edge of a slice, where slices and the definition agree to the second
            time.now += timedelta(seconds=max(round(wait / slice_seconds), 1) * slice_seconds)
            admission = one.admit()
            ended.append((time.now, works))
            if works:
                one.succeeded(admission)
            else:
                one.failed(admission, Away())
            since = time.now - timedelta(seconds=BOUNDS.window)
            window = [good for at, good in ended if at > since - timedelta(seconds=slice_seconds)]
            bad = window.count(False)
            enough = len(window) >= BOUNDS.minimum_calls
            expected = not works and enough and bad >= BOUNDS.failure_rate * len(window)
            assert (one.current_state == "open") == expected, (ended, window)
            if expected:
                return


@cache
def circuits() -> Look:
    names = ("state", "version", "incident", "openings", "successes", "open_until")
    return Look(Circuit.objects.filter(pk="acme"), *names)


@cache
def changes() -> Look:
    return Look(CircuitTransition.objects.order_by("id"), "from_state", "to_state", "told_at")


@dataclass
class Out:
    """A call that is under way."""

    actor: SharedCircuitBreaker
    admission: Admission
    until: datetime | None


class Fleet:
    """Some processes and what the model knows of them. `row`: the circuit, as it was last seen."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.actors = [breaker(time) for _ in range(ACTORS)]
        self.out: list[Out] = []
        self.mode = CircuitMode.AUTO
        self.row: Row | None = None

    def look(self) -> Row | None:
        """Read the circuit, and its changes, after something was done to it."""
        row = self.row = next(iter(circuits().rows()), None)
        if row is None:
            return None
        assert (row["incident"] is None) == (row["state"] == CircuitState.CLOSED)
        assert (row["openings"] == 0) == (row["state"] == CircuitState.CLOSED)
        assert row["successes"] < BOUNDS.successes or row["state"] == CircuitState.CLOSED
        known = changes().rows()
        for earlier, later in pairwise(known):
            assert earlier["to_state"] == later["from_state"], "a change is missing"
        assert all(change["told_at"] is not None for change in known)
        return row

    def admit(self, pick: int) -> None:
        before = self.row
        actor = self.actors[pick % ACTORS]
        try:
            admission = actor.admit()
        except CircuitRefused:
            self.look()
            assert self.mode in (CircuitMode.AUTO, CircuitMode.FORCED_OPEN)
            if self.mode == CircuitMode.AUTO:
                assert before is not None
                assert before["state"] != CircuitState.CLOSED
            return
        self.look()
        assert self.mode != CircuitMode.FORCED_OPEN
        lease = self.time.now + timedelta(seconds=BOUNDS.probe_lease)
        self.out.append(Out(actor, admission, lease if admission.probe else None))
        if self.mode == CircuitMode.AUTO and before and before["state"] != CircuitState.CLOSED:
            assert before["open_until"] is not None
            assert before["open_until"] <= self.time.now, "let through while it was open"
            assert admission.probe is not None

    def end(self, pick: int, how: str) -> None:
        if not self.out:
            return
        call = self.out.pop(pick % len(self.out))
        before = self.row
        if how == "dies":
            return
        if how == "works":
            call.actor.succeeded(call.admission)
        elif how == "fails":
            call.actor.failed(call.admission, Away())
        else:
            call.actor.forgo(call.admission)
        after = self.look()
        assert before is not None
        assert after is not None
        if self.mode == CircuitMode.AUTO and call.admission.probe is None:
            assert (before["state"], after["state"]) in {
                (before["state"], before["state"]),
                (CircuitState.CLOSED, CircuitState.OPEN),
            }, "an ordinary call closed or half-opened it"
        if how == "nothing":
            assert before["state"] == after["state"]
        late = call.until is not None and call.until <= self.time.now
        if late:
            assert before["version"] == after["version"], "a late prober had a verdict"

    def force(self, pick: int) -> None:
        self.mode = list(CircuitMode)[pick % len(CircuitMode)]
        self.actors[pick % ACTORS].force(self.mode, reason="a drill")
        self.look()

    def check(self) -> None:
        live = [c for c in self.out if c.until is not None and c.until > self.time.now]
        assert len(live) <= BOUNDS.probes, "more probes are out than may be"


ENDS = ["works", "fails", "fails", "nothing", "dies"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 20)),
        st.tuples(st.just("admit"), st.integers(0, 20)),
        st.tuples(
            st.sampled_from(["works", "fails", "fails", "nothing", "dies"]), st.integers(0, 9)
        ),
        st.tuples(st.sampled_from(["works", "fails", "fails"]), st.integers(0, 9)),
        st.tuples(st.just("passes"), st.sampled_from([1, 3, 11, 21, 61])),
        st.tuples(st.just("force"), st.integers(0, 40)),
    ),
    min_size=20,
    max_size=60,
)


@pytest.mark.django_db(transaction=True)
@given(steps=STEPS)
@settings(max_examples=120)
def test_interleavings(steps: list[tuple[str, int]]) -> None:
    """Whatever the order: never more probes than places, never through an open circuit, no verdict
    from who lost its place, every change told and in a row."""
    with virtual() as time:
        fleet = Fleet(time)
        for what, pick in steps:
            if what == "admit":
                fleet.admit(pick)
            elif what == "passes":
                time.passes(seconds=pick)
            elif what == "force":
                if pick % 4 == 0:
                    fleet.force(pick // 4)
            else:
                fleet.end(pick, what)
            fleet.check()
