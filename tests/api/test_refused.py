"""Writes and reads that may not go now: a circuit that is open, a limit that is used up."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from api.models import IdempotentRequest
from outbound.models import OutboundCall
from outbound.services import operate_circuit
from outbound.states import CircuitMode
from sandbox.control import Sandbox
from tests.api.conftest import PAYMENT, Caller, document, problem

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

CODES = {503: "circuit_open", 429: "rate_limited"}
STRICT = {"prefer": "wait=5, handling=strict"}


@pytest.fixture
def refusal(
    request: pytest.FixtureRequest, sandbox: Sandbox, settings: Settings, shop: Caller
) -> None:
    """The state of the world in which a call may not go."""
    if request.param == "rate_limited":
        change(settings, LIMITS={"rate": 1 / 60, "burst": 1})
    document(shop.write("/payment-intents", PAYMENT, prefer="wait=5"), 201)
    if request.param == "circuit_open":
        operate_circuit(name="stripe", mode=CircuitMode.FORCED_OPEN, reason="they are down")


def change(settings: Settings, **entry: Any) -> None:
    settings.OUTBOUND_ADAPTERS = {"stripe": {**settings.OUTBOUND_ADAPTERS["stripe"], **entry}}


@pytest.mark.parametrize(
    "refusal, kind", [("circuit_open",) * 2, ("rate_limited",) * 2], indirect=["refusal"]
)
def test_kept(refusal: None, sandbox: Sandbox, shop: Caller, kind: str) -> None:
    """A write is kept and parked: 202 with its kind, and when it may go."""
    answer = shop.write("/payment-intents", PAYMENT, prefer="wait=5")
    call = document(answer, 202)
    assert (call["status"], call["attempts"], call["error"]["kind"]) == ("pending", 0, kind)
    assert int(answer["Retry-After"]) >= 1
    assert len(sandbox.ledger(call=call["id"])) == 0


@pytest.mark.parametrize(
    "refusal, status", [("circuit_open", 503), ("rate_limited", 429)], indirect=["refusal"]
)
def test_now_or_never(refusal: None, sandbox: Sandbox, shop: Caller, status: int) -> None:
    """handling=strict: it is cancelled and said so; the key is free for another try."""
    before = IdempotentRequest.objects.count()
    answer = shop.write("/payment-intents", PAYMENT, idempotency_key="k", **STRICT)
    assert problem(answer, status)["code"] == CODES[status]
    assert int(answer["Retry-After"]) >= 1
    assert IdempotentRequest.objects.count() == before
    call = OutboundCall.objects.order_by("created_at").last()
    assert call is not None
    assert (call.status, call.attempts) == ("cancelled", 0)
    again = shop.write("/payment-intents", {**PAYMENT, "amount": 3}, idempotency_key="k")
    assert document(again, 202)["id"] != str(call.pk)


@pytest.mark.parametrize(
    "refusal, status", [("circuit_open", 503), ("rate_limited", 429)], indirect=["refusal"]
)
def test_reads(refusal: None, shop: Caller, status: int) -> None:
    """A read is not kept: 503 for an open circuit, 429 for a limit, with Retry-After."""
    answer = shop.get("/payment-intents/pi_1")
    assert problem(answer, status)["code"] == CODES[status]
    assert int(answer["Retry-After"]) >= 1
