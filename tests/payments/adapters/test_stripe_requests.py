"""Our requests against those of Stripe's own client: the same on the wire, sorted pair by pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import stripe

from outbound.client import CallContext, HttpClient, Timeouts
from payments.adapters.stripe import DEFAULT_API_VERSION, StripeAdapter
from tests.outbound import wire

API_KEY = "sk_test_oracle"
CALL_ID = "0198c0de-0000-7000-8000-000000000001"
IDEMPOTENCY_KEY = "hf-0198c0de-0000-7000-8000-000000000001"
MARKS = {"holdfast_call": CALL_ID, "holdfast_key": IDEMPOTENCY_KEY}
HEADERS = (
    "authorization",
    "content-length",
    "content-type",
    "idempotency-key",
    "stripe-account",
    "stripe-context",
    "stripe-version",
)
AWKWARD = {"a b&c=d": "100 % é + ~ [x]", "emoji 🧾": "line\nbreak", "empty": "", "order": "6735"}


@dataclass(frozen=True)
class Sent:
    """A request as it stood on the wire, as far as it matters."""

    method: str
    path: str
    query: list[str]
    headers: dict[str, str]
    form: list[str]

    @classmethod
    def read(cls, raw: bytes) -> Sent:
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        return cls(
            method,
            path,
            sorted(query.split("&")),
            {name: headers[name] for name in HEADERS if name in headers},
            sorted(body.decode("ascii").split("&")),
        )


Oracle = Callable[[stripe.StripeClient, Any], Any]


@dataclass(frozen=True)
class Case:
    """One thing to ask, in our words and in those of Stripe's client."""

    operation: str
    payload: dict[str, Any]
    oracle: Oracle
    reply: dict[str, Any]


def keyed(**options: Any) -> Any:
    return {"idempotency_key": IDEMPOTENCY_KEY, **options}


CASES = {
    "payment": Case(
        "create_payment_intent",
        {"amount": 2000, "currency": "USD"},
        lambda client, options: client.v1.payment_intents.create(
            {"amount": 2000, "currency": "usd", "metadata": MARKS}, options
        ),
        {"id": "pi_1", "object": "payment_intent"},
    ),
    "payment, with everything": Case(
        "create_payment_intent",
        {
            "amount": 99_999_999,
            "currency": "jpy",
            "customer": "cus_9",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "capture_method": "manual",
            "description": "Dürüm & Co. = 50 %",
            "metadata": AWKWARD,
        },
        lambda client, options: client.v1.payment_intents.create(
            {
                "amount": 99_999_999,
                "currency": "jpy",
                "customer": "cus_9",
                "payment_method": "pm_card_visa",
                "confirm": True,
                "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                "capture_method": "manual",
                "description": "Dürüm & Co. = 50 %",
                "metadata": {**AWKWARD, **MARKS},
            },
            options,
        ),
        {"id": "pi_1", "object": "payment_intent"},
    ),
    "payment, not confirmed": Case(
        "create_payment_intent",
        {"amount": 1, "currency": "eur", "confirm": False},
        lambda client, options: client.v1.payment_intents.create(
            {"amount": 1, "currency": "eur", "confirm": False, "metadata": MARKS}, options
        ),
        {"id": "pi_1", "object": "payment_intent"},
    ),
    "cancellation": Case(
        "cancel_payment_intent",
        {"payment_intent": "pi_1"},
        lambda client, options: client.v1.payment_intents.cancel("pi_1", options=options),
        {"id": "pi_1", "object": "payment_intent"},
    ),
    "cancellation, with a reason": Case(
        "cancel_payment_intent",
        {"payment_intent": "pi_1", "cancellation_reason": "abandoned"},
        lambda client, options: client.v1.payment_intents.cancel(
            "pi_1", {"cancellation_reason": "abandoned"}, options
        ),
        {"id": "pi_1", "object": "payment_intent"},
    ),
    "customer": Case(
        "create_customer",
        {
            "email": "jo+tag@example.com",
            "name": "Jo Doe",
            "description": "since 1999",
            "metadata": AWKWARD,
        },
        lambda client, options: client.v1.customers.create(
            {
                "email": "jo+tag@example.com",
                "name": "Jo Doe",
                "description": "since 1999",
                "metadata": {**AWKWARD, **MARKS},
            },
            options,
        ),
        {"id": "cus_1", "object": "customer"},
    ),
    "refund": Case(
        "create_refund",
        {"payment_intent": "pi_1", "amount": 700, "reason": "requested_by_customer"},
        lambda client, options: client.v1.refunds.create(
            {
                "payment_intent": "pi_1",
                "amount": 700,
                "reason": "requested_by_customer",
                "metadata": MARKS,
            },
            options,
        ),
        {"id": "re_1", "object": "refund"},
    ),
    "refund of all that is left": Case(
        "create_refund",
        {"payment_intent": "pi_1", "metadata": {"ticket": "6735"}},
        lambda client, options: client.v1.refunds.create(
            {"payment_intent": "pi_1", "metadata": {"ticket": "6735", **MARKS}}, options
        ),
        {"id": "re_1", "object": "refund"},
    ),
}

