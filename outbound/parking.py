"""Calls that wait for a circuit or a limit: put aside without an attempt, let go in good order.

While a circuit is open its calls are not announced at all: that costs nothing, however many there
are. When a probe may go, as many are announced as may be probes. When the circuit has closed, the
waiting calls are spread along a ramp, twice as many each second: important and old ones first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import F, Q

from outbound import clock, hints, metrics, permits, registry
from outbound.errors import CallRefused, DeliveryError
from outbound.hints import Hint
from outbound.models import CallQuerySet, Circuit, OutboundCall
from outbound.plain import rows
from outbound.policy import HINT_LIMIT
from outbound.redaction import sanitise
from outbound.states import CallStatus, CircuitMode, CircuitState

logger = structlog.get_logger(__name__)

DELIVER_TASK = "outbound.deliver_call"
SEVERAL = ("outbound.deliver_calls", "call_ids")
BATCH = 500
RAMP_STEPS = 30  # each doubles the number of calls let go: after that many, all are
JITTER = 0.2

# Said as the index `call_parked` is, or SQLite would not read it: every call that gives back a
# place asks this.
ANYBODY = """SELECT 1 FROM outbound_outboundcall
    WHERE parked_by = %s AND NOT parked_by = '' AND status IN ('pending', 'retrying') LIMIT 1
"""

Announce = Callable[[Hint], None]


def deliver_hint(call: OutboundCall, *, countdown: int | None = None) -> Hint:
    """The message that a call may be due."""
    return Hint(DELIVER_TASK, queue_of(call.adapter), {"call_id": str(call.pk)}, countdown, SEVERAL)


def queue_of(adapter: str) -> str:
    try:
        return registry.queue_for(adapter)
    except CallRefused:  # a worker parks it, and says why on the row
        return str(settings.CELERY_TASK_DEFAULT_QUEUE)


def park(
    call: OutboundCall,
    *,
    until: datetime,
    why: str,
    waits_for: str = "",
    error: DeliveryError | None = None,
    exact: bool = False,
) -> bool:
    """Postpone without spending an attempt. `exact`: at `until`, and a message shall say so; else
    a little later, each call by another bit. Returns whether the call was still waiting."""
    now = clock.now()
    wait = max((until - now).total_seconds(), 0.0)
    if not exact:
        wait *= random.uniform(1, 1 + JITTER)
    due_at = now + timedelta(seconds=wait)
    announced = exact and wait <= HINT_LIMIT and hints.reaches_workers()
    changes: dict[str, object] = {}
    if error is not None and not call.attempts:  # else the row shows what the last attempt met
        changes = {
            "error_kind": error.kind,
            "error_code": sanitise(error.code, limit=100),
            "error_param": sanitise(error.param, limit=100),
            "error_message": sanitise(error.message),
            "error_http_status": error.http_status,
        }
    status = CallStatus(call.status)
    parked = OutboundCall.objects.filter(pk=call.pk).move_to(
        status,
        sources={status},
        now=now,
        due_at=due_at,
        hint_at=due_at + (hints.grace() if announced else timedelta(0)),
        rule=sanitise(why)[:200],
        parked_by=waits_for,
        **changes,
    )
    if parked:
        metrics.parks.labels(call.adapter, error.kind if error else "not_now").inc()
        logger.warning("call_parked", call_id=str(call.pk), adapter=call.adapter, why=why)
    if parked and announced:
        hints.announce(deliver_hint(call, countdown=max(math.ceil(wait), 1)))
    return bool(parked)


def wake(waits_for: str, *, limit: int, announce: Announce = hints.announce) -> int:
    """Let the most important and oldest calls that wait for a limit try again. Returns how many."""
    if not rows(ANYBODY, [waits_for]):
        return 0
    waiting = OutboundCall.objects.waiting().filter(parked_by=waits_for)
    return _let_go(waiting, limit=limit, mark=waits_for, announce=announce)


def held_circuits() -> list[Circuit]:
    """The circuits whose calls are not announced as usual: blocked, or on the ramp."""
    since = clock.now() - ramp_length()
    blocking = Circuit.objects.blocking()
    return list(blocking | Circuit.objects.filter(closed_at__gt=since))


def ramp_length() -> timedelta:
    return timedelta(seconds=RAMP_STEPS * settings.OUTBOUND_RAMP_STEP_SECONDS)


def is_blocking(circuit: Circuit) -> bool:
    if circuit.mode == CircuitMode.AUTO:
        return circuit.state != CircuitState.CLOSED
    return circuit.mode == CircuitMode.FORCED_OPEN


def unheld(calls: CallQuerySet, held: list[Circuit]) -> CallQuerySet:
    """Without the calls that must wait for their circuit. Those that the ramp has let go are not
    among them."""
    blocked = [circuit.name for circuit in held if is_blocking(circuit)]
    ramping = [circuit.name for circuit in held if not is_blocking(circuit)]
    if blocked:
        calls = calls.exclude(circuit__in=blocked)
    if ramping:
        marks = [_ramp_mark(name) for name in ramping]
        calls = calls.exclude(Q(circuit__in=ramping) & ~Q(parked_by__in=marks))
    return calls


def let_go(circuit: Circuit, *, limit: int, announce: Announce = hints.announce) -> int:
    """As many of a held circuit's calls as may go now: probes, or the next on the ramp."""
    if not is_blocking(circuit):
        return release(circuit, limit=limit, announce=announce)
    now = clock.now()
    if circuit.mode != CircuitMode.AUTO:
        return 0
    if circuit.state == CircuitState.OPEN and circuit.open_until and circuit.open_until > now:
        return 0
    return _send_probes(circuit, limit=limit, announce=announce)


