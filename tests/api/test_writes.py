"""POSTs that make calls: the answer, the key, and the preference to wait."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from api import places, writes
from api.models import IdempotentRequest
from outbound import clock, engine, services
from outbound.errors import CircuitOpen, RateLimited
from outbound.models import OutboundCall
from outbound.states import CallStatus
from payments.models import Customer, Payment, Refund
from sandbox.control import Sandbox
from tests.api.conftest import PAYMENT, Caller, document, pointers, problem
from tests.api.wired import provider
from tests.outbound import wire

pytestmark = pytest.mark.django_db(transaction=True)

MEMBERS = {
    "id", "adapter", "operation", "status", "attempts", "due_at", "reference",
    "provider_reference", "result", "error", "created_at", "finished_at",
}  # fmt: skip


@pytest.mark.both_databases
def test_accepted(shop: Caller) -> None:
    """202, the call object, and the address at which it stands; the rows are there."""
    answer = shop.write("/payment-intents", {**PAYMENT, "reference": "order-1"})
    call = document(answer, 202)
    assert call.keys() == MEMBERS
    assert (call["status"], call["attempts"], call["reference"]) == ("pending", 0, "order-1")
    assert (call["result"], call["error"], call["finished_at"]) == (None, None, None)
    assert answer["Location"] == f"/api/v1/calls/{call['id']}"
    assert document(shop.get(f"/calls/{call['id']}"), 200) == call
    row = OutboundCall.objects.get()
    assert (str(row.pk), row.created_by) == (call["id"], "api:shop")
    assert Payment.objects.get().call == row


def test_every_kind_of_write(shop: Caller, sandbox: Sandbox) -> None:
    """Customer, payment, refund, cancellation: each is answered with its call, and happens."""
    wait = {"prefer": "wait=10"}
    body: dict[str, Any] = {"email": "jo@example.com", "name": "Jo", "metadata": {"a": "b"}}
    customer = document(shop.write("/customers", body, **wait), 201)
    body = {**PAYMENT, "customer": customer["provider_reference"]}
    payment = document(shop.write("/payment-intents", body, **wait), 201)
    intent = payment["provider_reference"]
    assert payment["result"]["client_secret"].startswith(intent)
    sandbox.confirm(intent)
    assert document(shop.get(f"/payment-intents/{intent}"), 200)["status"] == "succeeded"
    body = {"payment_intent": intent, "amount": 500, "reason": "duplicate"}
    assert document(shop.write("/refunds", body, **wait), 201)["operation"] == "create_refund"
    other = document(shop.write("/payment-intents", PAYMENT, **wait), 201)["provider_reference"]
    path = f"/payment-intents/{other}/cancel"
    given_up = document(shop.write(path, {"reason": "abandoned"}, **wait), 201)
    assert given_up["result"]["status"] == "canceled"
    assert (Customer.objects.count(), Payment.objects.count(), Refund.objects.count()) == (1, 2, 1)


def test_a_cancellation_needs_no_body(shop: Caller, sandbox: Sandbox) -> None:
    """The reason is optional, and so is the body."""
    made = document(shop.write("/payment-intents", PAYMENT, prefer="wait=10"), 201)
    path = f"/payment-intents/{made['provider_reference']}/cancel"
    assert document(shop.write(path), 202)["operation"] == "cancel_payment_intent"


@pytest.mark.parametrize("name", ["pi_unknown", "x", "pi_é"])
def test_cancelling_what_is_not_here(shop: Caller, name: str) -> None:
    """404, and the key stays free."""
    problem(shop.write(f"/payment-intents/{name}/cancel"), 404)
    assert IdempotentRequest.objects.count() == 0


def test_more_than_can_be_refunded(shop: Caller, sandbox: Sandbox) -> None:
    """What the services refuse is a wrong field like any other, and nothing is stored."""
    made = document(shop.write("/payment-intents", PAYMENT, prefer="wait=10"), 201)
    body = {"payment_intent": made["provider_reference"], "amount": 2001}
    found = problem(shop.write("/refunds", body, idempotency_key="r"), 422)
    assert pointers(found) == ["/amount"]
    body["amount"] = 2000
    document(shop.write("/refunds", body, idempotency_key="r"), 202)


def test_declined_while_waiting(shop: Caller, sandbox: Sandbox) -> None:
    """A card error is a 400 with the provider's code; the call stands beside it. Asked again it
    is the same, until the call is retried and no longer failed."""
    sandbox.decline_for(amount=1234, decline_code="insufficient_funds")
    body = {
        "amount": 1234, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True,
    }  # fmt: skip
    answer = shop.write("/payment-intents", body, idempotency_key="k", prefer="wait=10")
    found = problem(answer, 400)
    assert found["code"] == "card_declined"
    assert found["call"]["status"] == "failed"
    assert answer["Location"].endswith(found["call"]["id"])
    again = shop.write("/payment-intents", body, idempotency_key="k", prefer="wait=10")
    assert problem(again, 400)["call"] == found["call"]
    assert again["Idempotent-Replayed"] == "true"
    sandbox.clear_declines()
    services.retry_call_as_new(call_id=found["call"]["id"], reason="there is money now")
    engine.deliver(found["call"]["id"])
    again = shop.write("/payment-intents", body, idempotency_key="k")
    assert document(again, 201)["status"] == "succeeded"


def test_the_field_that_the_provider_minds(shop: Caller, sandbox: Sandbox) -> None:
    """An invalid request is a 400 with `param`."""
    body = {**PAYMENT, "customer": "cus_nobody"}
    found = problem(shop.write("/payment-intents", body, prefer="wait=10"), 400)
    assert (found["param"], found["code"]) == ("customer", "resource_missing")


def test_a_key_that_the_provider_does_not_take(
    shop: Caller, sandbox: Sandbox, settings: Settings
) -> None:
    """Our own trouble with the provider is a 500."""
    entry = settings.OUTBOUND_ADAPTERS["stripe"]
    options = {**entry["OPTIONS"], "API_KEY": "sk_test_wrong key"}
    settings.OUTBOUND_ADAPTERS = {"stripe": {**entry, "OPTIONS": options}}
    sandbox.add_fault("status", status=401)
    assert "call" in problem(shop.write("/payment-intents", PAYMENT, prefer="wait=10"), 500)


def test_what_fails_for_the_moment_goes_on(shop: Caller, sandbox: Sandbox) -> None:
    """202 with the error so far: the call is not lost, and its answer comes later."""
    sandbox.add_fault("status", status=503)
    answer = shop.write("/payment-intents", PAYMENT, idempotency_key="k", prefer="wait=1")
    call = document(answer, 202)
    assert (call["status"], call["error"]["kind"]) == ("retrying", "transient_error")
    assert call["error"].keys() == {"kind", "code", "message", "http_status"}
    OutboundCall.objects.update(due_at=clock.now())
    engine.deliver(call["id"])
    again = document(shop.write("/payment-intents", PAYMENT, idempotency_key="k"), 202)
    assert (again["status"], again["error"]) == ("succeeded", None)
    assert len(sandbox.ledger(call=call["id"])) == 1


@pytest.mark.parametrize(
    "prefer, applied",
    [
        ("wait=3", "wait=3"),
        ('WAIT = "3"', "wait=3"),
        ("wait=99", "wait=20"),
        ("respond-async, wait=3; foo=bar", "wait=3"),
        ("wait=3, wait=9", "wait=3"),
        ("wait=0", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=ten", None),
        ("wait", None),
        ("handling=strict", None),
        ("=,;,,wait==", None),
        ("wait=3, handling=lenient", "wait=3"),
        ("wait=3, handling=nonsense", "wait=3"),
    ],
)
def test_preferences(
    shop: Caller, monkeypatch: pytest.MonkeyPatch, prefer: str, applied: str | None
) -> None:
    """What is understood is applied and told; what is not is ignored."""
    waits: list[float] = []

    def deliver(*, call: OutboundCall, wait: float) -> OutboundCall:
        waits.append(wait)
        return call

    monkeypatch.setattr(writes, "deliver_now", deliver)
    answer = shop.write("/payment-intents", PAYMENT, prefer=prefer)
    document(answer, 202)
    assert answer.get("Preference-Applied") == applied
    assert [f"wait={wait}" for wait in waits] == ([applied] if applied else [])


@pytest.mark.parametrize(
    "error, status",
    [
        (CircuitOpen("stripe: the circuit is open", retry_after=7, http_status=503), 503),
        (RateLimited("stripe: too many", retry_after=7, http_status=429), 429),
    ],
)
def test_now_or_never(
    shop: Caller, monkeypatch: pytest.MonkeyPatch, error: CircuitOpen | RateLimited, status: int
) -> None:
    """handling=strict: what cannot be sent is cancelled and said so, and the key is free."""
    asked: list[dict[str, Any]] = []

    def refuse(*, call: OutboundCall, **options: Any) -> OutboundCall:
        asked.append(options)
        services.cancel_call(call_id=call.pk)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(writes, "deliver_now", refuse)
        answer = shop.write(
            "/payment-intents", PAYMENT, idempotency_key="k", prefer="wait=4, handling=strict"
        )
    assert problem(answer, status)["code"] == error.kind
    assert (answer["Retry-After"], answer["Preference-Applied"]) == ("7", "wait=4, handling=strict")
    assert asked == [{"wait": 4, "strict": True}]
    again = shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    assert document(again, 202)["status"] == "pending"
    assert "Idempotent-Replayed" not in again


@pytest.mark.parametrize("kind", ["circuit_open", "rate_limited"])
def test_parked(shop: Caller, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A write that cannot be sent just now is kept: 202 with the kind and Retry-After."""

    def park(*, call: OutboundCall, wait: float) -> OutboundCall:
        due_at = clock.now() + timedelta(seconds=30)
        OutboundCall.objects.filter(pk=call.pk).update(error_kind=kind, due_at=due_at)
        call.refresh_from_db()
        return call

    monkeypatch.setattr(writes, "deliver_now", park)
    answer = shop.write("/payment-intents", PAYMENT, prefer="wait=4")
    assert document(answer, 202)["error"]["kind"] == kind
    assert 25 <= int(answer["Retry-After"]) <= 30


