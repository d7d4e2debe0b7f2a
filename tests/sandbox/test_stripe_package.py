"""Stripe's own package as the judge: every endpoint that is served, through its client."""

from __future__ import annotations

import pytest
import stripe

from sandbox.control import Sandbox

NEVER = {"enabled": True, "allow_redirects": "never"}


def pay(client: stripe.StripeClient, **changes: object) -> stripe.PaymentIntent:
    params = {
        "amount": 2000,
        "currency": "usd",
        "payment_method": "pm_card_visa",
        "confirm": True,
        "automatic_payment_methods": NEVER,
        **changes,
    }
    return client.v1.payment_intents.create(params)  # type: ignore[arg-type]


def test_a_payment_that_the_customer_confirms(client: stripe.StripeClient) -> None:
    """Create, retrieve and confirm."""
    made = client.v1.payment_intents.create(
        {
            "amount": 1234,
            "currency": "eur",
            "description": "a book",
            "receipt_email": "reader@example.com",
            "metadata": {"order": "7", "note": "é & =[]"},
        }
    )
    assert made.status == "requires_payment_method"
    assert made.client_secret is not None
    assert made.client_secret.startswith(f"{made.id}_secret_")
    assert made.metadata.to_dict() == {"order": "7", "note": "é & =[]"}
    confirmed = client.v1.payment_intents.confirm(
        made.id, {"payment_method": "pm_card_mastercard", "return_url": "https://example.com/"}
    )
    assert (confirmed.status, confirmed.amount_received) == ("succeeded", 1234)
    found = client.v1.payment_intents.retrieve(made.id)
    assert (found.status, found.description) == ("succeeded", "a book")
    charge = client.v1.charges.retrieve(str(found.latest_charge))
    assert (charge.paid, charge.captured, charge.payment_intent) == (True, True, made.id)


def test_a_payment_that_is_captured(client: stripe.StripeClient) -> None:
    """Authorise, then take a part."""
    intent = pay(client, capture_method="manual")
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 2000)
    taken = client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 1500})
    assert (taken.status, taken.amount_received, taken.amount_capturable) == ("succeeded", 1500, 0)


def test_a_payment_that_is_cancelled(client: stripe.StripeClient) -> None:
    """Cancel, with a reason."""
    intent = pay(client, confirm=False)
    gone = client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (gone.status, gone.cancellation_reason) == ("canceled", "abandoned")
    assert gone.canceled_at is not None


def test_a_declined_card(client: stripe.StripeClient) -> None:
    """402 with the intent that was left behind."""
    with pytest.raises(stripe.CardError) as declined:
        pay(client, payment_method="pm_card_chargeDeclined")
    error = declined.value.error
    assert error is not None
    assert error.payment_intent is not None
    assert (declined.value.http_status, error.code, error.decline_code) == (
        402,
        "card_declined",
        "generic_decline",
    )
    left = client.v1.payment_intents.retrieve(error.payment_intent.id)
    assert left.status == "requires_payment_method"
    assert left.last_payment_error is not None
    assert left.last_payment_error.code == "card_declined"


def test_customers(client: stripe.StripeClient) -> None:
    """Create, retrieve, find, delete; a deleted one is remembered as such."""
    made = client.v1.customers.create(
        {"email": "ada@example.com", "name": "Ada", "metadata": {"holdfast_call": "c1"}}
    )
    assert client.v1.customers.retrieve(made.id).email == "ada@example.com"
    query = {"query": "metadata['holdfast_call']:'c1'"}
    assert [one.id for one in client.v1.customers.search(query).data] == [made.id]  # type: ignore[arg-type]
    assert client.v1.customers.list({"email": "ada@example.com"}).data[0].id == made.id
    assert client.v1.customers.delete(made.id).deleted is True
    assert client.v1.customers.retrieve(made.id).deleted is True
    assert client.v1.customers.search(query).data == []  # type: ignore[arg-type]
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.customers.delete(made.id)


def test_refunds(client: stripe.StripeClient) -> None:
    """Create, retrieve and list; not more than there is."""
    intent = pay(client)
    first = client.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 500, "reason": "duplicate"}
    )
    assert (first.status, first.amount, first.payment_intent) == ("succeeded", 500, intent.id)
    assert client.v1.refunds.retrieve(first.id).reason == "duplicate"
    rest = client.v1.refunds.create({"charge": str(intent.latest_charge)})
    assert rest.amount == 1500
    listed = client.v1.refunds.list({"payment_intent": intent.id})
    assert [refund.id for refund in listed.data] == [rest.id, first.id]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"


def test_payments_are_found(client: stripe.StripeClient) -> None:
    """By search and by list."""
    intent = pay(client, metadata={"holdfast_call": "c2"})
    pay(client)
    found = client.v1.payment_intents.search({"query": "metadata['holdfast_call']:'c2'"})
    assert [one.id for one in found.data] == [intent.id]
    assert len(client.v1.payment_intents.list().data) == 2


def test_events_are_paged(client: stripe.StripeClient) -> None:
    """The package's own paging visits every event once, newest first, and backwards too."""
    for _ in range(7):
        client.v1.customers.create({})
    pages = client.v1.events.list({"limit": 3, "type": "customer.created"})
    ids = [event.id for event in pages.auto_paging_iter()]
    assert len(set(ids)) == len(ids) == 7
    back = client.v1.events.list({"limit": 3, "type": "customer.created", "ending_before": ids[-1]})
    assert [event.id for event in back.auto_paging_iter()] == list(reversed(ids[:-1]))
    assert client.v1.events.retrieve(ids[0]).type == "customer.created"


def test_searches_are_paged(client: stripe.StripeClient) -> None:
    """The package's own paging visits every result once."""
    made = [client.v1.customers.create({"metadata": {"k": "v"}}).id for _ in range(5)]
    pages = client.v1.customers.search({"query": "metadata['k']:'v'", "limit": 2})
    assert [one.id for one in pages.auto_paging_iter()] == list(reversed(made))


def test_the_package_reads_every_refusal(client: stripe.StripeClient, sandbox: Sandbox) -> None:
    """Errors become the exceptions that they are meant to be."""
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        client.v1.payment_intents.retrieve("pi_unknown")
    assert (unknown.value.http_status, unknown.value.code) == (404, "resource_missing")
    sandbox.add_fault("rate_limit", retry_after=1)
    with pytest.raises(stripe.RateLimitError):
        client.v1.events.list()
    sandbox.add_fault("status", status=503)
    with pytest.raises(stripe.APIError):
        client.v1.events.list()
    client.v1.customers.create({"name": "a"}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "b"}, {"idempotency_key": "k"})
    strangers = stripe.StripeClient("nonsense", base_addresses={"api": sandbox.url})
    with pytest.raises(stripe.AuthenticationError):
        strangers.v1.events.list()


def test_the_package_retries_what_it_may(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own retries, under one key, end in one effect."""
    client = stripe.StripeClient(
        "sk_test_oracle", base_addresses={"api": sandbox.url}, max_network_retries=3
    )
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)  # seconds, between them
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.01)
    sandbox.add_fault("drop_after_effect")
    sandbox.add_fault("conflict", should_retry=True)
    sandbox.add_fault("status", status=500)
    made = client.v1.customers.create({"name": "once"})
    effects = sandbox.ledger()
    assert [effect.object for effect in effects] == [made.id]
    assert len(sandbox.requests(key=effects[0].key)) == 4
