"""What the receipts of a call come to."""

from __future__ import annotations

import pytest

from notifications.adapters.replies import (
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    Receipt,
    read_receipts,
    reply_or_refusal,
)
from outbound.errors import DeliveryError, PermanentError, TransientError

TAKEN = Receipt("a@example.org", True, "m-1")
REFUSED = Receipt("b@example.org", False, code="550", reason="no such mailbox")
LATER = Receipt("c@example.org", False, code=TRY_AGAIN, reason="too fast")


def test_somebody_was_accepted() -> None:
    """It is a success, and the receipts tell who was not."""
    reply = reply_or_refusal([REFUSED, TAKEN, LATER], provider="acme")
    assert read_receipts(reply.result) == [REFUSED, TAKEN, LATER]
    assert reply.provider_reference == "m-1"


@pytest.mark.parametrize(
    "receipts, kind, code",
    [
        ([REFUSED], PermanentError, RECIPIENTS_REFUSED),
        ([REFUSED, LATER], TransientError, ""),
        ([LATER], TransientError, ""),
    ],
)
def test_nobody_was_accepted(receipts: list[Receipt], kind: type[DeliveryError], code: str) -> None:
    """Permanent where all were refused for good; otherwise all are asked for again."""
    with pytest.raises(DeliveryError) as caught:
        reply_or_refusal(receipts, provider="acme")
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert not caught.value.effect_possible
    assert "@" not in caught.value.message
