"""Counting what went well and what did not, over all processes, without a write per healthy call.

Around the engine's calls nothing needs to be written at all: each attempt has its row, and
`AttemptTally` counts those when something has failed. Around other code `SliceTally` keeps what
went well in memory and writes it down once there is a failure, wherever that was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum

from outbound.models import CallAttempt, Circuit, CircuitTally
from outbound.states import AttemptOutcome

FAILURES = (AttemptOutcome.TRANSIENT, AttemptOutcome.UNKNOWN)
COUNTED = (AttemptOutcome.SUCCEEDED, *FAILURES)
LONGEST_ATTEMPT = timedelta(minutes=5)  # one that ended within the window began not earlier
SLICES = 12  # of a window


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the calls that ended within the window."""

    calls: int
    failures: int
    slow: int


class Tally(Protocol):
    """How a breaker counts."""

    def success(self, circuit: Circuit, *, now: datetime | None, slow: bool) -> None:
        """Something went well. `now` is None where nobody had to ask for the time."""

    def failure(self, circuit: Circuit, *, now: datetime, slow: bool) -> None:
        """Something failed."""

    def counts(self, circuit: Circuit, *, since: datetime, slow_seconds: float) -> Counts:
        """What ended after `since`."""

    def failures_in_a_row(self, circuit: Circuit, *, since: datetime, limit: int) -> int:
        """How many of the last `limit` failed without a success after them."""


class AttemptTally:
    """Counts the attempts of the calls that go through a circuit: exact over the whole fleet."""

    def success(self, circuit: Circuit, *, now: datetime | None, slow: bool) -> None:
        """Its row is there already."""

    def failure(self, circuit: Circuit, *, now: datetime, slow: bool) -> None:
        """Its row is there already."""

    def counts(self, circuit: Circuit, *, since: datetime, slow_seconds: float) -> Counts:
        found = self._ended(circuit, since).aggregate(
            calls=Count("pk"),
            failures=Count("pk", filter=Q(outcome__in=FAILURES)),
            slow=Count("pk", filter=Q(duration__gte=timedelta(seconds=slow_seconds))),
        )
        return Counts(**found)

    def failures_in_a_row(self, circuit: Circuit, *, since: datetime, limit: int) -> int:
        ended = self._ended(circuit, since).order_by("-finished_at", "-pk")
        outcomes = list(ended.values_list("outcome", flat=True)[:limit])
        succeeded = [outcome == AttemptOutcome.SUCCEEDED for outcome in outcomes]
        return succeeded.index(True) if True in succeeded else len(outcomes)

    def _ended(self, circuit: Circuit, since: datetime) -> QuerySet[CallAttempt]:
        return CallAttempt.objects.filter(
            circuit=circuit.name,
            started_at__gt=max(since, EARLIEST) - LONGEST_ATTEMPT,
            finished_at__gt=since,
            outcome__in=COUNTED,
        ).exclude(error_kind="not_sent_here")


EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)


class SliceTally:
    """Counts in slices of the window, for breakers around code that leaves no attempts. What is
    counted is up to one slice older than the window.

    What goes well is kept in memory; a process writes it down with its next failure, or with its
    next success once the row shows that somebody else has met one.
    """

    def __init__(self, *, window: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._slice = window / SLICES
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, str], int] = {}  # by slices of the process's own clock

    def success(self, circuit: Circuit, *, now: datetime | None, slow: bool) -> None:
        self._keep("successes", slow)
        if now is not None:  # somebody has met a failure
            self._write_down(circuit, now)
            Circuit.objects.filter(pk=circuit.pk, failures__gt=0).update(failures=0)

    def failure(self, circuit: Circuit, *, now: datetime, slow: bool) -> None:
        self._keep("failures", slow)
        self._write_down(circuit, now)
        Circuit.objects.filter(pk=circuit.pk).update(failures=F("failures") + 1)

    def counts(self, circuit: Circuit, *, since: datetime, slow_seconds: float) -> Counts:
        found = CircuitTally.objects.filter(circuit=circuit, slice_at__gt=since).aggregate(
            successes=Sum("successes", default=0),
            failures=Sum("failures", default=0),
            slow=Sum("slow", default=0),
        )
        return Counts(found["successes"] + found["failures"], found["failures"], found["slow"])

    def failures_in_a_row(self, circuit: Circuit, *, since: datetime, limit: int) -> int:
        return Circuit.objects.values_list("failures", flat=True).get(pk=circuit.pk)

    def _keep(self, what: str, slow: bool) -> None:
        place = int(self._monotonic() / self._slice)
        with self._lock:
            if (place, what) not in self._kept:  # a new slice: what has left the window is let go
                self._kept = {k: n for k, n in self._kept.items() if k[0] >= place - SLICES}
            for each in (what, "slow") if slow else (what,):
                self._kept[place, each] = self._kept.get((place, each), 0) + 1

    def _write_down(self, circuit: Circuit, now: datetime) -> None:
        """Add what was kept to the slices, which are cut by the database's clock."""
        with self._lock:
            kept, self._kept = self._kept, {}
        here, there = int(self._monotonic() / self._slice), int(now.timestamp() / self._slice)
        slices: dict[int, dict[str, int]] = {}
        for (place, what), count in kept.items():
            if place >= here - SLICES:
                slices.setdefault(there + place - here, {})[what] = count
        with transaction.atomic():
            for place, counts in sorted(slices.items()):
                at = datetime.fromtimestamp((place + 1) * self._slice, UTC)
                CircuitTally.objects.bulk_create(
                    [CircuitTally(circuit=circuit, slice_at=at)], ignore_conflicts=True
                )
                CircuitTally.objects.filter(circuit=circuit, slice_at=at).update(
                    **{what: F(what) + count for what, count in counts.items()}
                )
