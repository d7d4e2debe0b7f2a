"""GET /payment-intents/{id}: inline, tried again, guarded; and whose call it was."""

from __future__ import annotations

import json

import pytest
from pytest_django import Settings

from outbound.models import CallAttempt, OutboundCall
from tests.api.conftest import Caller, caller, document, problem
from tests.api.wired import provider
from tests.outbound import wire

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/payment-intents/pi_1"
INTENT = {"id": "pi_1", "object": "payment_intent", "amount": 2000, "status": "requires_action"}
FOUND = wire.reply(json.dumps(INTENT).encode())
BUSY = wire.reply(b"{}", status="503 Busy")
NOBODY = wire.reply(
    b'{"error": {"type": "invalid_request_error", "code": "resource_missing"}}',
    status="404 Not Found",
)


QUICK = {"retrieve_payment_intent": {"schedule": (0.01, 0.02)}}


def test_trouble_that_passes(shop: Caller, settings: Settings) -> None:
    """It is tried again while the caller waits: three times at the most."""
    with provider(settings, wire.answers(BUSY, BUSY, FOUND), OPERATIONS=QUICK) as peer:
        assert document(shop.get(PATH), 200) == INTENT
    assert len(peer.requests) == 3
    assert CallAttempt.objects.filter(trigger="inline").count() == 3


@pytest.mark.parametrize(
    "behaviour, status, tries",
    [
        (wire.answers(BUSY), 502, 3),
        (wire.is_silent, 504, 3),
        (wire.answers(wire.reply(b"nonsense")), 502, 3),
        (wire.answers(wire.reply(b'{"id": "pi_1", "amount": 1e999}')), 502, 3),
        (wire.answers(wire.reply(b"[]", status="429 Slow down")), 429, 3),
        (wire.answers(NOBODY), 404, 1),
    ],
    ids=["5xx", "silence", "no JSON", "no number", "429", "unknown"],
)
def test_trouble_that_stays(
    shop: Caller, settings: Settings, behaviour: wire.Behaviour, status: int, tries: int
) -> None:
    """504 for a time-out, 502 for other trouble of the provider's, 404 for what it does not
    know; 429 tells when to come again."""
    with provider(settings, behaviour, OPERATIONS=QUICK) as peer:
        answer = shop.get(PATH)
    problem(answer, status)
    assert ("Retry-After" in answer) == (status == 429)
    assert len(peer.requests) == tries


def test_it_is_a_call_of_the_client_that_asked(settings: Settings) -> None:
    """Which reads it like all its calls, and others do not see what came of it."""
    shop, blind = caller("shop", "payments:read"), caller("blind", "calls:read")
    with provider(settings, wire.answers(FOUND)):
        document(shop.get(PATH, x_request_id="trace-2"), 200)
    call = OutboundCall.objects.get()
    assert (call.created_by, call.request_id) == ("api:shop", "trace-2")
    [found] = document(shop.get("/calls"), 200)["items"]
    assert (found["operation"], found["result"]) == ("retrieve_payment_intent", INTENT)
    assert document(blind.get(f"/calls/{call.pk}"), 200)["result"] is None
