"""The Circuit row: the storage that all breakers of a name share.

Every change of state is a compare-and-swap on `version`, by the database's clock, and writes its
transition in the same transaction. Exactly one process wins it, and tells of it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pybreaker
import structlog
from django.db import transaction
from django.db.models import QuerySet

from outbound import clock, metrics
from outbound.models import Circuit, CircuitTransition
from outbound.redaction import storable
from outbound.signals import circuit_changed
from outbound.states import CircuitMode, CircuitState

logger = structlog.get_logger(__name__)

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
UNTOLD = timedelta(seconds=10)  # after which the sweep says what a crashed process did not
EVENTS = {
    CircuitState.OPEN: "circuit_opened",
    CircuitState.HALF_OPEN: "circuit_half_open",
    CircuitState.CLOSED: "circuit_closed",
}


class CircuitStorage(pybreaker.CircuitBreakerStorage):
    """pybreaker's storage over one row, which is made when it is first read."""

    def __init__(self, name: str, *, adapter: str = "") -> None:
        super().__init__(name)
        self._adapter = adapter

    def read(self) -> Circuit:
        circuit = Circuit.objects.filter(pk=self.name).first()
        if circuit is not None:
            return circuit
        fresh = Circuit(
            name=self.name,
            adapter=self._adapter,
            counting_from=BEGINNING,
            updated_at=clock.now(),
        )
        Circuit.objects.bulk_create([fresh], ignore_conflicts=True)
        return Circuit.objects.get(pk=self.name)

    @property  # type: ignore[misc]  # set by `change` only
    def state(self) -> str:
        return str(self.read().state)

    @property
    def counter(self) -> int:
        return self.read().failures

    @property
    def success_counter(self) -> int:
        return self.read().successes

    @property  # type: ignore[misc]  # likewise
    def opened_at(self) -> datetime | None:
        return self.read().opened_at


@transaction.atomic
def change(
    circuit: Circuit,
    state: CircuitState,
    *,
    now: datetime,
    why: str,
    mode: CircuitMode | None = None,
    actor: str = "",
    **columns: Any,
) -> CircuitTransition | None:
    """Change a circuit as it was read. None when another process has changed it meanwhile."""
    mode = CircuitMode(circuit.mode) if mode is None else mode
    won = Circuit.objects.filter(pk=circuit.pk).change(
        version=circuit.version, state=state, mode=mode, updated_at=now, **columns
    )
    if not won:
        return None
    transition = CircuitTransition.objects.create(
        circuit=circuit,
        at=now,
        from_state=circuit.state,
        to_state=state,
        mode=mode,
        why=storable(why, limit=500),
        actor=storable(actor, limit=150),
        incident=columns.get("incident") or circuit.incident,
    )
    transaction.on_commit(lambda: tell(transition))
    return transition


def tell(transition: CircuitTransition) -> bool:
    """The log line and the signal of a change; once, whoever calls it first."""
    untold = CircuitTransition.objects.filter(pk=transition.pk, told_at=None)
    if not untold.update(told_at=clock.now()):
        return False
    state = CircuitState(transition.to_state)
    changed = transition.from_state != transition.to_state
    if changed:
        metrics.circuit_transitions.labels(transition.circuit_id, state).inc()
    say = logger.warning if changed and state == CircuitState.OPEN else logger.info
    say(
        EVENTS[state] if changed else "circuit_mode",
        circuit=transition.circuit_id,
        mode=transition.mode,
        why=transition.why,
        actor=transition.actor or None,
        incident=str(transition.incident) if transition.incident else None,
        first=begins_incident(transition),
    )
    for receiver, answer in circuit_changed.send_robust(Circuit, transition=transition):
        if isinstance(answer, Exception):
            logger.error("signal_receiver_failed", receiver=repr(receiver), exc_info=answer)
    return True


def begins_incident(transition: CircuitTransition) -> bool:
    """Whether this is the first opening, and not one after a probe that failed."""
    states = (transition.from_state, transition.to_state)
    return states == (CircuitState.CLOSED, CircuitState.OPEN)


def tell_untold(*, limit: int = 100) -> int:
    """Tell of changes whose winner died before it could. Returns how many."""
    return sum(tell(transition) for transition in untold().order_by("at")[:limit])


def untold() -> QuerySet[CircuitTransition]:
    """Changes of which nothing has been said, although there was time for it."""
    return CircuitTransition.objects.filter(told_at=None, at__lte=clock.now() - UNTOLD)
