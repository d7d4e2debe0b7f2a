"""Celery tasks: they choose only when. Ids in, nothing out; unknown arguments are tolerated,
since old workers meet the messages of new code during a deploy."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from celery import Task, current_app, shared_task
from celery.exceptions import Ignore, Reject
from django.conf import settings

from outbound import engine, hints
from outbound.alarms import set_alarm
from outbound.dead_letters import DeadLetter, drain, mark_rows, on_dead_letter
from outbound.engine import Delivery
from outbound.errors import TransientError
from outbound.gates import DATABASE_AWAY
from outbound.hints import Hint
from outbound.leases import periodic_lease
from outbound.models import OutboundCall
from outbound.parking import DELIVER_TASK
from outbound.redaction import storable
from outbound.sweep import look_up
from outbound.sweep import sweep as sweep_once

logger = structlog.get_logger(__name__)

DEAD_LETTERS = 100
HAND_OVER_SECONDS = 0.1


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


@shared_task(base=DeliveryTask, name=DELIVER_TASK)
def deliver_call(*, call_id: str, **_: Any) -> None:
    """Make one attempt at a call, if it is due."""
    delivery = _delivered(call_id)
    if delivery is not None and delivery.error is not None and delivery.hint_in is not None:
        raise delivery.error


@shared_task(bind=True, name="outbound.deliver_calls")
def deliver_calls(task: Any, /, *, call_ids: Sequence[str], **_: Any) -> None:
    """The same for calls that were stored at nearly the same time: one after the other, as long as
    that is quick. What is left then gets messages of its own."""
    queue: str = task.request.delivery_info["routing_key"]

    def announce(call_id: str, *, countdown: int | None = None) -> None:
        hints.announce(Hint(DELIVER_TASK, queue, {"call_id": call_id}, countdown))

    with handing_over(call_ids, announce) as ours:
        for call_id in ours:
            try:
                delivery = _delivered(call_id)
            except Exception:  # a bug of the adapter: the row is left to the sweep
                logger.exception("attempt_crashed", call_id=call_id)
                continue
            if delivery is not None and delivery.hint_in is not None:
                announce(call_id, countdown=max(math.ceil(delivery.hint_in), 1))


def _delivered(call_id: str) -> Delivery | None:
    try:
        return engine.deliver(call_id)
    except DATABASE_AWAY as error:
        logger.warning("database_away", call_id=call_id, error=type(error).__name__)
        return None


@contextmanager
def handing_over(ids: Sequence[str], announce: Callable[[str], None]) -> Iterator[Iterator[str]]:
    """The ids, one by one. Those that are left after HAND_OVER_SECONDS are announced instead: no
    call waits long behind a slow one, and no task lasts much longer than one call."""
    left = deque(ids)

    def hand_over() -> None:
        for call_id in _taken(left):
            announce(call_id)

    alarm = set_alarm(time.monotonic() + HAND_OVER_SECONDS, hand_over)
    try:
        yield _taken(left)
    finally:
        alarm.cancel()


def _taken(left: deque[str]) -> Iterator[str]:
    """Each once, whoever asks."""
    with suppress(IndexError):
        while True:
            yield left.popleft()


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
@on_dead_letter("outbound.deliver_calls")
@on_dead_letter("outbound.resolve_call")
def mark_call(letter: DeadLetter) -> None:
    """The reason on each call's row; the row itself goes on by the sweep."""
    reason = f"given up by {letter.queue}: {letter.reason} ({letter.count}x)"
    several = letter.kwargs.get("call_ids")
    for call_id in several if isinstance(several, list) else [letter.kwargs.get("call_id")]:
        calls = OutboundCall.objects.with_id(call_id)
        calls.update(dead_letter_reason=storable(reason, limit=200))