UNKEYED_CASES = {
    "retrieve": Case(
        "retrieve_payment_intent",
        {"payment_intent": "pi_1"},
        lambda client, options: client.v1.payment_intents.retrieve("pi_1", options=options),
        {"id": "pi_1", "object": "payment_intent"},
    ),
    "delete": Case(
        "delete_customer",
        {"customer": "cus_1"},
        lambda client, options: client.v1.customers.delete("cus_1", options=options),
        {"id": "cus_1", "object": "customer", "deleted": True},
    ),
    "events": Case(
        "list_events",
        {},
        lambda client, options: client.v1.events.list({"limit": 100}, options),
        {"object": "list", "data": [], "url": "/v1/events", "has_more": False},
    ),
    "events, narrowed": Case(
        "list_events",
        {
            "limit": 7,
            "created_from": 1_700_000_000,
            "starting_after": "evt_1",
            "ending_before": "evt_9",
            "types": ["charge.refunded", "customer.created"],
        },
        lambda client, options: client.v1.events.list(
            {
                "limit": 7,
                "created": {"gte": 1_700_000_000},
                "starting_after": "evt_1",
                "ending_before": "evt_9",
                "types": ["charge.refunded", "customer.created"],
            },
            options,
        ),
        {"object": "list", "data": [], "url": "/v1/events", "has_more": False},
    ),
}


def both(case: Case, options: Any, *, account: str = "", version: str = "") -> tuple[Sent, Sent]:
    """The same thing asked by us and by Stripe's client."""
    answer = wire.answers(wire.reply(json.dumps(case.reply).encode()))
    with wire.peer(answer) as peer:
        adapter = StripeAdapter(
            name="stripe",
            options={"API_KEY": API_KEY, "API_BASE": peer.url, "API_VERSION": version},
            http=HttpClient(provider="stripe"),
        )
        model = StripeAdapter.operations[case.operation].payload_model
        context = CallContext(
            CALL_ID, IDEMPOTENCY_KEY, account=account, timeouts=Timeouts(10, 11, 20)
        )
        adapter.perform(case.operation, model.model_validate(case.payload), context)
        client = stripe.StripeClient(
            API_KEY,
            stripe_version=version or DEFAULT_API_VERSION,
            base_addresses={"api": peer.url},
            max_network_retries=0,
        )
        case.oracle(client, options)
    ours, theirs = peer.requests
    return Sent.read(ours), Sent.read(theirs)


@pytest.mark.parametrize("name", CASES)
def test_keyed_request(name: str) -> None:
    """Writes are the oracle's, byte for byte, key and version included."""
    ours, theirs = both(CASES[name], keyed())
    assert ours == theirs
    assert ours.headers["idempotency-key"] == IDEMPOTENCY_KEY
    assert ours.headers["stripe-version"] == "2023-10-16"


@pytest.mark.parametrize("name", UNKEYED_CASES)
def test_unkeyed_request(name: str) -> None:
    """Reads, and the DELETE for which Stripe has no keys, are the oracle's."""
    ours, theirs = both(UNKEYED_CASES[name], {})
    assert ours == theirs
    assert "idempotency-key" not in ours.headers


def test_account_and_version() -> None:
    """The account of a call and the pinned version go into the headers as the oracle's do."""
    ours, theirs = both(
        CASES["refund"],
        keyed(stripe_account="acct_1AbC"),
        account="acct_1AbC",
        version="2024-09-30.acacia",
    )
    assert ours == theirs
    assert ours.headers["stripe-account"] == "acct_1AbC"
    assert ours.headers["stripe-version"] == "2024-09-30.acacia"


def test_every_operation_is_compared() -> None:
    """No operation escapes the oracle."""
    compared = {case.operation for case in (*CASES.values(), *UNKEYED_CASES.values())}
    assert compared == set(StripeAdapter.operations)
