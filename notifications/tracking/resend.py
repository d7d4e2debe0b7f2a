"""What Resend says of a message. https://resend.com/docs/dashboard/webhooks/event-types"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notifications.states import RecipientStatus, SuppressionReason
from notifications.tracking import Meaning, Track
from notifications.tracking.reading import (
    Marks,
    address,
    items,
    marks,
    moment,
    part,
    reason,
    text,
    word,
)
from webhooks.handlers import Event

MEANINGS = {
    "email.sent": Meaning(RecipientStatus.QUEUED),  # Resend has taken it, and will try
    "email.delivery_delayed": Meaning(RecipientStatus.DEFERRED),
    "email.delivered": Meaning(RecipientStatus.DELIVERED),
    "email.bounced": Meaning(RecipientStatus.SOFT_BOUNCED),  # see BOUNCES
    "email.suppressed": Meaning(RecipientStatus.REFUSED, SuppressionReason.HARD_BOUNCE),
    "email.failed": Meaning(RecipientStatus.FAILED),
    "email.opened": Meaning(RecipientStatus.OPENED),
    "email.clicked": Meaning(RecipientStatus.CLICKED),
    "email.complained": Meaning(RecipientStatus.COMPLAINED, SuppressionReason.COMPLAINT),
}
# `bounce.type`. https://resend.com/docs/dashboard/emails/email-bounces
BOUNCES = {"Permanent": Meaning(RecipientStatus.BOUNCED, SuppressionReason.HARD_BOUNCE)}
TO_ALL = ("email.sent", "email.failed")  # about the message, and so about everybody
EVENTS = tuple(MEANINGS)


def read(event: Event) -> list[Track]:
    """Of a message to several people each has events of their own, but Resend does not say whose
    an event is: such a one names nobody. Our marks are among the tags."""
    said, meaning = part(event.payload, "data"), MEANINGS.get(event.event_type)
    if meaning is None or not said:
        return []
    if event.event_type == "email.bounced":
        meaning = BOUNCES.get(text(said, "bounce", "type")) or meaning
    mark, everybody = _marks(said), [address(each) for each in items(said, "to")]
    named = everybody if len(everybody) == 1 or event.event_type in TO_ALL else [""]
    return [
        Track(
            status=meaning.status,
            address=to,
            message_id=text(said, "email_id"),
            call_id=mark.call_id,
            key=mark.key,
            code=_code(said),
            reason=reason(*_reasons(said), about=to),
            suppress=meaning.suppress,
            at=moment(event.payload.get("created_at")) or event.occurred_at,
        )
        for to in named or [""]
    ]


def _marks(said: Mapping[str, Any]) -> Marks:
    """Tags come as an object; as they are sent, they are a list of names and values."""
    listed = {text(tag, "name"): text(tag, "value") for tag in items(said, "tags")}
    return marks(listed or part(said, "tags"))


def _code(said: Mapping[str, Any]) -> str:
    names = [("bounce", "type"), ("bounce", "subType"), ("suppressed", "type")]
    return ".".join(filter(None, (word(said, *name) for name in names)))[:100]


def _reasons(said: Mapping[str, Any]) -> list[str]:
    names = [("bounce", "message"), ("failed", "reason"), ("suppressed", "message")]
    return [text(said, *name) for name in names]
