"""What providers tell us of a message after they took it, in our words. One file for each provider,
with a function `read(event) -> list[Track]` and its table of the provider's words, under the link
to its documentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from notifications.states import RecipientStatus, SuppressionReason


@dataclass(frozen=True, slots=True)
class Track:
    """One word about one recipient.

    `message_id` as the adapter's receipts have it, `call_id` and `key` as we sent them along
    ('' where the event has none). `address`: '' where the event names none, and then the message
    has one recipient. `reason` is shown to people: no address in it. `suppress`: from now on the
    address gets nothing.
    """

    status: RecipientStatus
    address: str = field(repr=False)
    message_id: str = ""
    call_id: str = ""
    key: str = ""
    code: str = ""
    reason: str = ""
    suppress: SuppressionReason | None = None
    at: datetime | None = None
