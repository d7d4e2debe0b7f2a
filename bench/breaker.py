"""What a healthy circuit breaker costs: a guarded call against the same call without a guard."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.test.utils import override_settings

from bench.measuring import (
    Act,
    Effort,
    Rounds,
    interleaved,
    median,
    ratio,
    seconds_of,
    statements,
)
from bench.reports import Report, goal
from outbound import gates, registry
from outbound.breaker import CircuitRefused, SharedCircuitBreaker
from outbound.errors import CircuitOpen
from outbound.models import OutboundCall
from outbound.states import CircuitMode
from outbound.tallies import AttemptTally, SliceTally, Tally
from outbound.thresholds import Thresholds

GOAL = 1.05  # times the time of the call alone
BARE = "no guard"
HEADER = ("", "ms", "ratio", "half of rounds", f"<= {GOAL}", "µs/guard", "SQL/call", "writes/call")
MORE = 10  # times as many calls where time is not compared with that of the call

REFUSED = (CircuitRefused, CircuitOpen)
ADAPTERS: dict[str, dict[str, Any]] = {
    "bench": {},
    "limited": {"LIMITS": {"rate": 1_000_000, "concurrency": 32}},
}


@dataclass(frozen=True, slots=True)
class Guard:
    """What goes around a call, and raises REFUSED instead while `breaker` is open. `writes`:
    whether it may write although all is well."""

    around: Callable[[Act], object]
    breaker: SharedCircuitBreaker
    writes: bool = False


def measure(effort: Effort) -> Report:
    """Each guard around a call that waits, around one that does nothing, and what it executes."""
    waits = threading.Event()

    def call() -> None:
        waits.wait(effort.seconds)

    with make_guards() as guards:
        for guard in guards.values():
            guard.around(call)  # what is done once is done now
        waiting = _interleaved(guards, call, rounds=effort.rounds, calls=effort.calls)
        idle = _interleaved(guards, _nothing, rounds=effort.rounds, calls=effort.calls * MORE)
        executed = {
            name: _executed(guard, call, calls=effort.calls * MORE)
            for name, guard in guards.items()
        }
        useless = [name for name, guard in guards.items() if not _refuses(guard)]
    bare = (BARE, f"{median(waiting[BARE]) * 1000:.2f}", "1.000", "", "", "0.0", "0.00", "0.00")
    rows = [bare, *(_row(name, waiting, idle, executed[name]) for name in guards)]
    return Report(
        f"a call of {effort.seconds * 1000:g} ms, {effort.rounds} rounds of {effort.calls}",
        HEADER,
        rows,
        failures=[
            *(
                f"{name}: a healthy call writes: {executed[name].first_write}"
                for name, guard in guards.items()
                if executed[name].writes and not guard.writes
            ),
            *(f"{name}: lets a call through an open circuit" for name in useless),
        ],
    )


@contextmanager
def make_guards() -> Iterator[dict[str, Guard]]:
    """Closed circuits, as the code that uses them goes through them."""
    with override_settings(OUTBOUND_ADAPTERS=ADAPTERS, OUTBOUND_LIMITS={}):
        over_attempts = _breaker("attempts", AttemptTally())
        by_itself = _breaker("slices", SliceTally(window=60))
        yield {
            "breaker over attempts": Guard(_by_steps(over_attempts), over_attempts),
            "breaker by itself": Guard(by_itself.call, by_itself),
            "gate": _gate("bench"),
            "gate with limits": _gate("limited", writes=True),
        }


def _breaker(name: str, tally: Tally) -> SharedCircuitBreaker:
    return SharedCircuitBreaker(
        name=f"bench:{name}", adapter="bench", thresholds=Thresholds(), tally=tally
    )


def _by_steps(breaker: SharedCircuitBreaker) -> Callable[[Act], object]:
    """As for who looks at the outcome himself."""

    def around(call: Act) -> None:
        admission = breaker.admit()
        breaker.succeeded(admission, seconds=seconds_of(call))

    return around


def _gate(adapter: str, *, writes: bool = False) -> Guard:
    """As the engine's calls go."""
    row = OutboundCall(adapter=adapter, circuit=f"bench:{adapter}")

    def around(call: Act) -> None:
        passage = gates.enter(row)
        if isinstance(passage, gates.Refusal):
            raise passage.error
        passage.leave(True, seconds=seconds_of(call))

    return Guard(around, registry.breaker_for(row.circuit, adapter), writes=writes)


def _refuses(guard: Guard) -> bool:
    """Whether it guards at all: one that fails open is as fast as none."""
    guard.breaker.force(CircuitMode.FORCED_OPEN, reason="a benchmark tries whether it holds")
    try:
        guard.around(_nothing)
    except REFUSED:
        return True
    return False


@dataclass(frozen=True, slots=True)
class Executed:
    """SQL statements per call, and the first of those that write."""

    all: float
    writes: float
    first_write: str


def _executed(guard: Guard, call: Act, *, calls: int) -> Executed:
    with statements() as found:
        for _ in range(calls):
            guard.around(call)
    return Executed(len(found.all) / calls, len(found.writes) / calls, "".join(found.writes[:1]))


def _row(
    name: str, waiting: dict[str, Rounds], idle: dict[str, Rounds], executed: Executed
) -> tuple[str, ...]:
    times = ratio(waiting[name], waiting[BARE])
    return (
        name,
        f"{median(waiting[name]) * 1000:.2f}",
        f"{times.value:.3f}",
        f"{times.low:.3f} to {times.high:.3f}",
        goal(times.value <= GOAL),
        f"{(_typical(idle[name]) - _typical(idle[BARE])) * 1e6:.1f}",
        f"{executed.all:.2f}",
        f"{executed.writes:.2f}",
    )


def _interleaved(
    guards: dict[str, Guard], call: Act, *, rounds: int, calls: int
) -> dict[str, Rounds]:
    acts: dict[str, Act] = {BARE: call}
    for name, guard in guards.items():
        acts[name] = partial(guard.around, call)
    return interleaved(acts, rounds=rounds, calls=calls)


def _typical(rounds: Rounds) -> float:
    """Seconds of a call in a typical round."""
    return statistics.median(statistics.fmean(calls) for calls in rounds)


def _nothing() -> None:
    pass
