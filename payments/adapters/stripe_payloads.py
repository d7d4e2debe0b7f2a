"""What can be asked of Stripe. Each model is checked where a call is enqueued, so that what Stripe
cannot understand is refused at the caller and not in a worker."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from outbound.adapters import Payload
from payments.currencies import CURRENCIES

MAX_AMOUNT = 99_999_999
CALL_KEY = "holdfast_call"  # our call's id, in the metadata of everything we make
KEY_KEY = "holdfast_key"  # the idempotency key it was made with
OUR_KEYS = frozenset({CALL_KEY, KEY_KEY})


def _known_currency(code: str) -> str:
    if not code.isascii() or code.lower() not in CURRENCIES:
        raise ValueError("is no ISO 4217 currency code")
    return code.lower()


def sendable(text: str) -> str:
    """Neither a form nor a database can hold these."""
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("must not contain NUL or lone surrogates")
    return text


def _within_limits(metadata: dict[str, str]) -> dict[str, str]:
    """https://docs.stripe.com/metadata#data: 50 keys of 40 characters, values of 500."""
    room = 50 - len(OUR_KEYS)
    if len(metadata) > room:
        raise ValueError(f"must not have more than {room} keys")
    for key, value in metadata.items():
        if not 1 <= len(key) <= 40 or "[" in key or "]" in key:
            raise ValueError("keys must be 1 to 40 characters, without square brackets")
        if len(value) > 500:
            raise ValueError("values must not be longer than 500 characters")
        sendable(key + value)
        if key in OUR_KEYS:
            raise ValueError(f"the key {key} is ours")
    return metadata


Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT)]
Currency = Annotated[str, AfterValidator(_known_currency)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(sendable)]
Email = Annotated[
    str,
    StringConstraints(max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$"),
]
Metadata = Annotated[dict[str, str], AfterValidator(_within_limits)]

# Ids become part of URLs.
PaymentIntentId = Annotated[str, StringConstraints(pattern=r"^pi_[A-Za-z0-9_]{1,200}$")]
CustomerId = Annotated[str, StringConstraints(pattern=r"^cus_[A-Za-z0-9_]{1,200}$")]
PaymentMethodId = Annotated[
    str, StringConstraints(pattern=r"^(pm|card|src|ba)_[A-Za-z0-9_]{1,200}$")
]
EventId = Annotated[str, StringConstraints(pattern=r"^evt_[A-Za-z0-9_]{1,200}$")]


class NewPaymentIntent(Payload):
    """https://docs.stripe.com/api/payment_intents/create. The amount is in minor units."""

    amount: Amount
    currency: Currency
    customer: CustomerId | None = None
    payment_method: PaymentMethodId | None = None
    confirm: bool | None = None
    capture_method: Literal["automatic", "automatic_async", "manual"] | None = None
    description: Text | None = None
    metadata: Metadata | None = None


class RetrievePaymentIntent(Payload):
    """https://docs.stripe.com/api/payment_intents/retrieve"""

    payment_intent: PaymentIntentId


class CancelPaymentIntent(Payload):
    """https://docs.stripe.com/api/payment_intents/cancel"""

    payment_intent: PaymentIntentId
    cancellation_reason: (
        Literal["duplicate", "fraudulent", "requested_by_customer", "abandoned"] | None
    ) = None


class NewCustomer(Payload):
    """https://docs.stripe.com/api/customers/create"""

    email: Email
    name: Annotated[Text, StringConstraints(max_length=256)] | None = None
    description: Text | None = None
    metadata: Metadata | None = None


class DeleteCustomer(Payload):
    """https://docs.stripe.com/api/customers/delete"""

    customer: CustomerId


class NewRefund(Payload):
    """https://docs.stripe.com/api/refunds/create. Without an amount: all that is left."""

    payment_intent: PaymentIntentId
    amount: Amount | None = None
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | None = None
    metadata: Metadata | None = None


class ListEvents(Payload):
    """https://docs.stripe.com/api/events/list. Newest first; `created_from` in Unix seconds."""

    limit: Annotated[int, Field(ge=1, le=100)] = 100
    created_from: Annotated[int, Field(ge=0, le=32_503_680_000)] | None = None
    starting_after: EventId | None = None
    ending_before: EventId | None = None
    types: Annotated[list[Text], Field(min_length=1, max_length=20)] | None = None