def follow(name: str) -> None:
    """After a probe has ended, or a circuit has changed: let go at once what may go now."""
    circuit = Circuit.objects.filter(pk=name).first()
    if circuit is not None:
        let_go(circuit, limit=BATCH)


def _send_probes(circuit: Circuit, *, limit: int, announce: Announce) -> int:
    now, mark = clock.now(), f"probe:{circuit.name}"
    probes = registry.thresholds_for(circuit.adapter).probes
    on_their_way = OutboundCall.objects.waiting().filter(parked_by=mark, hint_at__gt=now).count()
    room = probes - permits.held(mark) - on_their_way
    if room <= 0:
        return 0
    return _let_go(_waiting_for(circuit), limit=min(room, limit), mark=mark, announce=announce)


def release(circuit: Circuit, *, limit: int = BATCH, announce: Announce = hints.announce) -> int:
    """Spread waiting calls of a circuit that has closed along the ramp: the first at once, the
    n-th log2(n) steps later. Only as far as the next sweep."""
    if circuit.closed_at is None:
        return 0
    now = clock.now()
    step = settings.OUTBOUND_RAMP_STEP_SECONDS
    ahead = (now - circuit.closed_at).total_seconds() + settings.OUTBOUND_SWEEP_SECONDS
    room = int(2 ** min(ahead / step, RAMP_STEPS)) - circuit.released
    waiting = _waiting_for(circuit)
    calls = list(waiting.order_by("priority", "created_at")[: max(min(room, limit), 0)])
    if not calls:
        return 0
    Circuit.objects.filter(pk=circuit.pk).update(released=F("released") + len(calls))
    released = 0
    for place, call in enumerate(calls, start=circuit.released + 1):
        due_at = max(now, circuit.closed_at + timedelta(seconds=step * math.log2(place)))
        again_at = due_at + _announced_for()
        mark = _ramp_mark(circuit.name)
        won = waiting.filter(pk=call.pk).update(due_at=due_at, hint_at=again_at, parked_by=mark)
        if won:
            seconds = math.ceil((due_at - now).total_seconds())
            announce(deliver_hint(call, countdown=seconds or None))
            released += 1
    return released


def _ramp_mark(name: str) -> str:
    return f"ramp:{name}"


def _waiting_for(circuit: Circuit) -> CallQuerySet:
    """Calls that could go if the circuit let them, and of which no message speaks."""
    now = clock.now()
    return OutboundCall.objects.waiting().filter(
        Q(parked_by=circuit.name) | Q(due_at__lte=now, hint_at__lte=now), circuit=circuit.name
    )


def _let_go(calls: CallQuerySet, *, limit: int, mark: str, announce: Announce) -> int:
    now = clock.now()
    gone = 0
    for call in calls.order_by("priority", "created_at").only("pk", "adapter")[:limit]:
        won = calls.filter(pk=call.pk).update(
            due_at=now, hint_at=now + _announced_for(), parked_by=mark
        )
        if won:
            announce(deliver_hint(call))
            gone += 1
    return gone


def _announced_for() -> timedelta:
    """How long a call that was just announced is not announced again."""
    return hints.grace()
