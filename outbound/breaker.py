"""A circuit breaker that every process shares, with pybreaker's interface.

pybreaker holds a lock while the guarded code runs and counts for itself in each process. Here a
call is `admit -> call -> succeeded | failed`: each is one operation on the shared row, and nothing
is held in between.
"""

from __future__ import annotations

import random
import time
import types
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

import pybreaker
import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from outbound import clock, permits
from outbound.circuits import CircuitStorage, change
from outbound.errors import ReasonRequired
from outbound.metrics import circuit_failed_open
from outbound.models import Circuit, CircuitTally, CircuitTransition, Permit
from outbound.redaction import storable
from outbound.states import CircuitMode, CircuitState
from outbound.tallies import SliceTally, Tally
from outbound.thresholds import Thresholds

logger = structlog.get_logger(__name__)

STORAGE_AWAY = (OperationalError, InterfaceError)
CACHE_SECONDS = 1.0
WARN_SECONDS = 60.0
TRIES = 8  # to change a row that others change at the same time

T = TypeVar("T")


class CircuitRefused(pybreaker.CircuitBreakerError):
    """The circuit lets nothing through now. `retry_at`: when it may do so at the earliest."""

    def __init__(self, circuit: str, *, retry_at: datetime, why: str) -> None:
        super().__init__(why)
        self.circuit = circuit
        self.retry_at = retry_at
        self.why = why


@dataclass(frozen=True, slots=True)
class Admission:
    """The right to make one call. `probe`: the permit of a probe. `seen`: the circuit as it was
    when it let the call through; None when its storage could not answer."""

    circuit: str
    probe: uuid.UUID | None = None
    seen: Circuit | None = None


