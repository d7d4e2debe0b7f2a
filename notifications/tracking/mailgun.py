"""What Mailgun says of a message.
https://documentation.mailgun.com/docs/mailgun/user-manual/events/events"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from notifications.states import RecipientStatus, SuppressionReason
from notifications.tracking import Meaning, Track
from notifications.tracking.reading import address, marks, part, reason, text, word
from webhooks.handlers import Event

MEANINGS = {
    "accepted": Meaning(RecipientStatus.QUEUED),
    "rejected": Meaning(RecipientStatus.FAILED),  # by Mailgun: the message, not the recipient
    "delivered": Meaning(RecipientStatus.DELIVERED),
    "failed": Meaning(RecipientStatus.DEFERRED),  # when `severity` is temporary: they try again
    "opened": Meaning(RecipientStatus.OPENED),
    "clicked": Meaning(RecipientStatus.CLICKED),
    "unsubscribed": Meaning(RecipientStatus.UNSUBSCRIBED, SuppressionReason.UNSUBSCRIBED),
    "complained": Meaning(RecipientStatus.COMPLAINED, SuppressionReason.COMPLAINT),
}
# `reason` of a permanent failure. `old`: they have tried for long enough.
FAILURES = {
    "old": Meaning(RecipientStatus.SOFT_BOUNCED),
    "suppress-bounce": Meaning(RecipientStatus.REFUSED, SuppressionReason.HARD_BOUNCE),
    "suppress-complaint": Meaning(RecipientStatus.REFUSED, SuppressionReason.COMPLAINT),
    "suppress-unsubscribe": Meaning(RecipientStatus.REFUSED, SuppressionReason.UNSUBSCRIBED),
}
# `delivery-status.bounce-type` of other permanent failures.
BOUNCES = {"soft": Meaning(RecipientStatus.SOFT_BOUNCED)}
PERMANENT = Meaning(RecipientStatus.BOUNCED, SuppressionReason.HARD_BOUNCE)
EVENTS = tuple(MEANINGS)


def read(event: Event) -> list[Track]:
    """Each event is about one recipient, and has our marks among its user variables."""
    said, meaning = part(event.payload, "event-data"), MEANINGS.get(event.event_type)
    if meaning is None or not said:
        return []
    if event.event_type == "failed" and text(said, "severity") == "permanent":
        meaning = _failure(said)
    to, mark = address(said.get("recipient")), marks(part(said, "user-variables"))
    return [
        Track(
            status=meaning.status,
            address=to,
            message_id=_message_id(text(said, "message", "headers", "message-id")),
            call_id=mark.call_id,
            key=mark.key,
            code=_code(said),
            reason=reason(
                text(said, "delivery-status", "message"),
                text(said, "delivery-status", "description"),
                text(said, "reject", "reason"),
                about=to,
            ),
            suppress=meaning.suppress,
            at=event.occurred_at,
        )
    ]


def _failure(said: Mapping[str, Any]) -> Meaning:
    sort = text(said, "delivery-status", "bounce-type")
    return FAILURES.get(text(said, "reason")) or BOUNCES.get(sort) or PERMANENT


def _message_id(written: str) -> str:
    """In angle brackets, as Mailgun's answers have it; its events leave them out."""
    bare = written.strip("<>")
    return f"<{bare}>" if bare else ""


def _code(said: Mapping[str, Any]) -> str:
    """The other server's, or Mailgun's own beyond 600."""
    code = part(said, "delivery-status").get("code")
    written = str(code) if isinstance(code, int) else ""
    return written if re.fullmatch(r"[1-9][0-9]{2}", written) else word(said, "reason")
