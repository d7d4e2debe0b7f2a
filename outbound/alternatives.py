"""For tenants that can ask somebody else: who is out of order, and which calls may be given up here
without a doubt that they had an effect."""

from __future__ import annotations

from outbound import clock, registry
from outbound.models import CallAttempt, Circuit, OutboundCall
from outbound.parking import is_blocking
from outbound.states import WAITING, AttemptOutcome, CallStatus, CircuitMode, CircuitState

DOUBTFUL = (AttemptOutcome.UNKNOWN, AttemptOutcome.CRASHED, AttemptOutcome.SUPERSEDED)


def is_circuit_open(*, adapter: str, operation: str, account: str = "") -> bool:
    """Whether a call of this sort would be parked for a while. One that may be a probe would not
    be: somebody has to try. Raises UnknownAdapter, UnknownOperation, ImproperlyConfigured."""
    name = registry.circuit_name(adapter, operation, account)
    circuit = Circuit.objects.filter(pk=name).first()
    return circuit is not None and _holds(circuit)


def blocked_circuits() -> list[str]:
    """The circuits through which nothing goes for a while."""
    return [circuit.name for circuit in Circuit.objects.blocking() if _holds(circuit)]


def _holds(circuit: Circuit) -> bool:
    if circuit.mode != CircuitMode.AUTO or circuit.state != CircuitState.OPEN:
        return circuit.mode == CircuitMode.FORCED_OPEN and is_blocking(circuit)
    return circuit.open_until is None or circuit.open_until > clock.now()


def lock_call(call_id: object) -> OutboundCall | None:
    """The call, held until the caller's transaction ends: before any row of the tenant's own, as
    the engine does it."""
    return OutboundCall.objects.select_for_update().with_id(call_id).first()


def may_be_asked_elsewhere(call: OutboundCall) -> bool:
    """Whether another provider may be asked for the same: the call waits or has failed, and none
    of its attempts, with whatever key, left a doubt about its effect."""
    if call.status not in WAITING | {CallStatus.FAILED}:
        return False
    tries = CallAttempt.objects.filter(call=call)
    return not (tries.filter(outcome__in=DOUBTFUL).exists() or tries.may_have_worked().exists())
