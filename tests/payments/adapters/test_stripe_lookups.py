"""What the resolver finds at Stripe, and what it does not take for found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from outbound.adapters import Reply
from outbound.client import CallContext, HttpClient, Timeouts
from outbound.errors import DidNotHappen, PermanentError, TransientError
from payments.adapters.stripe import PAGES, StripeAdapter
from tests.outbound import wire
from tests.payments import samples

CALL_ID = "0198c0de-0000-7000-8000-000000000001"
OURS = {"holdfast_call": CALL_ID, "holdfast_key": "key-2", "order": "1"}
OF_AN_OLDER_KEY = {"holdfast_call": CALL_ID, "holdfast_key": "key-1"}
OF_ANOTHER_CALL = {"holdfast_call": "other", "holdfast_key": "key-2"}
NEW_PAYMENT = ("create_payment_intent", {"amount": 2000, "currency": "usd"})
NEW_CUSTOMER = ("create_customer", {"email": "jo@example.com"})
NEW_REFUND = ("create_refund", {"payment_intent": "pi_1", "amount": 5})
CANCEL = ("cancel_payment_intent", {"payment_intent": "pi_1"})
DELETE = ("delete_customer", {"customer": "cus_1"})

Resolve = Callable[[tuple[str, dict[str, Any]]], Reply | None]


@contextmanager
def stripe_says(*documents: Any) -> Iterator[tuple[Resolve, list[bytes]]]:
    """A provider that answers each request with the next document."""
    answers = [wire.reply(json.dumps(document).encode()) for document in documents]
    with wire.peer(wire.answers(*answers)) as peer:
        adapter = StripeAdapter(
            name="stripe",
            options={"API_KEY": "sk_test_x", "API_BASE": peer.url},
            http=HttpClient(provider="stripe"),
        )

        def resolve(asked: tuple[str, dict[str, Any]]) -> Reply | None:
            name, payload = asked
            model = StripeAdapter.operations[name].payload_model
            context = CallContext(CALL_ID, "key-2", timeouts=Timeouts(10, 11, 20))
            return adapter.resolve(name, model.model_validate(payload), context)

        yield resolve, peer.requests


def target(request: bytes) -> tuple[str, str, dict[str, str]]:
    method, address, _ = request.split(b"\r\n")[0].decode().split(" ")
    parts = urlsplit(address)
    return method, parts.path, dict(parse_qsl(parts.query))


@pytest.mark.parametrize(
    "asked, path, made",
    [
        (NEW_PAYMENT, "/v1/payment_intents/search", samples.intent),
        (NEW_CUSTOMER, "/v1/customers/search", samples.customer),
    ],
    ids=["payment", "customer"],
)
def test_what_a_create_made_is_searched(
    asked: tuple[str, dict[str, Any]], path: str, made: Callable[..., dict[str, Any]]
) -> None:
    """By our call's id, and only what its present key made counts."""
    theirs = [made(id="x_1", metadata=OF_AN_OLDER_KEY), made(id="x_2", metadata=OF_ANOTHER_CALL)]
    document = samples.page(*theirs, made(id="x_3", metadata=OURS), kind="search_result")
    with stripe_says(document) as (resolve, requests):
        reply = resolve(asked)
    assert reply is not None
    assert reply.provider_reference == "x_3"
    assert reply.result == made(id="x_3", metadata=OURS)
    method, found_path, query = target(requests[0])
    assert (method, found_path) == ("GET", path)
    assert query == {"query": f"metadata['holdfast_call']:'{CALL_ID}'", "limit": "100"}


@pytest.mark.parametrize("asked", [NEW_PAYMENT, NEW_CUSTOMER], ids=["payment", "customer"])
def test_search_lags_behind(asked: tuple[str, dict[str, Any]]) -> None:
    """Nothing found is not "did not happen"."""
    with stripe_says(samples.page(kind="search_result")) as (resolve, _):
        assert resolve(asked) is None


