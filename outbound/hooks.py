"""Telling the tenant: hooks that must run, and the signal for those who only want to know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction

from outbound import metrics
from outbound.models import OutboundCall
from outbound.redaction import sanitise
from outbound.settlement import Hook, postponed_hooks, settled_hooks
from outbound.signals import call_settled
from outbound.statements import reread
from outbound.transactions import savepoint

logger = structlog.get_logger(__name__)

HOOK_SCHEDULE = (5, 30, 120, 600, 3600)


def run_settled_hooks(call: OutboundCall, *, now: datetime) -> bool:
    """Tell the tenant, in the caller's transaction. A failing hook is remembered on the row and
    run again by the sweep; it undoes nothing but itself. Returns whether all passed."""
    error = _run(settled_hooks(call.adapter, call.operation), call)
    changes: dict[str, object] = {"hook_due_at": None, "hook_error": ""}
    if error is not None:
        metrics.hook_failures.labels(call.adapter, call.operation).inc()
        logger.error("hook_failed", call_id=str(call.pk), adapter=call.adapter, exc_info=error)
        wait = HOOK_SCHEDULE[min(call.hook_attempts, len(HOOK_SCHEDULE) - 1)]
        changes = {
            "hook_due_at": now + timedelta(seconds=wait),
            "hook_attempts": call.hook_attempts + 1,
            "hook_error": sanitise(f"{type(error).__name__}: {error}"),
        }
    elif call.hook_due_at is None:
        return True
    OutboundCall.objects.filter(pk=call.pk).update(**changes)
    return error is None


def run_postponed_hooks(call: OutboundCall) -> None:
    """Tell the tenant that a call has to wait. What fails is logged, and undoes nothing but itself:
    the call goes on as it would have."""
    hooks = postponed_hooks(call.adapter, call.operation)
    if not hooks:
        return
    reread(call)
    error = _run(hooks, call)
    if error is not None:
        logger.error("postponed_hook_failed", call_id=str(call.pk), exc_info=error)


def _run(hooks: Sequence[Hook], call: OutboundCall) -> Exception | None:
    """What a hook has met, which then has undone itself and the others; None when all passed."""
    if not hooks:
        return None
    try:
        with savepoint():
            for hook in hooks:
                hook(call)
    except Exception as error:
        if connection.needs_rollback:  # not the hook: the savepoint is gone with the connection
            raise
        return error
    return None


def send_settled(call: OutboundCall) -> None:
    """Send the `call_settled` signal after commit; a receiver that fails is logged."""

    def send() -> None:
        for receiver, answer in call_settled.send_robust(OutboundCall, call=call):
            if isinstance(answer, Exception):
                logger.error("signal_receiver_failed", receiver=repr(receiver), exc_info=answer)

    transaction.on_commit(send)
