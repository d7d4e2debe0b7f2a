"""What Stripe's objects say, in replies and in events. Read tolerantly: a member that is not what
it should be counts as absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from payments.adapters.stripe_payloads import CALL_KEY, KEY_KEY
from payments.states import PaymentStatus, RefundStatus

MAX_ID_LENGTH = 255
MAX_AMOUNT = 2**63 - 1  # what the column holds

# https://docs.stripe.com/payments/paymentintents/lifecycle
PAYMENT_STATUSES = {
    "requires_payment_method": PaymentStatus.OPEN,
    "requires_confirmation": PaymentStatus.OPEN,
    "requires_action": PaymentStatus.OPEN,
    "processing": PaymentStatus.PROCESSING,
    "requires_capture": PaymentStatus.AUTHORISED,
    "canceled": PaymentStatus.CANCELLED,
    "succeeded": PaymentStatus.SUCCEEDED,
}

# https://docs.stripe.com/api/refunds/object#refund_object-status
REFUND_STATUSES = {
    "pending": RefundStatus.PENDING,
    "requires_action": RefundStatus.PENDING,
    "succeeded": RefundStatus.SUCCEEDED,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """Which call of ours made an object, and with which key."""

    call_id: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment intent. `captured` is None while it is not decided."""

    id: str
    status: PaymentStatus
    captured: int | None
    mark: Mark | None


@dataclass(frozen=True, slots=True)
class RefundedCharge:
    """A charge of which something was given back."""

    payment_intent: str
    captured: int | None
    refunded: int
    mark: Mark | None
    refunds: tuple[Mapping[str, Any], ...]


def read_intent(document: Mapping[str, Any], *, status: PaymentStatus | None = None) -> Intent:
    """`status`: what an event's type says, which is nearer than the object's own word."""
    if status is None:
        status = PAYMENT_STATUSES.get(_text(document, "status"), PaymentStatus.OPEN)
        if status is PaymentStatus.OPEN and document.get("last_payment_error"):
            status = PaymentStatus.FAILED
    decided = status in (PaymentStatus.SUCCEEDED, PaymentStatus.CANCELLED)
    return Intent(
        id=read_id(document, "id"),
        status=status,
        captured=read_amount(document, "amount_received") if decided else None,
        mark=read_mark(document),
    )


def read_refunded_charge(document: Mapping[str, Any]) -> RefundedCharge | None:
    """None when no money had been taken: then an authorisation was released, which Stripe calls
    a refund too. https://docs.stripe.com/refunds#cancel-payment"""
    if document.get("captured") is False:
        return None
    refunds = document.get("refunds")
    listed = refunds.get("data") if isinstance(refunds, Mapping) else None
    return RefundedCharge(
        payment_intent=read_id(document, "payment_intent"),
        captured=read_amount(document, "amount_captured"),
        refunded=read_amount(document, "amount_refunded") or 0,
        mark=read_mark(document),
        refunds=tuple(r for r in listed if isinstance(r, Mapping))
        if isinstance(listed, list)
        else (),
    )


def read_id(document: Mapping[str, Any], name: str) -> str:
    """The id of an object, expanded or not; '' when there is none."""
    value = document.get(name)
    if isinstance(value, Mapping):
        value = value.get("id")
    usable = isinstance(value, str) and len(value) <= MAX_ID_LENGTH and value.isascii()
    return value if usable and isinstance(value, str) and "\x00" not in value else ""


def read_mark(document: Mapping[str, Any]) -> Mark | None:
    """Our mark in an object's metadata; None for what was made elsewhere."""
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return None
    call_id, key = _text(metadata, CALL_KEY), _text(metadata, KEY_KEY)
    return Mark(call_id, key) if call_id and key else None


def read_refund_status(document: Mapping[str, Any]) -> RefundStatus:
    return REFUND_STATUSES.get(_text(document, "status"), RefundStatus.PENDING)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def read_amount(document: Mapping[str, Any], name: str) -> int | None:
    """None where it is no amount that we could store."""
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_AMOUNT:
        return None
    return value