def test_no_place_to_wait(shop: Caller, settings: Settings) -> None:
    """Past API_INLINE_CALLS a request does not wait: 202 at once, and a worker makes the call."""
    settings.API_INLINE_CALLS = 1
    with places.place() as got:
        assert got
        answer = shop.write("/payment-intents", PAYMENT, prefer="wait=10")
        assert problem(shop.get("/payment-intents/pi_1"), 503)["code"] == "busy"
    call = document(answer, 202)
    assert (call["status"], call["attempts"]) == ("pending", 0)
    assert "Preference-Applied" not in answer
    row = OutboundCall.objects.get()
    assert row.hint_at < row.due_at + services.INLINE_GRACE
    with places.place() as got:
        assert got


def test_no_place_to_wait_strictly(shop: Caller, settings: Settings) -> None:
    """handling=strict: rather not at all than later, and nothing is stored; what had been asked
    before is told all the same."""
    strict = {"prefer": "wait=10, handling=strict"}
    settings.API_INLINE_CALLS = 1
    first = shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    with places.place():
        answer = shop.write("/payment-intents", PAYMENT, idempotency_key="new", **strict)
        assert problem(answer, 503)["code"] == "busy"
        assert answer["Retry-After"] == "1"
        again = shop.write("/payment-intents", PAYMENT, idempotency_key="k", **strict)
    assert document(again, 202) == document(first, 202)
    assert OutboundCall.objects.count() == IdempotentRequest.objects.count() == 1


