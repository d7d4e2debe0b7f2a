"""Objects as Stripe answers with them, shortened to what anybody reads."""

from __future__ import annotations

from typing import Any


def intent(**changes: Any) -> dict[str, Any]:
    """https://docs.stripe.com/api/payment_intents/object"""
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 2000,
        "amount_received": 0,
        "client_secret": "pi_1_secret_2",
        "currency": "usd",
        "last_payment_error": None,
        "metadata": {},
        "status": "requires_payment_method",
    } | changes


def customer(**changes: Any) -> dict[str, Any]:
    """https://docs.stripe.com/api/customers/object"""
    return {
        "id": "cus_1",
        "object": "customer",
        "email": "jo@example.com",
        "metadata": {},
    } | changes


def refund(**changes: Any) -> dict[str, Any]:
    """https://docs.stripe.com/api/refunds/object"""
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 2000,
        "payment_intent": "pi_1",
        "metadata": {},
        "status": "succeeded",
    } | changes


def charge(**changes: Any) -> dict[str, Any]:
    """https://docs.stripe.com/api/charges/object"""
    return {
        "id": "ch_1",
        "object": "charge",
        "amount": 2000,
        "amount_captured": 2000,
        "amount_refunded": 0,
        "captured": True,
        "metadata": {},
        "payment_intent": "pi_1",
    } | changes


def page(*objects: dict[str, Any], kind: str = "list", **changes: Any) -> dict[str, Any]:
    """https://docs.stripe.com/api/pagination"""
    return {"object": kind, "data": list(objects), "has_more": False} | changes


def card_error(**changes: Any) -> dict[str, Any]:
    """https://docs.stripe.com/api/errors"""
    error = {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "insufficient_funds",
        "message": "Your card has insufficient funds.",
    }
    return {"error": error | changes}


def invalid_request(**changes: Any) -> dict[str, Any]:
    error = {
        "type": "invalid_request_error",
        "code": "parameter_invalid_integer",
        "param": "amount",
        "message": "This value must be greater than or equal to 1.",
    }
    return {"error": error | changes}
