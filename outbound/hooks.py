"""Telling the tenant: hooks that must run, and the signal for those who only want to know."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction

from outbound import metrics
from outbound.models import OutboundCall
from outbound.redaction import sanitise
from outbound.settlement import postponed_hooks, settled_hooks
from outbound.signals import call_settled
from outbound.statements import reread
from outbound.transactions import savepoint

logger = structlog.get_logger(__name__)

HOOK_SCHEDULE = (5, 30, 120, 600, 3600)


def run_settled_hooks(call: OutboundCall, *, now: datetime) -> bool:
    """Tell the tenant, in the caller's transaction. A failing hook is remembered on the row and
    run again by the sweep; it undoes nothing but itself. Returns whether all passed."""
    hooks = settled_hooks(call.adapter, call.operation)
    if not hooks:
        return True
    changes: dict[str, object]
    try:
        with savepoint():
            for hook in hooks:
                hook(call)
    except Exception as error:
        if connection.needs_rollback:  # not the hook: the savepoint is gone with the connection
            raise
        metrics.hook_failures.labels(call.adapter, call.operation).inc()
        logger.exception("hook_failed", call_id=str(call.pk), adapter=call.adapter)
        wait = HOOK_SCHEDULE[min(call.hook_attempts, len(HOOK_SCHEDULE) - 1)]
        changes = {
            "hook_due_at": now + timedelta(seconds=wait),
            "hook_attempts": call.hook_attempts + 1,
            "hook_error": sanitise(f"{type(error).__name__}: {error}"),
        }
        passed = False
    else:
        changes = {"hook_due_at": None, "hook_error": ""}
        passed = True
        if call.hook_due_at is None:
            return passed
    OutboundCall.objects.filter(pk=call.pk).update(**changes)
    return passed


def run_postponed_hooks(call: OutboundCall) -> None:
    """Tell the tenant that a call has to wait. What fails is logged, and undoes nothing but itself:
    the call goes on as it would have."""
    hooks = postponed_hooks(call.adapter, call.operation)
    if not hooks:
        return
    reread(call)
    try:
        with savepoint():
            for hook in hooks:
                hook(call)
    except Exception as error:
        if connection.needs_rollback:  # not the hook: the savepoint is gone with the connection
            raise
        logger.exception("postponed_hook_failed", call_id=str(call.pk), error=type(error).__name__)


def send_settled(call: OutboundCall) -> None:
    """Send the `call_settled` signal after commit; a receiver that fails is logged."""

    def send() -> None:
        for receiver, answer in call_settled.send_robust(OutboundCall, call=call):
            if isinstance(answer, Exception):
                logger.error("signal_receiver_failed", receiver=repr(receiver), exc_info=answer)

    transaction.on_commit(send)