def test_cancelled_by_somebody_while_waiting(shop: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as it stands: accepted, and cancelled."""

    def cancel(*, call: OutboundCall, wait: float) -> OutboundCall:
        return services.cancel_call(call_id=call.pk)

    monkeypatch.setattr(writes, "deliver_now", cancel)
    call = document(shop.write("/payment-intents", PAYMENT, prefer="wait=1"), 202)
    assert call["status"] == CallStatus.CANCELLED
    assert call["finished_at"]


def test_the_request_id_goes_all_the_way(shop: Caller, settings: Settings) -> None:
    """From the caller to the row, to the provider, and back; one of ours where none was given."""
    made = wire.answers(wire.reply(b'{"id": "pi_1", "object": "payment_intent"}'))
    with provider(settings, made) as peer:
        given = shop.write("/payment-intents", PAYMENT, prefer="wait=9", x_request_id="trace-1")
        ours = shop.write("/payment-intents", PAYMENT, prefer="wait=9")
    assert given["X-Request-ID"] == "trace-1"
    for answer, sent in zip((given, ours), peer.requests, strict=True):
        call = OutboundCall.objects.get(pk=document(answer, 201)["id"])
        assert call.request_id == answer["X-Request-ID"]
        assert f"X-Request-ID: {call.request_id}\r\n".encode() in sent


@pytest.mark.both_databases
def test_a_keys_row_is_written_once(shop: Caller) -> None:
    """It names its call before that is stored: nothing of it is written a second time."""
    with CaptureQueriesContext(connection) as statements:
        made = document(shop.write("/refunds", {"payment_intent": "pi_1", "amount": 1}), 202)
    assert str(IdempotentRequest.objects.get().call_id) == made["id"]
    writes = [s["sql"] for s in statements if "api_idempotentrequest" in s["sql"]]
    assert len(writes) == 1


def test_a_body_is_read_once(shop: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its fields, and for the key's fingerprint."""
    read: list[bytes] = []

    def parse_and_note(body: bytes) -> Any:
        read.append(body)
        return json.loads(body)

    monkeypatch.setattr("api.bodies.parse", parse_and_note)
    document(shop.write("/payment-intents", PAYMENT), 202)
    assert len(read) == 1
