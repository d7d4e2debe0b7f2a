"""Stripe's adapter keeps to what every adapter keeps to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outbound.client import Timeouts
from outbound.errors import PermanentError
from payments.adapters.stripe import StripeAdapter
from tests.contracts.adapter import AdapterContract, Sample
from tests.outbound import wire
from tests.payments import samples

KEY = "sk_test_contract"


class TestStripe(AdapterContract):
    """All seven operations."""

    adapter_class = StripeAdapter
    secrets = (KEY,)
    short_read = Timeouts(connect=10, read=0.05, total=20)
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

    def test_quoted_back(self) -> None:
        """What Stripe quotes of a customer does not reach an error's message; ids, and texts so
        short that they are everywhere, do."""
        payload = {
            "email": "jo@home",
            "name": "Jo Doe",
            "description": "i",
            "metadata": {"k": "Elm"},
        }
        message = "Jo Doe <jo@home>, Elm: invalid address for pi_1"
        body = json.dumps(samples.invalid_request(code="email_invalid", message=message)).encode()
        answer = wire.reply(body, status="400 Bad Request")
        model = StripeAdapter.operations["create_customer"].payload_model
        with wire.peer(wire.answers(answer)) as peer, pytest.raises(PermanentError) as caught:
            self.adapter(peer.url).perform(
                "create_customer", model.model_validate(payload), self.context()
            )
        assert caught.value.message.endswith(
            "- [hidden] <[hidden]>, [hidden]: invalid address for pi_1"
        )
