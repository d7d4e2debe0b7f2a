"""Celery tasks: they choose only when. Ids in, nothing out; unknown arguments are tolerated,
since old workers meet the messages of new code during a deploy."""

from __future__ import annotations

import math
from typing import Any

import structlog
from celery import Task, current_app, shared_task
from celery.exceptions import Ignore, Reject
from django.conf import settings

from outbound import engine
from outbound.dead_letters import DeadLetter, drain, mark_rows, on_dead_letter
from outbound.errors import TransientError
from outbound.gates import DATABASE_AWAY
from outbound.leases import periodic_lease
from outbound.models import OutboundCall
from outbound.redaction import storable
from outbound.sweep import look_up
from outbound.sweep import sweep as sweep_once

logger = structlog.get_logger(__name__)

DEAD_LETTERS = 100


class DeliveryTask(Task):  # type: ignore[type-arg]
    """Retries itself when an attempt met something transient.

    Autoretry decides *that* there is another message, the policy has decided *when*, and the row
    has it in writing before anything is published: a retry that cannot be published costs a
    delay, as the sweep reads the row. How often is the row's business too (`max_retries` None),
    for a message that the sweep published starts counting at zero.
    """

    autoretry_for = (TransientError,)
    dont_autoretry_for = ()
    retry_backoff = True
    retry_backoff_max = 300
    retry_jitter = True
    max_retries = None
    acks_late = True

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        error, seconds = kwargs.get("exc"), kwargs.pop("countdown", None) or 0
        if isinstance(error, TransientError) and error.hint_in is not None:
            seconds = error.hint_in
        # a countdown between 0 and 1 is an error in Celery 5.7
        kwargs["countdown"] = max(math.ceil(seconds), 1)
        try:
            return super().retry(*args, **kwargs)
        except Reject as rejected:
            logger.warning("retry_hint_lost", task=self.name, why=type(rejected.args[0]).__name__)
            raise Ignore from rejected


@shared_task(base=DeliveryTask, name="outbound.deliver_call")
def deliver_call(*, call_id: str, **_: Any) -> None:
    """Make one attempt at a call, if it is due."""
    try:
        delivery = engine.deliver(call_id)
    except DATABASE_AWAY as error:
        logger.warning("database_away", call_id=call_id, error=type(error).__name__)
        return
    if delivery is not None and delivery.error is not None and delivery.hint_in is not None:
        raise delivery.error


@shared_task(name="outbound.resolve_call")
def resolve_call(*, call_id: str, **_: Any) -> None:
    """Look up what became of a call with an unknown outcome."""
    look_up(call_id)


@shared_task(name="outbound.sweep")
def sweep(**_: Any) -> None:
    """The periodic repair."""
    with periodic_lease("outbound.sweep", seconds=settings.OUTBOUND_LEASE_SECONDS) as ours:
        if ours:
            sweep_once()


@shared_task(name="outbound.drain_dead_letters")
def drain_dead_letters(**_: Any) -> None:
    """Mark the rows that given-up messages speak of."""
    with periodic_lease("outbound.dead_letters", seconds=settings.OUTBOUND_LEASE_SECONDS) as ours:
        if ours:
            drain(current_app, limit=DEAD_LETTERS, mark=mark_rows)


@on_dead_letter("outbound.deliver_call")
@on_dead_letter("outbound.resolve_call")
def mark_call(letter: DeadLetter) -> None:
    """The reason on the call's row; the row itself goes on by the sweep."""
    reason = f"given up by {letter.queue}: {letter.reason} ({letter.count}x)"
    calls = OutboundCall.objects.with_id(letter.kwargs.get("call_id"))
    calls.update(dead_letter_reason=storable(reason, limit=200))
