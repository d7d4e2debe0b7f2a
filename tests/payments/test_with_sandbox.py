"""Payments against the sandbox: engine, adapter, rows, and a provider that keeps books."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from outbound import clock, services, sweep
from outbound.services import OutboundCall
from outbound.states import WAITING, CallStatus
from payments.models import Payment
from payments.services import (
    cancel_payment,
    create_customer,
    create_payment,
    delete_customer,
    refund_payment,
    retrieve_payment,
)
from payments.states import CustomerStatus, PaymentStatus, RefundStatus
from sandbox.control import Sandbox
from tests.payments.conftest import deliver
from tests.payments.events import event, tell_until_understood
from webhooks.handlers import handlers_for

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

FAULTS: dict[str, dict[str, Any]] = {
    "drop before effect": {"fault": "drop_before_effect"},
    "drop after effect": {"fault": "drop_after_effect"},
    "drop in the headers": {"fault": "drop_after_effect", "when": "in_headers"},
    "drop in the body": {"fault": "drop_after_effect", "when": "in_body", "how": "close"},
    "silence before effect": {"fault": "hang"},
    "silence after effect": {"fault": "hang", "effect": True},
    "drip": {"fault": "drip", "seconds": 0.2},
    "503": {"fault": "status", "status": 503},
    "503 after effect": {"fault": "status", "status": 503, "effect": True},
    "500, told to retry": {"fault": "status", "should_retry": True},
    "429": {"fault": "rate_limit", "retry_after": 0},
    "lock timeout": {"fault": "rate_limit", "code": "lock_timeout"},
    "409": {"fault": "conflict"},
    "malformed": {"fault": "body"},
    "empty": {"fault": "body", "shape": "empty"},
    "no object": {"fault": "body", "shape": "not_object"},
    "html": {"fault": "body", "shape": "html"},
    "truncated": {"fault": "body", "shape": "truncated"},
    "oversized": {"fault": "body", "shape": "oversized"},
}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox, settings: Settings) -> Sandbox:
    """As just started, and the provider that the adapter calls."""
    running.reset()
    entry = settings.OUTBOUND_ADAPTERS["stripe"]
    settings.OUTBOUND_ADAPTERS = {
        "stripe": {
            **entry,
            "OPTIONS": {**entry["OPTIONS"], "API_BASE": running.url},
            "POLICY": {"connect_timeout": 0.5, "read_timeout": 1.0, "total_timeout": 1.5},
        }
    }
    return running


def finish(call: OutboundCall | None) -> OutboundCall:
    """Attempts and look-ups, without the waits between them, until there is an outcome."""
    assert call is not None
    for _ in range(5):
        call = deliver(call)
        if call.status == CallStatus.UNKNOWN:
            sweep.look_up(str(call.pk))
            call.refresh_from_db()
        if call.status not in WAITING:
            return call
        OutboundCall.objects.filter(pk=call.pk).update(due_at=clock.now())
    return call


def paid(sandbox: Sandbox, amount: int = 2000) -> Payment:
    payment = create_payment(amount=amount, currency="usd", wait=10)
    assert payment.provider_id is not None
    sandbox.confirm(payment.provider_id)
    retrieve_payment(payment=payment)
    assert payment.status == PaymentStatus.SUCCEEDED
    return payment


def test_every_operation(sandbox: Sandbox) -> None:
    """The whole of it, once: somebody is known, pays, gets money back, and is forgotten."""
    customer = create_customer(email="jo@example.com", name="Jo Doe", metadata={"tier": "gold"})
    finish(customer.call)
    customer.refresh_from_db()
    payment = create_payment(
        amount=2000,
        currency="EUR",
        customer=customer,
        description="three lamps",
        metadata={"order": "7"},
        wait=10,
    )
    assert payment.status == PaymentStatus.OPEN
    assert payment.provider_id is not None
    assert payment.client_secret.startswith(payment.provider_id)
    sandbox.confirm(payment.provider_id)
    intent = retrieve_payment(payment=payment)
    assert (intent["customer"], intent["metadata"]["order"]) == (customer.provider_id, "7")
    part = refund_payment(payment=payment, amount=500, reason="requested_by_customer")
    rest = refund_payment(payment=payment)
    for refund in (part, rest):
        finish(refund.call)
        refund.refresh_from_db()
        assert refund.status == RefundStatus.SUCCEEDED
    other = create_payment(amount=100, currency="jpy", wait=10)
    finish(cancel_payment(payment=other, reason="abandoned").cancel_call)
    finish(delete_customer(customer=customer).delete_call)
    for row in (payment, other, customer):
        row.refresh_from_db()
    assert (payment.status, payment.amount_captured) == (PaymentStatus.SUCCEEDED, 2000)
    assert (payment.amount_reserved, payment.amount_refunded) == (2000, 2000)
    assert other.status == PaymentStatus.CANCELLED
    assert (customer.status, customer.profile) == (CustomerStatus.DELETED, {})
    assert sorted(e.kind for e in sandbox.ledger() if e.by == "request") == [
        "customer.created",
        "customer.deleted",
        "payment_intent.canceled",
        "payment_intent.created",
        "payment_intent.created",
        "refund.created",
        "refund.created",
    ]


def test_events_alone_tell_the_same(sandbox: Sandbox) -> None:
    """The answers never come, the events come backwards: the rows end as the provider has them."""
    customer = create_customer(email="jo@example.com")
    payment = create_payment(
        amount=2000, currency="usd", payment_method="pm_card_visa", confirm=True
    )
    declined = create_payment(
        amount=300, currency="usd", payment_method="pm_card_visa_chargeDeclined", confirm=True
    )
    sandbox.add_fault("drop_after_effect", times=None)
    for call in (customer.call, payment.call, declined.call):
        deliver(call)
    OutboundCall.objects.update(status=CallStatus.UNKNOWN)
    sandbox.clear_faults()
    listed = services.perform_read(adapter="stripe", operation="list_events", payload={}).result
    happened = [
        event(e["type"], e["data"]["object"])
        for e in listed["data"]
        if handlers_for("stripe", e["type"])
    ]
    assert len(happened) == 3
    tell_until_understood(happened)
    for row in (customer, payment, declined):
        row.refresh_from_db()
    assert customer.status == CustomerStatus.ACTIVE
    assert (payment.status, payment.amount_captured) == (PaymentStatus.SUCCEEDED, 2000)
    assert declined.status == PaymentStatus.FAILED
    settled = [row.call.status for row in (customer, payment, declined) if row.call]
    assert settled == [CallStatus.SUCCEEDED, CallStatus.SUCCEEDED, CallStatus.FAILED]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_effect_whatever_happens(sandbox: Sandbox, fault: str) -> None:
    """Every fault is survived, and what was asked for happens once."""
    payment = paid(sandbox)
    sandbox.add_fault(times=None, per_key=1, method="POST", **FAULTS[fault])
    customer = create_customer(email="jo@example.com")
    new = create_payment(amount=700, currency="usd", payment_method="pm_card_visa", confirm=True)
    refund = refund_payment(payment=payment, amount=500)
    calls = [finish(call) for call in (customer.call, new.call, refund.call)]
    assert [call.status for call in calls] == [CallStatus.SUCCEEDED] * 3
    assert [call.attempts for call in calls] == [2] * 3
    for row in (customer, new, refund, payment):
        row.refresh_from_db()
    assert customer.status == CustomerStatus.ACTIVE
    assert (new.status, new.amount_captured) == (PaymentStatus.SUCCEEDED, 700)
    assert (refund.status, payment.amount_refunded) == (RefundStatus.SUCCEEDED, 500)
    for call in calls:
        assert len(sandbox.ledger(call=str(call.pk))) == 1
    assert sandbox.summary()["keys_with_several_effects"] == []


@pytest.mark.parametrize("fault", ["drop_before_effect", "drop_after_effect"])
def test_deletion_whose_answer_is_lost(sandbox: Sandbox, fault: str) -> None:
    """DELETE knows no keys: the second one meets a 404 if the first one worked, and the look-up
    finds that it did."""
    customer = create_customer(email="jo@example.com")
    finish(customer.call)
    customer.refresh_from_db()
    sandbox.add_fault(fault, method="DELETE")
    call = finish(delete_customer(customer=customer).delete_call)
    assert call.status == CallStatus.SUCCEEDED
    customer.refresh_from_db()
    assert customer.status == CustomerStatus.DELETED


@pytest.mark.parametrize("effect", [True, False], ids=["with effect", "without effect"])
def test_stored_failure(sandbox: Sandbox, effect: bool) -> None:
    """A 500 that Stripe stored under the key is all that this key ever answers: the outcome is
    unknown, and is found by a look-up if there is anything to find."""
    payment = paid(sandbox)
    sandbox.add_fault("status", times=None, per_key=1, effect=effect, store=True, method="POST")
    customer = create_customer(email="jo@example.com")
    new = create_payment(amount=700, currency="usd")
    refund = refund_payment(payment=payment, amount=500)
    calls = [finish(call) for call in (customer.call, new.call, refund.call)]
    expected = CallStatus.SUCCEEDED if effect else CallStatus.UNKNOWN
    assert [call.status for call in calls] == [expected] * 3
    assert [len(sandbox.ledger(call=str(call.pk))) for call in calls] == [int(effect)] * 3
    for row in (customer, new, refund, payment):
        row.refresh_from_db()
    assert payment.amount_reserved == 500
    assert refund.status == (RefundStatus.SUCCEEDED if effect else RefundStatus.REQUESTED)


def test_search_lags_behind(sandbox: Sandbox) -> None:
    """What search does not find yet is not "did not happen": the next look-up finds it."""
    sandbox.change_settings(search_lag=3600)
    sandbox.add_fault("status", times=None, per_key=1, effect=True, store=True, method="POST")
    payment = create_payment(amount=700, currency="usd")
    call = finish(payment.call)
    assert call.status == CallStatus.UNKNOWN
    sandbox.change_settings(search_lag=0)
    assert sweep.look_up(str(call.pk))
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.OPEN


def test_declined_then_retried_as_new(sandbox: Sandbox) -> None:
    """A decline is final for its key, which answers the same for ever; with a new key it is a
    new payment."""
    sandbox.decline_for(amount=1234, decline_code="insufficient_funds")
    payment = create_payment(
        amount=1234, currency="usd", payment_method="pm_card_visa", confirm=True, wait=10
    )
    call = payment.call
    assert call is not None
    assert (call.status, payment.status) == (CallStatus.FAILED, PaymentStatus.FAILED)
    assert "insufficient_funds" in call.error_message
    sandbox.clear_declines()
    services.retry_call(call_id=call.pk)
    assert finish(call).status == CallStatus.FAILED
    services.retry_call_as_new(call_id=call.pk, reason="there is money on it now")
    assert finish(call).status == CallStatus.SUCCEEDED
    payment.refresh_from_db()
    assert (payment.status, payment.amount_captured) == (PaymentStatus.SUCCEEDED, 1234)
    made = [e for e in sandbox.ledger(call=str(call.pk)) if e.kind == "payment_intent.created"]
    assert [e.outcome for e in made] == ["declined", "done"]
    assert made[0].key != made[1].key


def test_more_than_there_is_at_a_payment_made_elsewhere(sandbox: Sandbox) -> None:
    """Of a payment that we do not know the provider decides."""
    payment = paid(sandbox, amount=500)
    assert payment.provider_id is not None
    name = payment.provider_id
    Payment.objects.update(provider_id=None)
    refund = refund_payment(payment=name, amount=501)
    call = finish(refund.call)
    assert (call.status, call.error_http_status) == (CallStatus.FAILED, 400)
    refund.refresh_from_db()
    assert refund.status == RefundStatus.FAILED
