"""What SendGrid says of a message.
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notifications.states import RecipientStatus, SuppressionReason
from notifications.tracking import Meaning, Track
from notifications.tracking.reading import address, marks, reason, text, word
from webhooks.handlers import Event

MEANINGS = {
    "processed": Meaning(RecipientStatus.QUEUED),
    "deferred": Meaning(RecipientStatus.DEFERRED),
    "delivered": Meaning(RecipientStatus.DELIVERED),
    "bounce": Meaning(RecipientStatus.SOFT_BOUNCED),  # see BOUNCES
    "dropped": Meaning(RecipientStatus.FAILED),  # see DROPS
    "open": Meaning(RecipientStatus.OPENED),
    "click": Meaning(RecipientStatus.CLICKED),
    "spamreport": Meaning(RecipientStatus.COMPLAINED, SuppressionReason.COMPLAINT),
    "unsubscribe": Meaning(RecipientStatus.UNSUBSCRIBED, SuppressionReason.UNSUBSCRIBED),
    "group_unsubscribe": Meaning(RecipientStatus.UNSUBSCRIBED, SuppressionReason.UNSUBSCRIBED),
    # group_resubscribe: who is suppressed here is let back in by a person
}
# `type` of a bounce. Blocked ones are the server's view of the sender, or of this message.
# https://www.twilio.com/docs/sendgrid/ui/sending-email/bounces
BOUNCES = {"bounce": Meaning(RecipientStatus.BOUNCED, SuppressionReason.HARD_BOUNCE)}
# `reason` of a drop: SendGrid remembers the address, and did not try.
# https://www.twilio.com/docs/sendgrid/ui/analytics-and-reporting/email-activity-feed#drops
DROPS = {
    "bounced address": Meaning(RecipientStatus.REFUSED, SuppressionReason.HARD_BOUNCE),
    "invalid": Meaning(RecipientStatus.REFUSED, SuppressionReason.HARD_BOUNCE),
    "spam reporting address": Meaning(RecipientStatus.REFUSED, SuppressionReason.COMPLAINT),
    "unsubscribed address": Meaning(RecipientStatus.REFUSED, SuppressionReason.UNSUBSCRIBED),
}
EVENTS = tuple(MEANINGS)


def read(event: Event) -> list[Track]:
    """Each event is about one recipient. Its message id begins with the `X-Message-Id` of the
    answer that the message got; our marks stand beside the event's own members."""
    said, meaning = event.payload, MEANINGS.get(event.event_type)
    to = address(said.get("email"))
    if meaning is None:
        return []
    meaning = _nearer(event.event_type, said) or meaning
    mark = marks(said)
    return [
        Track(
            status=meaning.status,
            address=to,
            message_id=text(said, "sg_message_id").partition(".")[0],
            call_id=mark.call_id,
            key=mark.key,
            code=word(said, "status") or word(said, "type"),
            reason=reason(text(said, "reason"), text(said, "response"), about=to),
            suppress=meaning.suppress,
            at=event.occurred_at,
        )
    ]


def _nearer(kind: str, said: Mapping[str, Any]) -> Meaning | None:
    if kind == "bounce":
        return BOUNCES.get(text(said, "type"))
    if kind == "dropped":
        return DROPS.get(text(said, "reason").lower())
    if kind == "open" and said.get("sg_machine_open") is True:  # nobody has looked at it
        return Meaning(RecipientStatus.DELIVERED)
    return None
