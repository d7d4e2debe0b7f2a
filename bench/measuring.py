"""Time and statements: what a benchmark can say about a piece of code."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import connection

# FOR UPDATE and BEGIN IMMEDIATE as well: a lock is for others what a write is
WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|REPLACE|MERGE|IMMEDIATE|EXECUTE)\b")

T = TypeVar("T")
Act = Callable[[], object]
Rounds = list[list[float]]  # seconds of each call, by round


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: `rounds` of `calls` calls, each of which takes `seconds` by itself.
    `rows`: how many there are already, where that is the question."""

    rounds: int = 20
    calls: int = 10
    seconds: float = 0.02
    rows: int = 1_000_000


def in_turns(acts: Mapping[str, Callable[[], T]], *, rounds: int) -> dict[str, list[T]]:
    """What each act gives, once in each round, a different one first each time: what else happens
    on the machine meets them all."""
    order = list(acts)
    found: dict[str, list[T]] = {name: [] for name in order}
    for _ in range(rounds):
        for name in order:
            found[name].append(acts[name]())
        order.append(order.pop(0))
    return found


def interleaved(acts: Mapping[str, Act], *, rounds: int, calls: int) -> dict[str, Rounds]:
    """The seconds of each act, which comes so many times in each round."""

    def timed(act: Act) -> Callable[[], list[float]]:
        return lambda: [seconds_of(act) for _ in range(calls)]

    return in_turns({name: timed(act) for name, act in acts.items()}, rounds=rounds)


def seconds_of(act: Act) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def median(rounds: Rounds) -> float:
    return statistics.median(seconds for calls in rounds for seconds in calls)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Half of them are between the first and the last of these, and half below the middle one."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [*values] * 3
    return low, middle, high


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two medians; half of the rounds were between `low` and `high`."""

    value: float
    low: float
    high: float


def ratio(rounds: Rounds, base: Rounds) -> Ratio:
    """How many times as long as `base` it took."""
    each = [median([one]) / median([other]) for one, other in zip(rounds, base, strict=True)]
    low, _, high = quartiles(each)
    return Ratio(median(rounds) / median(base), low, high)


@dataclass(slots=True)
class Statements:
    """The SQL that was executed."""

    all: list[str] = field(default_factory=list)

    @property
    def writes(self) -> list[str]:
        return [sql for sql in self.all if WRITES.search(sql)]

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.all.append(sql)
        return execute(sql, params, many, context)


@contextmanager
def statements() -> Iterator[Statements]:
    """The SQL of this thread while the block runs."""
    found = Statements()
    with connection.execute_wrapper(found.execute):
        yield found
