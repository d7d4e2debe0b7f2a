"""Handing a message, or a part of it, to a provider; and to the next one, where that is safe.

Locks are taken as the engine does it: the call first, then the message. Which call a recipient
waits for is `Recipient.dispatch`: what becomes of an older call does not concern them any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from uuid import UUID

from django.db import transaction

from notifications.documents import document_for
from notifications.models import Dispatch, Message, Recipient
from notifications.routing import batch_of, next_place, operation_for
from notifications.states import MessageKind, MessageStatus, RecipientStatus
from outbound import clock
from outbound.redaction import storable
from outbound.services import (
    cancel_call,
    enqueue_call,
    lock_call,
    may_be_asked_elsewhere,
)
from outbound.states import WAITING

DEAD = (
    RecipientStatus.CANCELLED,
    RecipientStatus.SUPPRESSED,
    RecipientStatus.REFUSED,
    RecipientStatus.FAILED,
)


def hand_over(
    message: Message,
    recipients: Sequence[Recipient],
    *,
    place: int,
    why: str,
    inline: bool = False,
) -> list[Dispatch]:
    """Make the calls by which the provider at `place` of the route is asked, in the caller's
    transaction. The recipients' `dispatch` is set on the objects, not in the database.
    Raises InvalidPayload."""
    provider = message.route[place]
    operation = operation_for(provider, message)
    made = []
    for part in _parts(message, recipients, size=batch_of(provider, operation, message)):
        call = enqueue_call(
            adapter=provider,
            operation=operation,
            payload=document_for(message, part, operation),
            reference=message.reference,
            request_id=message.request_id,
            created_by=message.created_by,
            not_after=message.expires_at,
            priority=message.priority,
            inline=inline,
        )
        row = Dispatch.objects.create(
            message=message,
            call=call,
            provider=provider,
            place=place,
            why=storable(why, limit=200),
            created_at=clock.now(),
        )
        for recipient in part:
            recipient.dispatch = row
        made.append(row)
    return made


def _parts(
    message: Message, recipients: Sequence[Recipient], *, size: int
) -> Iterator[Sequence[Recipient]]:
    """The recipients of each call. An email is one call, for they see each other."""
    if message.kind == MessageKind.EMAIL:
        yield recipients
        return
    for start in range(0, len(recipients), size):
        yield recipients[start : start + size]


def hand_on(dispatch: Dispatch, *, why: str, in_order: bool) -> bool:
    """Ask the next provider for all of a dispatch that nobody has taken. The caller holds the
    message, and knows that nothing was accepted. `in_order`: only a provider whose circuit is
    closed. Returns whether there was one."""
    message = dispatch.message
    if message.expires_at is not None and message.expires_at <= clock.now():
        return False
    waiting = Recipient.objects.filter(dispatch=dispatch, status=RecipientStatus.REQUESTED)
    recipients = list(waiting.order_by("place"))
    place = next_place(message, after=dispatch.place, in_order=in_order)
    if place is None or not recipients:
        return False
    hand_over(message, recipients, place=place, why=why)
    point(recipients)
    return True


def point(recipients: Sequence[Recipient]) -> None:
    """Write down by which dispatch each is served now."""
    served: dict[UUID | None, list[UUID]] = defaultdict(list)
    for each in recipients:
        served[each.dispatch_id].append(each.pk)
    for dispatch_id, pks in served.items():
        Recipient.objects.filter(pk__in=pks).update(dispatch=dispatch_id)


@transaction.atomic
def fail_over(call_id: object, *, why: str) -> bool:
    """Take a call that waits away from its provider, and ask the next one. Not where an attempt
    may have reached the provider; not where nobody else is in order. Returns whether it was
    done."""
    call = lock_call(call_id)
    dispatch = Dispatch.objects.filter(call=call).first() if call else None
    if call is None or dispatch is None or call.status not in WAITING:
        return False
    if not may_be_asked_elsewhere(call):
        return False
    dispatch.message = Message.objects.select_for_update().get(pk=dispatch.message_id)
    if not hand_on(dispatch, why=why, in_order=True):
        return False
    cancel_call(call_id=call.pk, reason=f"another provider is asked: {why}")
    return True


def sum_up(message: Message) -> None:
    """Write down how far a message is, by its recipients. The caller holds the message."""
    found = set(
        Recipient.objects.filter(message=message)
        .order_by()
        .values_list("status", flat=True)
        .distinct()
    )
    status = status_of(found)
    if status != message.status:
        Message.objects.filter(pk=message.pk).move_to(
            status, now=clock.now(), sources=set(MessageStatus) - {MessageStatus.SCHEDULED}
        )


def status_of(found: set[str]) -> MessageStatus:
    """A message's status, where its recipients are in these."""
    if RecipientStatus.REQUESTED in found:
        return MessageStatus.SENDING
    if RecipientStatus.UNKNOWN in found:
        return MessageStatus.UNKNOWN
    if found - set(DEAD):
        return MessageStatus.SENT
    cancelled = RecipientStatus.CANCELLED in found
    return MessageStatus.CANCELLED if cancelled else MessageStatus.FAILED
