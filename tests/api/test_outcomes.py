"""What a write that waits is answered, by what the provider had to say."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pytest_django import Settings

from outbound.models import OutboundCall
from outbound.states import FINAL
from tests.api.conftest import PAYMENT, Caller, document, problem
from tests.api.wired import provider, stripe_error
from tests.outbound import wire

pytestmark = pytest.mark.django_db(transaction=True)

OURS = "invalid_request_error"
STRIPE = {  # what it says -> our status, and members of the problem
    "card error": (
        stripe_error("card_error", status=402, code="card_declined"),
        400, {"code": "card_declined"},
    ),
    "invalid request": (
        stripe_error(OURS, status=400, code="parameter_invalid", param="customer"),
        400, {"code": "parameter_invalid", "param": "customer"},
    ),
    "authentication": (stripe_error(OURS, status=401), 500, {}),
    "not allowed": (stripe_error(OURS, status=403), 500, {}),
    "another body under the key": (stripe_error("idempotency_error", status=400), 500, {}),
    "a new sort of error": (stripe_error("novel_error", status=400), 500, {}),
    "not Stripe's words": (wire.answers(wire.reply(b"<html>", status="404 No")), 500, {}),
    "a redirect": (wire.answers(wire.reply(b"", status="301 Moved")), 500, {}),
}  # fmt: skip


@pytest.mark.parametrize("words", STRIPE)
def test_failed_for_good(shop: Caller, settings: Settings, words: str) -> None:
    """A problem with the mapped status, and with the call as its member."""
    behaviour, status, members = STRIPE[words]
    with provider(settings, behaviour) as peer:
        answer = shop.write("/payment-intents", PAYMENT, prefer="wait=9")
    found = problem(answer, status)
    assert found | members == found
    assert (found["call"]["status"], found["call"]["error"]["http_status"]) == ("failed", status)
    assert answer["Location"] == f"/api/v1/calls/{found['call']['id']}"
    assert answer["Preference-Applied"] == "wait=9"
    assert len(peer.requests) == 1


ON = {
    "slow down": (stripe_error("api_error", status=429, headers="Retry-After: 40"), "rate_limited"),
    "busy": (wire.answers(wire.reply(b"", status="503 Busy")), "transient_error"),
    "a stored failure": (
        stripe_error("api_error", status=500, headers="Idempotent-Replayed: true"),
        "stored_failure",
    ),
    "silence": (wire.is_silent, "outcome_unknown"),
    "a reset": (wire.resets(), "outcome_unknown"),
    "a lost body": (wire.answers_once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
                    "outcome_unknown"),
    "no object": (wire.answers(wire.reply(b"[1]")), "outcome_unknown"),
    "no number": (
        wire.answers(wire.reply(b'{"object": "payment_intent", "id": "pi_1", "amount": 1e999}')),
        "outcome_unknown",
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", ON)
def test_goes_on_in_the_background(shop: Caller, settings: Settings, words: str) -> None:
    """202 with the error so far: what may have happened is never called a failure."""
    behaviour, kind = ON[words]
    with provider(settings, behaviour) as peer:
        answer = shop.write("/payment-intents", PAYMENT, prefer="wait=9")
    call = document(answer, 202)
    assert call["status"] == ("unknown" if kind == "stored_failure" else "retrying")
    assert (call["error"]["kind"], call["result"]) == (kind, None)
    assert (call["attempts"], call["finished_at"]) == (1, None)
    assert ("Retry-After" in answer) == (kind == "rate_limited")
    assert len(peer.requests) == 1
    row = OutboundCall.objects.get()
    assert row.status not in FINAL
    assert row.hint_at == row.due_at or kind == "stored_failure"  # nobody else was told of it


@pytest.mark.parametrize("words", ["slow down", "busy", "silence"])
def test_strict_is_for_what_was_never_sent(shop: Caller, settings: Settings, words: str) -> None:
    """What reached the provider is not cancelled, whatever was preferred: it goes on."""
    behaviour, kind = ON[words]
    with provider(settings, behaviour):
        answer = shop.write("/payment-intents", PAYMENT, prefer="wait=9, handling=strict")
    call = document(answer, 202)
    assert (call["status"], call["error"]["kind"]) == ("retrying", kind)
    assert answer["Preference-Applied"] == "wait=9, handling=strict"


def test_worked(shop: Caller, settings: Settings) -> None:
    """201 with the provider's object in `result`, and all that was asked for went there."""
    made = {"id": "pi_1", "object": "payment_intent", "client_secret": "pi_1_secret", "odd": None}
    body: dict[str, Any] = {
        "amount": 2000, "currency": "USD", "customer": "cus_1", "metadata": {"order": "7"},
        "reference": "order-7", "payment_method": "pm_1", "confirm": True,
        "capture_method": "manual", "description": "a chair",
    }  # fmt: skip
    with provider(settings, wire.answers(wire.reply(json.dumps(made).encode()))) as peer:
        answer = shop.write("/payment-intents", body, prefer="wait=9", idempotency_key="k")
    call = document(answer, 201)
    assert (call["result"], call["provider_reference"]) == (made, "pi_1")
    assert (call["status"], call["error"], call["due_at"]) == ("succeeded", None, None)
    head, _, form = peer.requests[0].partition(b"\r\n\r\n")
    asked = {
        "amount": "2000", "currency": "usd", "customer": "cus_1", "metadata[order]": "7",
        "metadata[holdfast_call]": call["id"], "payment_method": "pm_1", "confirm": "true",
        "capture_method": "manual", "description": "a chair",
    }  # fmt: skip
    assert asked.items() <= dict(parse_qsl(form.decode())).items()
    key = OutboundCall.objects.get().idempotency_key
    assert f"Idempotency-Key: {key}\r\n".encode() in head
    again = shop.write("/payment-intents", body, idempotency_key="k")  # nobody answers there now
    assert document(again, 201) == call
    assert again["Idempotent-Replayed"] == "true"
