"""Calls brought into a status by the doors that lead there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from outbound import engine
from outbound.errors import (
    AdapterBug,
    OutcomeUnknown,
    PermanentError,
    StoredFailure,
    TransientError,
)
from outbound.models import CallAttempt, OutboundCall
from outbound.services import cancel_call, enqueue_call
from outbound.states import CallStatus
from tests.outbound.scripted import Script

PAYLOAD = {"n": 1}


def enqueue(operation: str = "create", **arguments: Any) -> OutboundCall:
    """A PENDING call of the scripted adapter."""
    arguments = {"payload": PAYLOAD, **arguments}
    return enqueue_call(adapter="scripted", operation=operation, **arguments)


def attempt(call: OutboundCall) -> OutboundCall:
    """Make one attempt, a bug of the adapter included, and read the row again."""
    with suppress(AdapterBug):
        engine.deliver(call.pk)
    return reread(call)


def reread(call: OutboundCall) -> OutboundCall:
    return OutboundCall.objects.get(pk=call.pk)


def attempts(call: OutboundCall) -> list[CallAttempt]:
    return list(CallAttempt.objects.filter(call=call).order_by("number"))


def call_in(
    status: CallStatus, script: Script, operation: str = "create", **arguments: Any
) -> OutboundCall:
    """A call in this status. A RUNNING one was left by a worker that died."""
    call = enqueue(operation, **arguments)
    if status == CallStatus.CANCELLED:
        return cancel_call(call_id=call.pk)
    if status != CallStatus.PENDING:
        lost = OutcomeUnknown("lost") if operation == "notify" else StoredFailure("stored")
        script.answers.clear()
        answers: dict[CallStatus, BaseException] = {
            CallStatus.RUNNING: ZeroDivisionError("a bug"),
            CallStatus.RETRYING: TransientError("refused", code="away"),
            CallStatus.UNKNOWN: lost,
            CallStatus.FAILED: PermanentError("declined", code="card_declined", http_status=400),
        }
        if status in answers:
            script.then(answers[status])
        call = attempt(call)
    assert call.status == status
    return call
