"""Stripe's words for its own trouble, as faults bring it about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.stripe.errors import Refusal
from sandbox.stripe.keys import in_use
from sandbox.wire import Answer

if TYPE_CHECKING:
    from sandbox.faults.fault import Met

CONFLICT = "conflict"
# https://docs.stripe.com/rate-limits
TOO_MANY = {
    "rate_limit": "Request rate limit exceeded.",
    "lock_timeout": "This object cannot be accessed right now because another API request or Stripe"
    " process is currently accessing it.",
}


def trouble(status: int, *, code: str, met: Met) -> Answer:
    """A 5xx, a 429 with its code, or a clash with another request under the same key."""
    if code == CONFLICT:
        refusal = in_use(met.key)
    elif code in TOO_MANY:
        refusal = Refusal(status, TOO_MANY[code], code=code)
    else:
        refusal = Refusal(status, "An unknown error occurred", type="api_error")
    return refusal.answer(request_id=met.request_id)
