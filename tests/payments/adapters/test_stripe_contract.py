"""Stripe's adapter keeps to what every adapter keeps to."""

from __future__ import annotations

import json
from typing import Any

from payments.adapters.stripe import StripeAdapter
from tests.contracts.adapter import AdapterContract, Sample
from tests.payments import samples

KEY = "sk_test_contract"


class TestStripe(AdapterContract):
    """All seven operations."""

    adapter_class = StripeAdapter
    secrets = (KEY,)
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "create_payment_intent": Sample(
            {"amount": 2000, "currency": "usd", "description": "three lamps", "confirm": True},
            json.dumps(samples.intent()).encode(),
            "pi_1",
            private=("three lamps",),
        ),
        "retrieve_payment_intent": Sample(
            {"payment_intent": "pi_1"}, json.dumps(samples.intent()).encode(), "pi_1"
        ),
        "cancel_payment_intent": Sample(
            {"payment_intent": "pi_1", "cancellation_reason": "duplicate"},
            json.dumps(samples.intent(status="canceled")).encode(),
            "pi_1",
        ),
        "create_customer": Sample(
            {"email": "jo@example.com", "name": "Jo Doe", "metadata": {"street": "Elm Row 7"}},
            json.dumps(samples.customer()).encode(),
            "cus_1",
            private=("jo@example.com", "Jo Doe", "Elm Row 7"),
        ),
        "delete_customer": Sample(
            {"customer": "cus_1"},
            json.dumps({"id": "cus_1", "object": "customer", "deleted": True}).encode(),
            "cus_1",
        ),
        "create_refund": Sample(
            {"payment_intent": "pi_1", "amount": 500, "reason": "duplicate"},
            json.dumps(samples.refund()).encode(),
            "re_1",
        ),
        "list_events": Sample({}, json.dumps(samples.page({"id": "evt_1"})).encode(), ""),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {"API_KEY": KEY, "API_BASE": url}
