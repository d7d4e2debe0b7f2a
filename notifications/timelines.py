"""All that is known of a message, in the order in which it happened, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from notifications.models import Message, Recipient, RecipientEvent
from notifications.states import MessageKind, RecipientStatus
from outbound.services import CallAttempt, OutboundCall

SHOWN = 200  # entries of one page


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened. `status`: a word that has a colour, and `label` what it is called.
    `call`: where it can be looked at closer."""

    at: datetime
    status: str
    label: str
    text: str
    call: OutboundCall | None = None


def timeline_of(message: Message, *, recipient: Recipient | None = None) -> list[Entry]:
    """What happened to a message, or to one recipient of it; the first entries, in order."""
    entries = [*_made(message), *_asked(message, recipient), *_said(message, recipient)]
    return sorted(entries, key=lambda entry: entry.at)[:SHOWN]


def _made(message: Message) -> Iterator[Entry]:
    by = f" by {message.created_by}" if message.created_by else ""
    yield Entry(message.created_at, "requested", "Requested", f"stored{by}")
    if message.scheduled_at:
        yield Entry(message.scheduled_at, "scheduled", "Scheduled", "to be sent from now on")
    if message.expires_at:
        yield Entry(message.expires_at, "cancelled", "Expires", "nothing is sent after this")


def _asked(message: Message, recipient: Recipient | None) -> Iterator[Entry]:
    """The providers that were asked, and each attempt. Of a bulk message only the latest call is
    known to be a recipient's."""
    rows = message.dispatches.select_related("call").defer("call__payload", "call__result")
    if recipient is not None and message.kind == MessageKind.BULK_EMAIL:
        rows = rows.filter(recipients=recipient)
    found = list(rows[:SHOWN])
    for row in found:
        yield Entry(row.created_at, "pending", f"Handed to {row.provider}", row.why, call=row.call)
    providers = {row.call_id: row for row in found if row.call_id}
    attempts = CallAttempt.objects.filter(call__in=providers).order_by("started_at")
    for attempt in attempts[:SHOWN]:
        row = providers[attempt.call_id]
        trouble = f": {attempt.error_message}" if attempt.error_message else ""
        yield Entry(
            attempt.finished_at or attempt.started_at,
            attempt.outcome,
            f"Attempt {attempt.number}",
            f"{row.provider}, {attempt.get_outcome_display().lower()}{trouble}",
            call=row.call,
        )


def _said(message: Message, recipient: Recipient | None) -> Iterator[Entry]:
    """What providers said afterwards, and who was left out."""
    left_out = Recipient.objects.filter(message=message, status=RecipientStatus.SUPPRESSED)
    words = RecipientEvent.objects.filter(recipient__message=message)
    if recipient is not None:
        left_out, words = left_out.filter(pk=recipient.pk), words.filter(recipient=recipient)
    for each in left_out[:SHOWN]:
        yield Entry(
            each.updated_at, each.status, each.get_status_display(), f"{each.address}: {each.code}"
        )
    for word in words.select_related("recipient")[:SHOWN]:
        why = " ".join(filter(None, (word.code, word.reason)))
        text = f"{word.recipient}, by {word.provider or 'us'}{f': {why}' if why else ''}"
        yield Entry(word.at, word.status, word.get_status_display(), text)