class SharedCircuitBreaker(pybreaker.CircuitBreaker):
    """A pybreaker.CircuitBreaker whose state is a row.

    The first arguments are pybreaker's (`fail_max` consecutive failures, `reset_timeout` seconds,
    `success_threshold`); `thresholds` takes their place. A call that trips the breaker raises its
    own error, unless `throw_new_error_on_trip`. Excluded errors neither trip nor heal.
    """

    def __init__(
        self,
        fail_max: int = 5,
        reset_timeout: float = 60,
        success_threshold: int = 1,
        exclude: Iterable[Any] | None = None,
        listeners: Sequence[Any] | None = None,
        name: str = "default",
        throw_new_error_on_trip: bool = False,
        *,
        adapter: str = "",
        thresholds: Thresholds | None = None,
        tally: Tally | None = None,
        cache_seconds: float = CACHE_SECONDS,
    ) -> None:
        super().__init__(
            fail_max=fail_max,
            reset_timeout=reset_timeout,
            success_threshold=success_threshold,
            exclude=exclude,
            listeners=listeners,
            name=name,
            throw_new_error_on_trip=throw_new_error_on_trip,
        )  # with a storage in memory: nothing is read before the first call
        self.thresholds = thresholds or Thresholds(
            consecutive_failures=fail_max,
            open_seconds=reset_timeout,
            open_seconds_max=max(reset_timeout, 600.0),
            successes=success_threshold,
        )
        self._circuit_name = name
        self._storage = CircuitStorage(name, adapter=adapter)
        self._state_storage = self._storage
        self._tally = tally or SliceTally(window=self.thresholds.window)
        self._cache_seconds = cache_seconds
        self._cached: tuple[float, Circuit] | None = None
        self._warned_at = -WARN_SECONDS

    # --- one call

    def admit(self, *, fresh: bool = False) -> Admission:
        """Let a call through, or raise CircuitRefused. `fresh`: read the row, however lately it
        was read. While the storage cannot answer everything is let through, unguarded."""
        try:
            return self._admit(fresh=fresh)
        except STORAGE_AWAY as error:
            self._fail_open(error)
            return Admission(self._circuit_name)

    def succeeded(self, admission: Admission, *, seconds: float = 0.0) -> CircuitTransition | None:
        """The call went well. Returns the change of the circuit that this made, if any."""
        if admission.seen is None:
            return None
        try:
            return self._succeeded(admission, admission.seen, seconds)
        except STORAGE_AWAY as error:
            self._fail_open(error)
            return None

    def failed(
        self, admission: Admission, error: BaseException | None = None, *, seconds: float = 0.0
    ) -> CircuitTransition | None:
        """The call failed, and that was the provider's fault. Returns as `succeeded`."""
        if admission.seen is None:
            return None
        try:
            return self._failed(admission, admission.seen, seconds)
        except STORAGE_AWAY as away:
            self._fail_open(away)
            return None

    def forgo(self, admission: Admission) -> None:
        """There is no verdict: not called, or it says nothing. A probe's place is free again."""
        if admission.probe is None:
            return
        try:
            permits.return_permit(self._probes, admission.probe)
        except STORAGE_AWAY as error:
            self._fail_open(error)

    def call(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `func`. Raises CircuitRefused instead while the circuit is open."""
        admission = self.admit()
        for listener in self.listeners:
            listener.before_call(self, func, *args, **kwargs)
        started = time.monotonic()
        with self._judged(admission, started) as judge:
            result = func(*args, **kwargs)
            if isinstance(result, types.GeneratorType):
                judge.later = True
        if isinstance(result, types.GeneratorType):
            return self._follow(result, admission, started)  # type: ignore[return-value]
        return result

    def call_async(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Not offered: a coroutine must not wait for a database on its event loop."""
        raise TypeError("a shared breaker guards ordinary functions, not coroutines")

    def _follow(
        self, generator: Generator[Any, Any, Any], admission: Admission, started: float
    ) -> Generator[Any, Any, Any]:
        with self._judged(admission, started):
            return (yield from generator)

    def _judged(self, admission: Admission, started: float) -> _Judge:
        return _Judge(self, admission, started)

    # --- operators

    def force(self, mode: CircuitMode, *, reason: str = "", actor: str = "") -> CircuitTransition:
        """Let an operator decide, or (AUTO) the counts again: then an open circuit may be probed
        at once, and a closed one counts from now. Raises ReasonRequired."""
        if mode != CircuitMode.AUTO and not reason.strip():
            raise ReasonRequired("say why the circuit is taken out of its hands")
        for circuit in self._rows():
            now = clock.now()
            columns: dict[str, Any] = {"counting_from": now}
            if circuit.state != CircuitState.CLOSED and mode == CircuitMode.AUTO:
                columns = {"open_until": now}
            done = change(
                circuit,
                CircuitState(circuit.state),
                now=now,
                why=reason.strip() or "automatic again",
                mode=mode,
                actor=actor,
                mode_reason=storable(reason.strip(), limit=500),
                mode_actor=storable(actor, limit=150),
                **columns,
            )
            if done is not None:
                return self._won(done)
        raise RuntimeError(f"circuit {self._circuit_name} is changed by others all the time")

    def open(self) -> bool:
        """Open it now, as if its threshold had been reached."""
        for circuit in self._rows():
            if circuit.state == CircuitState.OPEN or self._open(circuit, "opened by the program"):
                break
        return self._throw_new_error_on_trip

    def half_open(self) -> None:
        """Let probes through now."""
        for circuit in self._rows():
            if circuit.state == CircuitState.HALF_OPEN or self._half_open(circuit, clock.now()):
                break

    def close(self) -> None:
        """Close it now, and count from now."""
        for circuit in self._rows():
            if circuit.state == CircuitState.CLOSED or self._close(circuit, "closed by program"):
                break

    @property
    def state(self) -> Any:
        """pybreaker's state object. Looking at it changes nothing and tells no listener."""
        return self._create_new_state(self.current_state)

    @state.setter
    def state(self, state: str) -> None:
        {"open": self.open, "half-open": self.half_open, "closed": self.close}[state]()

    # --- behind the doors

    @property
    def _probes(self) -> str:
        return f"probe:{self._circuit_name}"

    def _rows(self) -> Iterator[Circuit]:
        """The row, read anew for each try to change it."""
        for _ in range(TRIES):
            yield self._storage.read()

    def _admit(self, *, fresh: bool) -> Admission:
        circuit = None if fresh else self._recent()
        if circuit is not None:
            return Admission(self._circuit_name, seen=circuit)
        for circuit in self._rows():
            if _lets_through(circuit):
                self._cached = (time.monotonic(), circuit)
                return Admission(self._circuit_name, seen=circuit)
            now = clock.now()
            if circuit.mode == CircuitMode.FORCED_OPEN:
                retry_at = now + timedelta(seconds=self.thresholds.open_seconds)
                raise self._refused(retry_at, f"held open: {circuit.mode_reason}")
            admission = self._admit_through(circuit, now)
            if admission is not None:
                return admission
        raise self._refused(clock.now() + timedelta(seconds=1), "the circuit changes just now")

    def _admit_through(self, circuit: Circuit, now: datetime) -> Admission | None:
        """Past an open or half-open circuit; None when it changed while we looked."""
        observed = circuit.mode == CircuitMode.OBSERVE
        if circuit.state == CircuitState.OPEN:
            if circuit.open_until is not None and circuit.open_until > now:
                if observed:
                    return Admission(self._circuit_name, seen=circuit)
                raise self._refused(circuit.open_until, "the circuit is open")
            self._half_open(circuit, now)
            return None
        if observed:
            return Admission(self._circuit_name, seen=circuit)
        return self._admit_probe(circuit)

    def _admit_probe(self, circuit: Circuit) -> Admission | None:
        slots, lease = self.thresholds.probes, self.thresholds.probe_lease
        token = permits.take_permit(self._probes, slots=slots, seconds=lease)
        if token is None:
            retry_at = permits.next_permit_at(self._probes, slots=slots)
            raise self._refused(retry_at, "the circuit is half-open, and its probes are out")
        if not Circuit.objects.filter(
            pk=circuit.pk, state=CircuitState.HALF_OPEN, incident=circuit.incident,
            openings=circuit.openings,
        ).exists():  # fmt: skip
            permits.return_permit(self._probes, token)
            return None
        return Admission(self._circuit_name, probe=token, seen=circuit)

    def _recent(self) -> Circuit | None:
        if self._cached is None:
            return None
        read_at, circuit = self._cached
        return circuit if time.monotonic() - read_at < self._cache_seconds else None

    def _refused(self, retry_at: datetime, why: str) -> CircuitRefused:
        return CircuitRefused(self._circuit_name, retry_at=retry_at, why=why)

    def _succeeded(
        self, admission: Admission, seen: Circuit, seconds: float
    ) -> CircuitTransition | None:
        if admission.probe is not None or _is_watched_probe(seen):
            return self._probe_ended(admission, self._count_success)
        slow = self.thresholds.slow_rate is not None and seconds >= self.thresholds.slow_seconds
        recent = self._recent() or seen
        now = clock.now() if slow or recent.failures else None
        self._tally.success(recent, now=now, slow=slow)
        return self._consider(seen) if slow else None

    def _failed(
        self, admission: Admission, seen: Circuit, seconds: float
    ) -> CircuitTransition | None:
        if admission.probe is not None or _is_watched_probe(seen):
            return self._probe_ended(admission, lambda circuit: self._open(circuit, PROBE_FAILED))
        slow = self.thresholds.slow_rate is not None and seconds >= self.thresholds.slow_seconds
        self._tally.failure(seen, now=clock.now(), slow=slow)
        self._cached = None  # others may have changed it, and it has a failure now
        return self._consider(seen)

    def _probe_ended(
        self,
        admission: Admission,
        apply: Callable[[Circuit], CircuitTransition | bool | None],
    ) -> CircuitTransition | None:
        """Apply a probe's verdict, then give its place back. One that has lost its place, because
        it took too long, has no verdict; nor has one without a place, once observing is over."""
        outcome: CircuitTransition | bool | None = None
        if admission.probe is None or self._holds(admission.probe):
            for circuit in self._rows():
                if circuit.state != CircuitState.HALF_OPEN:
                    break
                if admission.probe is None and circuit.mode != CircuitMode.OBSERVE:
                    break
                outcome = apply(circuit)
                if outcome:
                    break
        self.forgo(admission)
        return outcome if isinstance(outcome, CircuitTransition) else None

    def _holds(self, token: uuid.UUID) -> bool:
        held = Permit.objects.filter(name=self._probes, token=token)
        return held.filter(expires_at__gt=clock.now()).exists()

    def _count_success(self, circuit: Circuit) -> CircuitTransition | bool | None:
        if circuit.successes + 1 >= self.thresholds.successes:
            return self._close(circuit, f"{circuit.successes + 1} probes succeeded")
        return Circuit.objects.filter(pk=circuit.pk).change(
            version=circuit.version, successes=circuit.successes + 1
        )

    def _consider(self, seen: Circuit) -> CircuitTransition | None:
        """Open the circuit if what has ended within the window asks for it."""
        for circuit in self._rows():
            decides = circuit.mode in (CircuitMode.AUTO, CircuitMode.OBSERVE)
            of_old = seen.counting_from < circuit.counting_from
            if not decides or of_old or circuit.state != CircuitState.CLOSED:
                return None
            why = self._reason_to_open(circuit)
            if not why:
                return None
            opened = self._open(circuit, why)
            if opened is not None:
                return opened
        return None

    def _reason_to_open(self, circuit: Circuit) -> str:
        bounds = self.thresholds
        window = timedelta(seconds=bounds.window)
        since = max(clock.now() - window, circuit.counting_from)
        counts = self._tally.counts(circuit, since=since, slow_seconds=bounds.slow_seconds)
        within = f"{counts.calls} calls within {bounds.window:g} s"
        if counts.calls >= bounds.minimum_calls:
            if counts.failures >= bounds.failure_rate * counts.calls:
                return f"{counts.failures} of {within} failed"
            if bounds.slow_rate is not None and counts.slow >= bounds.slow_rate * counts.calls:
                return f"{counts.slow} of {within} took {bounds.slow_seconds:g} s or more"
        limit = bounds.consecutive_failures
        if limit is not None:
            row = self._tally.failures_in_a_row(circuit, since=circuit.counting_from, limit=limit)
            if row >= limit:
                return f"{limit} failures in a row"
        return ""

    def _open(self, circuit: Circuit, why: str) -> CircuitTransition | None:
        bounds = self.thresholds
        seconds = min(bounds.open_seconds * 2 ** min(circuit.openings, 40), bounds.open_seconds_max)
        seconds *= random.uniform(1, 1 + bounds.jitter)
        with transaction.atomic():
            now = clock.fresh()  # inside: a claim that is first by the clock has seen it closed
            done = change(
                circuit,
                CircuitState.OPEN,
                now=now,
                why=why,
                opened_at=now,
                open_until=now + timedelta(seconds=seconds),
                openings=circuit.openings + 1,
                incident=circuit.incident or uuid.uuid4(),
                successes=0,
            )
        return None if done is None else self._won(done)

    def _half_open(self, circuit: Circuit, now: datetime) -> CircuitTransition | None:
        return self._change(
            circuit, CircuitState.HALF_OPEN, now=now, why="time for a probe", successes=0
        )

    def _close(self, circuit: Circuit, why: str) -> CircuitTransition | None:
        now = clock.now()
        closed = self._change(
            circuit,
            CircuitState.CLOSED,
            now=now,
            why=why,
            counting_from=now,
            closed_at=now,
            open_until=None,
            openings=0,
            incident=None,
            failures=0,
            released=0,
        )
        if closed is not None:
            CircuitTally.objects.filter(circuit=circuit).delete()
        return closed

    def _change(
        self, circuit: Circuit, state: CircuitState, *, now: datetime, why: str, **columns: Any
    ) -> CircuitTransition | None:
        done = change(circuit, state, now=now, why=why, **columns)
        return None if done is None else self._won(done)

    def _won(self, transition: CircuitTransition) -> CircuitTransition:
        """This process has made the change: it alone tells the listeners."""
        self._cached = None
        if transition.from_state != transition.to_state:
            before = self._create_new_state(transition.from_state)
            after = self._create_new_state(transition.to_state)
            for listener in self.listeners:
                listener.state_change(self, before, after)
        return transition

    def _fail_open(self, error: Exception) -> None:
        if connection.in_atomic_block:
            raise error
        circuit_failed_open.labels(circuit=self._circuit_name).inc()
        now = time.monotonic()
        if now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            logger.warning(
                "circuit_failed_open", circuit=self._circuit_name, error=type(error).__name__
            )


PROBE_FAILED = "a probe failed"


def _lets_through(circuit: Circuit) -> bool:
    if circuit.state == CircuitState.CLOSED:
        return circuit.mode != CircuitMode.FORCED_OPEN
    return circuit.mode == CircuitMode.FORCED_CLOSED


def _is_watched_probe(seen: Circuit) -> bool:
    """In observe mode nothing is held back, so every call of a half-open circuit is a probe."""
    return seen.mode == CircuitMode.OBSERVE and seen.state == CircuitState.HALF_OPEN


class _Judge:
    """Around the guarded code: what came of it goes to the breaker and its listeners."""

    def __init__(self, breaker: SharedCircuitBreaker, admission: Admission, started: float) -> None:
        self.later = False
        self._breaker = breaker
        self._admission = admission
        self._started = started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self.later:
            return
        breaker, seconds = self._breaker, time.monotonic() - self._started
        listeners: tuple[Any, ...] = breaker.listeners
        if error is None:
            breaker.succeeded(self._admission, seconds=seconds)
            for listener in listeners:
                listener.success(breaker)
        elif isinstance(error, Exception) and breaker.is_system_error(error):
            tripped = breaker.failed(self._admission, error, seconds=seconds)
            for listener in listeners:
                listener.failure(breaker, error)
            if tripped is not None and breaker._throw_new_error_on_trip:  # noqa: SLF001 - ours
                raise pybreaker.CircuitBreakerError("the circuit has opened") from error
        else:  # an excluded error, or the end of the process
            breaker.forgo(self._admission)