@pytest.mark.parametrize("confirm", [True, False])
def test_a_declined_intent_is_proof_where_money_was_to_be_taken(confirm: bool) -> None:
    """An intent that waits for another way to pay: the decline was the answer to a call that
    confirmed, and for another call it is what was asked for."""
    found = samples.intent(id="pi_1", metadata=OURS, status="requires_payment_method")
    asked = {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa"}
    name, payload = NEW_PAYMENT[0], asked | ({"confirm": True} if confirm else {})
    with stripe_says(samples.page(found, kind="search_result")) as (resolve, _):
        if confirm:
            with pytest.raises(DidNotHappen) as proof:
                resolve((name, payload))
            assert proof.value.code == "card_declined"
        else:
            assert resolve((name, payload)) is not None


def test_object_of_an_older_key_is_not_ours() -> None:
    """After "retry as new", what the old key made is not mistaken for this call's effect."""
    old = samples.intent(metadata=OF_AN_OLDER_KEY)
    with stripe_says(samples.page(old, kind="search_result")) as (resolve, _):
        assert resolve(NEW_PAYMENT) is None


def test_refunds_are_listed_page_by_page() -> None:
    """A refund has no search: the payment's refunds are listed until ours is found."""
    first = samples.page(samples.refund(id="re_1", metadata=OF_ANOTHER_CALL), has_more=True)
    second = samples.page(samples.refund(id="re_2", metadata=OURS), has_more=True)
    with stripe_says(first, second) as (resolve, requests):
        reply = resolve(NEW_REFUND)
    assert reply is not None
    assert reply.provider_reference == "re_2"
    asked = [target(request) for request in requests]
    assert asked == [
        ("GET", "/v1/refunds", {"payment_intent": "pi_1", "limit": "100"}),
        (
            "GET",
            "/v1/refunds",
            {"payment_intent": "pi_1", "limit": "100", "starting_after": "re_1"},
        ),
    ]


def test_refund_that_is_not_there() -> None:
    """All refunds are seen and none is ours: that is for the next look-up to confirm."""
    with stripe_says(samples.page(samples.refund())) as (resolve, requests):
        assert resolve(NEW_REFUND) is None
    assert len(requests) == 1


def test_listing_ends() -> None:
    """A list without an end is left after a bounded number of pages."""
    endless = samples.page(samples.refund(), has_more=True)
    with stripe_says(endless) as (resolve, requests):
        assert resolve(NEW_REFUND) is None
    assert len(requests) == PAGES


@pytest.mark.parametrize(
    "asked, document, worked",
    [
        (CANCEL, samples.intent(status="canceled"), True),
        (CANCEL, samples.intent(status="succeeded"), False),
        (CANCEL, samples.intent(status="requires_capture"), False),
        (DELETE, {"id": "cus_1", "object": "customer", "deleted": True}, True),
        (DELETE, samples.customer(id="cus_1"), False),
    ],
    ids=["cancelled", "paid instead", "still open", "deleted", "still there"],
)
def test_wanted_states_are_looked_at(
    asked: tuple[str, dict[str, Any]], document: dict[str, Any], worked: bool
) -> None:
    """A cancellation and a deletion worked when the object is in the state they wanted."""
    with stripe_says(document) as (resolve, requests):
        reply = resolve(asked)
    assert (reply is not None) is worked
    assert target(requests[0])[0] == "GET"


@pytest.mark.parametrize("asked", [NEW_PAYMENT, NEW_REFUND, CANCEL], ids=lambda asked: asked[0])
@pytest.mark.parametrize(
    "document", [[], {"object": "other"}, {"object": "list", "data": 7}, {"error": {}}]
)
def test_odd_answers(asked: tuple[str, dict[str, Any]], document: Any) -> None:
    """What cannot be read proves nothing: not found, or an anticipated error."""
    with stripe_says(document) as (resolve, _), suppress(TransientError):
        assert resolve(asked) is None


def test_account_must_look_like_one() -> None:
    """What stands in a header is checked, and nothing is sent."""
    adapter = StripeAdapter(
        name="stripe",
        options={"API_KEY": "sk_test_x", "API_BASE": "http://127.0.0.1:9"},
        http=HttpClient(provider="stripe"),
    )
    context = CallContext(CALL_ID, "key", account="acct_1\r\nX-Evil: 1")
    model = StripeAdapter.operations["delete_customer"].payload_model
    with pytest.raises(PermanentError, match="acct_"):
        adapter.perform("delete_customer", model.model_validate({"customer": "cus_1"}), context)
