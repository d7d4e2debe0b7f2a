"""What becomes of a message after a provider took it: one word about one recipient, written down.

No order is trusted: a recipient only goes up in rank, and the timeline keeps every word. An event
that carries our call's id and its present key proves that a RUNNING or UNKNOWN call worked, and
settles it. Of a bulk call it proves so much for its own recipient only: the others are UNKNOWN
until an event of their own comes, or a person knows. While a bulk call runs, its answer is on the
way with all receipts, so the event waits for that.

Locks are taken as the engine does it: the call first, then the message, then its recipients. The
ordinary case needs neither of the first two.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from notifications.adapters.replies import Receipt, accepted_reply
from notifications.dispatching import DEAD, sum_up
from notifications.models import Dispatch, Message, Recipient, RecipientEvent, RecipientQuerySet
from notifications.states import CHANNELS, Channel, MessageKind, MessageStatus
from notifications.suppressions import add_suppression
from notifications.tracking import Track
from outbound import clock
from outbound.inserts import insert_new
from outbound.services import lock_call, settle_from_event
from outbound.states import CallStatus
from webhooks.errors import NotOurs, NotYet
from webhooks.handlers import Event

PROVEN = (CallStatus.RUNNING, CallStatus.UNKNOWN)  # what an event can settle
PATIENCE = timedelta(seconds=60)  # for a message of which we have not heard the answer yet


def follow(*, track: Track, provider: str, event: Event) -> None:
    """Write down what a provider says of a recipient, in the caller's transaction. Either all of
    it, or nothing, and then it raises: NotYet, or NotOurs for what is no message of ours."""
    recipients, dispatch = _by_message(track), None
    if not recipients:
        dispatch = _dispatch_of(track)
        settled = dispatch is not None and _settle(dispatch, track)
        recipients = _by_dispatch(track, dispatch)
        if not recipients and not settled:
            _follow_stranger(track, dispatch, provider, event)
            return
    if recipients:
        _record(recipients, track, provider, event)


def _rows() -> RecipientQuerySet:
    return Recipient.objects.select_related("message", "dispatch").defer(
        "words", "message__content"
    )


def _by_message(track: Track) -> list[Recipient]:
    """By the provider's id of the message, which no two providers share."""
    if not track.message_id:
        return []
    return _meant(_rows().filter(provider_message_id=track.message_id), track)


def _by_dispatch(track: Track, dispatch: Dispatch | None) -> list[Recipient]:
    return _meant(_rows().filter(dispatch=dispatch), track) if dispatch else []


def _meant(rows: RecipientQuerySet, track: Track) -> list[Recipient]:
    """Those at the address; where the event names none, the only one there is."""
    if track.address:
        return list(rows.at(track.address))
    found = list(rows[:2])
    return found if len(found) == 1 else []


def _dispatch_of(track: Track) -> Dispatch | None:
    """What was sent with our marks. None also for an earlier key of a call: a retry as new has
    taken its place."""
    if not (track.call_id and track.key):
        return None
    made = Dispatch.objects.select_related("call", "message")
    made = made.defer("call__payload", "call__result", "message__content")
    return made.filter(call_id=_uuid(track.call_id), call__idempotency_key=track.key).first()


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _settle(dispatch: Dispatch, track: Track) -> bool:
    """Raises NotYet while a bulk call runs."""
    if dispatch.call is None or dispatch.call.status not in PROVEN:
        return False
    call, bulk = lock_call(dispatch.call_id), dispatch.message.kind == MessageKind.BULK_EMAIL
    if call is None:
        return False
    if bulk and call.status == CallStatus.RUNNING:
        raise NotYet("the answer of its call is on the way")
    theirs = Recipient.objects.filter(dispatch=dispatch)
    proven = theirs.at(track.address) if bulk else theirs
    receipts = [
        Receipt(address, accepted=True, message_id=track.message_id)
        for address in proven.values_list("address", flat=True)
    ]
    if not receipts:
        return False
    return settle_from_event(
        call_id=call.pk,
        idempotency_key=track.key,
        result=accepted_reply(receipts, message_id="" if bulk else track.message_id).result,
        provider_reference=track.message_id,
    )


def _record(recipients: Sequence[Recipient], track: Track, provider: str, event: Event) -> None:
    message, now = recipients[0].message, clock.now()
    held = message.status != MessageStatus.SENT or track.status in DEAD
    if held:  # else its status cannot change by this
        message = Message.objects.select_for_update().defer("content").get(pk=message.pk)
    rows = Recipient.objects.filter(pk__in=[each.pk for each in recipients])
    if track.message_id:
        rows.filter(provider_message_id="").update(provider_message_id=track.message_id)
    rows.advance_to(track.status, now=now, code=track.code[:100], reason=track.reason[:500])
    for each in recipients:
        insert_new([_word(each, track, provider, event)])
        if track.suppress is not None:
            add_suppression(
                CHANNELS[MessageKind(message.kind)],
                each.address,
                track.suppress,
                note=track.reason,
                provider=provider,
                recipient=each,
            )
    if held:
        sum_up(message)


def _word(recipient: Recipient, track: Track, provider: str, event: Event) -> RecipientEvent:
    return RecipientEvent(
        recipient=recipient,
        status=track.status,
        provider=recipient.dispatch.provider if recipient.dispatch else provider,
        code=track.code[:100],
        reason=track.reason[:500],
        at=track.at or event.occurred_at or event.received_at,
        webhook_event=event.id,
    )


def _follow_stranger(track: Track, dispatch: Dispatch | None, provider: str, event: Event) -> None:
    """A word about no recipient of ours. Who wants nothing gets nothing, whoever wrote to them:
    it is the same account, and the same sender to them. Raises NotYet, NotOurs."""
    why = _why(track, dispatch)
    told = isinstance(why, NotOurs) or clock.now() - event.received_at >= PATIENCE
    if track.suppress is None or not track.address or not told:
        raise why
    channel = Channel.EMAIL if "@" in track.address else Channel.SMS
    add_suppression(channel, track.address, track.suppress, note=track.reason, provider=provider)


def _why(track: Track, dispatch: Dispatch | None) -> NotYet:
    """With our marks everything is known at once. Without them a message is known when its answer
    was written down, which may be in a moment."""
    if dispatch is not None:
        return NotOurs("it does not say which of the recipients is meant, or names another one")
    if track.call_id and track.key:
        return NotOurs("made by no call of ours, or with an earlier key of one")
    if not track.message_id:
        return NotOurs("it is about no message")
    return NotYet("no message of ours is this one")
