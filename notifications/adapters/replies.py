"""What a provider of messages answers, the same for all: which recipients it has accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from outbound.adapters import Reply
from outbound.errors import PermanentError, TransientError

# Codes of ours, which decide where a message goes from here. A provider's own word for it stands in
# the error's message.
OUT_OF_QUOTA = "out_of_quota"  # a RateLimited: nothing more from us today; others may be asked
RECIPIENTS_REFUSED = "recipients_refused"  # a PermanentError: nobody was accepted, for good
OPTED_OUT = "opted_out"  # a PermanentError: this number wants nothing from us
TRY_AGAIN = "try_again"  # on a Receipt: not accepted now, and nothing is wrong with the recipient
UNREGISTERED = "unregistered"  # a PermanentError: the app is gone from this device
NOBODY = "nobody was accepted"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One recipient's part of an answer. `message_id`: the provider's, by which its events speak
    of it. `code` and `reason`: why it was not accepted; the reason names no address. TRY_AGAIN as
    the code: the others are taken care of, and this one may be asked for in a call of its own."""

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


def reply_or_refusal(
    receipts: Sequence[Receipt],
    *,
    provider: str,
    message_id: str = "",
    provider_status: int | None = None,
    provider_request_id: str = "",
) -> Reply:
    """`accepted_reply` where anybody was accepted. Raises PermanentError where nobody was, and
    TransientError where nobody was and some may be tried again."""
    if any(receipt.accepted for receipt in receipts):
        return accepted_reply(
            receipts,
            message_id=message_id,
            provider_status=provider_status,
            provider_request_id=provider_request_id,
        )
    again = [receipt for receipt in receipts if receipt.code == TRY_AGAIN]
    first = (again or receipts)[0]
    message = ": ".join(filter(None, (provider, NOBODY, first.reason or first.code)))
    if again:
        raise TransientError(
            message, provider_status=provider_status, provider_request_id=provider_request_id
        )
    raise PermanentError(
        message,
        code=RECIPIENTS_REFUSED,
        http_status=400,
        provider_status=provider_status,
        provider_request_id=provider_request_id,
    )


def read_receipts(result: dict[str, Any]) -> list[Receipt]:
    """What `accepted_reply` has stored. Empty where an event has settled the call instead."""
    found = result.get("recipients")
    return [Receipt(**each) for each in found] if isinstance(found, list) else []
