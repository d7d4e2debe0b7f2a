"""What a provider of messages answers, the same for all: which recipients it has accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from outbound.adapters import Reply

# Codes of ours, which decide where a message goes from here. A provider's own word for it stands in
# the error's message.
OUT_OF_QUOTA = "out_of_quota"  # a RateLimited: nothing more from us today; others may be asked
RECIPIENTS_REFUSED = "recipients_refused"  # a PermanentError: nobody was accepted, for good
OPTED_OUT = "opted_out"  # a PermanentError: this number wants nothing from us
UNREGISTERED = "unregistered"  # a PermanentError: the app is gone from this device


@dataclass(frozen=True, slots=True)
class Receipt:
    """One recipient's part of an answer. `message_id`: the provider's, by which its events speak
    of it. `code` and `reason`: why it was not accepted; the reason names no address."""

    address: str
    accepted: bool
    message_id: str = ""
    code: str = ""
    reason: str = ""


def accepted_reply(
    receipts: Sequence[Receipt],
    *,
    message_id: str,
    provider_status: int | None = None,
    provider_request_id: str = "",
) -> Reply:
    """A provider has taken a message for at least one recipient. `message_id`: its id for the whole
    of it, '' where each recipient has one only."""
    return Reply(
        result={"message_id": message_id, "recipients": [asdict(each) for each in receipts]},
        provider_reference=message_id or next((r.message_id for r in receipts if r.message_id), ""),
        provider_status=provider_status,
        provider_request_id=provider_request_id,
    )


def read_receipts(result: dict[str, Any]) -> list[Receipt]:
    """What `accepted_reply` has stored. Empty where an event has settled the call instead."""
    found = result.get("recipients")
    return [Receipt(**each) for each in found] if isinstance(found, list) else []
