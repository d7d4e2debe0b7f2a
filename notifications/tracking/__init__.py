"""What providers tell us of a message after they took it, in our words. One file for each provider,
with a function `read(event) -> list[Track]` and its table of the provider's words, under the link
to its documentation.

What a provider says is read tolerantly: a member that is not what it should be counts as absent,
and an event of which nothing is left says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from notifications.states import RecipientStatus, SuppressionReason


class Meaning(NamedTuple):
    """A provider's word in ours: what became of somebody, and why they get nothing any more."""

    status: RecipientStatus
    suppress: SuppressionReason | None = None


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
