"""The repair that makes every loss temporary: messages whose time has come, and calls that wait for
a provider which is out of order while another one is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from uuid import UUID

import structlog
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from notifications.dispatching import fail_over, hand_over, point, sum_up
from notifications.models import Dispatch, Message, Recipient
from notifications.routing import first_place
from notifications.states import (
    CHANNELS,
    MessageKind,
    MessageStatus,
    RecipientKind,
    RecipientStatus,
)
from notifications.suppressions import suppressed_among
from outbound import clock
from outbound.blobs import count_old_blobs, prune_blobs
from outbound.errors import CallRefused
from outbound.hints import Hint
from outbound.redaction import sanitise
from outbound.services import blocked_circuits
from outbound.states import WAITING

logger = structlog.get_logger(__name__)

ROWS = "messages"
BATCH = 500
LOOKED_AT = 10  # times as many as are wanted


def sweep(*, limit: int = BATCH) -> Counter[str]:
    """Everything that is overdue, at most `limit` rows of each sort. Returns counts by sort."""
    done = Counter(
        sent=send_due(limit=limit),
        failed_over=fail_over_blocked(limit=limit),
        contents_forgotten=prune_blobs(limit=limit),
    )
    if any(done.values()):
        logger.info("message_sweep", **done)
    return done


def overdue() -> dict[str, int]:
    """How many a sweep would take up, by sort."""
    return {
        "sent": Message.objects.due(clock.latest()).count(),
        "failed_over": len(_blocked(limit=BATCH)),
        "contents_forgotten": count_old_blobs(),
    }


def send_due(*, limit: int = BATCH) -> int:
    """Scheduled messages whose time has come. Returns how many."""
    due = Message.objects.due(clock.latest()).order_by("scheduled_at")
    return sum(_send(pk) for pk in due.values_list("pk", flat=True)[:limit])


@transaction.atomic
def _send(pk: UUID) -> bool:
    """One that another process holds is left to it."""
    due = Message.objects.select_for_update(skip_locked=True).due(clock.latest())
    message = due.filter(pk=pk).first()
    if message is None:
        return False
    Message.objects.filter(pk=pk).move_to(
        MessageStatus.SENDING, now=clock.now(), sources={MessageStatus.SCHEDULED}
    )
    recipients = list(message.recipients.filter(status=RecipientStatus.REQUESTED))
    try:
        with transaction.atomic():
            send_to(message, recipients)
    except (CallRefused, ImproperlyConfigured) as error:  # settings have changed since
        logger.exception("scheduled_message_failed", message_id=str(pk))
        message.recipients.all().advance_to(
            RecipientStatus.FAILED, now=clock.now(), reason=sanitise(str(error))
        )
        sum_up(message)
    return True


def send_to(message: Message, recipients: list[Recipient], *, inline: bool = False) -> None:
    """Hand a message to the first provider that is in order, for those who may get it; in the
    caller's transaction, the message being ours alone."""
    now = clock.now()
    channel = CHANNELS[MessageKind(message.kind)]
    barred = suppressed_among(channel, [each.address for each in recipients])
    for reason in set(barred.values()):
        keys = [key for key, why in barred.items() if why == reason]
        theirs = message.recipients.filter(address_key__in=keys)
        theirs.advance_to(RecipientStatus.SUPPRESSED, now=now, code=reason)
    wanted = [each for each in recipients if each.address_key not in barred]
    if message.kind == MessageKind.EMAIL and not any(_is_to(each) for each in wanted):
        reason = "nobody to whom it is addressed may be written to"
        rows = message.recipients.filter(pk__in=[each.pk for each in wanted])
        rows.advance_to(RecipientStatus.FAILED, now=now, reason=reason)
        wanted = []
    if wanted:
        place, why = first_place(message)
        hand_over(message, wanted, place=place, why=why, inline=inline)
        point(wanted)
    sum_up(message)


def _is_to(recipient: Recipient) -> bool:
    return recipient.kind == RecipientKind.TO


def fail_over_blocked(*, limit: int = BATCH) -> int:
    """Calls that wait for an open circuit, of which the hook did not hear. Returns how many went
    to another provider."""
    return sum(
        fail_over(call_id, why=f"the circuit of {provider} is open")
        for call_id, provider in _blocked(limit=limit)
    )


def _blocked(*, limit: int) -> list[tuple[UUID, str]]:
    """Calls, and their providers, that wait for an open circuit while somebody further on in the
    route is in order. Only so many are looked at: the others' turn comes when these have gone."""
    circuits = blocked_circuits()
    if not circuits:
        return []
    waiting = Dispatch.objects.filter(call__status__in=WAITING, call__circuit__in=circuits)
    rows = waiting.order_by("-pk").values_list("call_id", "provider", "place", "message__route")
    found = [
        (call_id, provider)
        for call_id, provider, place, route in rows[: limit * LOOKED_AT]
        if set(route[place + 1 :]) - set(circuits)
    ]
    return found[:limit]


def announce_due(*, limit: int, announce: Callable[[Hint], None]) -> int:
    """Nobody works on these rows but the sweep, so there is nothing to announce."""
    return 0


def forget_announcements() -> None:
    """See announce_due."""
