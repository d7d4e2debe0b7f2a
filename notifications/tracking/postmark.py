"""What Postmark says of a message. https://postmarkapp.com/developer/webhooks/webhooks-overview"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notifications.states import RecipientStatus, SuppressionReason
from notifications.tracking import Meaning, Track
from notifications.tracking.reading import address, marks, part, reason, text, word
from webhooks.handlers import Event

HARD = Meaning(RecipientStatus.BOUNCED, SuppressionReason.HARD_BOUNCE)
SOFT = Meaning(RecipientStatus.SOFT_BOUNCED)
DEFERRED = Meaning(RecipientStatus.DEFERRED)
FAILED = Meaning(RecipientStatus.FAILED)
REFUSED = Meaning(RecipientStatus.REFUSED)
COMPLAINED = Meaning(RecipientStatus.COMPLAINED, SuppressionReason.COMPLAINT)
UNSUBSCRIBED = Meaning(RecipientStatus.UNSUBSCRIBED, SuppressionReason.UNSUBSCRIBED)

MEANINGS = {
    "Delivery": Meaning(RecipientStatus.DELIVERED),
    "Open": Meaning(RecipientStatus.OPENED),
    "Click": Meaning(RecipientStatus.CLICKED),
    "SpamComplaint": COMPLAINED,
}
# `Type` of a bounce. What is not here says nothing about the message: an automatic answer, a new
# address, a test. https://postmarkapp.com/developer/api/bounce-api#bounce-types
BOUNCES = {
    "HardBounce": HARD,
    "BadEmailAddress": HARD,
    "SoftBounce": SOFT,
    "Blocked": SOFT,
    "SpamNotification": SOFT,
    "VirusNotification": SOFT,
    "Unknown": SOFT,
    "Transient": DEFERRED,
    "DnsError": DEFERRED,
    "SpamComplaint": COMPLAINED,
    "Unsubscribe": UNSUBSCRIBED,
    "ManuallyDeactivated": Meaning(RecipientStatus.REFUSED, SuppressionReason.MANUAL),
    "Unconfirmed": REFUSED,
    "DMARCPolicy": FAILED,
    "SMTPApiError": FAILED,
    "TemplateRenderingFailed": FAILED,
}
# `SuppressionReason` of a change by which somebody gets nothing any more.
# https://postmarkapp.com/developer/webhooks/subscription-change-webhook
CHANGES = {
    "HardBounce": HARD,
    "SpamComplaint": COMPLAINED,
    "ManualSuppression": UNSUBSCRIBED,
}
BY_OTHERS = Meaning(RecipientStatus.UNSUBSCRIBED, SuppressionReason.MANUAL)
NO_MESSAGE = "00000000-0000-0000-0000-000000000000"  # a change that no message brought about
EVENTS = (*MEANINGS, "Bounce", "SubscriptionChange")


def read(event: Event) -> list[Track]:
    """Each event is about one recipient, and has our marks in its metadata."""
    said, meaning = event.payload, _meaning(event)
    if meaning is None:
        return []
    to = address(said.get("Recipient")) or address(said.get("Email"))
    mark, message_id = marks(part(said, "Metadata")), text(said, "MessageID")
    return [
        Track(
            status=meaning.status,
            address=to,
            message_id="" if message_id == NO_MESSAGE else message_id,
            call_id=mark.call_id,
            key=mark.key,
            code=word(said, "Type") or word(said, "SuppressionReason"),
            reason=reason(text(said, "Details"), text(said, "Description"), about=to),
            suppress=meaning.suppress,
            at=event.occurred_at,
        )
    ]


def _meaning(event: Event) -> Meaning | None:
    if event.event_type == "Bounce":
        return BOUNCES.get(text(event.payload, "Type"))
    if event.event_type == "SubscriptionChange":
        return _change(event.payload)
    return MEANINGS.get(event.event_type)


def _change(said: Mapping[str, Any]) -> Meaning | None:
    """Who is let back in there stays suppressed here, until a person says otherwise."""
    if said.get("SuppressSending") is not True:
        return None
    meaning = CHANGES.get(text(said, "SuppressionReason"))
    return BY_OTHERS if meaning is UNSUBSCRIBED and text(said, "Origin") != "Recipient" else meaning
