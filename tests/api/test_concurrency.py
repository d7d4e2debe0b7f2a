"""Equal requests at once: one call."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
from django.http import HttpResponse
from pytest_django import Settings

from api.models import IdempotentRequest
from outbound.models import OutboundCall
from payments.models import Payment
from sandbox.control import Sandbox
from tests.api.conftest import PAYMENT, Caller, document
from tests.payments.together import together

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.faults,
    pytest.mark.django_db(transaction=True),
]

MANY = 50


def send_many(shop: Caller, **options: Any) -> list[HttpResponse]:
    send = partial(shop.write, "/payment-intents", PAYMENT, idempotency_key="k", **options)
    answers = together([send] * MANY)
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    assert errors == []
    return [answer for answer in answers if not isinstance(answer, Exception)]


def test_fifty_equal_requests(shop: Caller) -> None:
    """One call, and all are told of it: one as the first, the others as replayed."""
    answers = send_many(shop)
    assert Counter(answer.status_code for answer in answers) == {202: MANY}
    assert len({document(answer, 202)["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert_one()


def test_fifty_equal_requests_that_wait(shop: Caller, sandbox: Sandbox, settings: Settings) -> None:
    """One effect; who comes while the first is answered hears 409, or the answer. (With fewer
    places than requests, one without a place may be the first: 202.)"""
    settings.API_INLINE_CALLS = MANY
    answers = send_many(shop, prefer="wait=5")
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() <= {201, 409}
    assert statuses[201] >= 1
    first = [a for a in answers if a.status_code == 201 and "Idempotent-Replayed" not in a]
    assert len(first) == 1
    assert_one()
    assert len(sandbox.ledger(call=document(first[0], 201)["id"])) == 1


def test_one_key_for_two_requests_at_once(shop: Caller) -> None:
    """One of them wins; the other is refused, whichever comes first."""
    sends = [
        partial(shop.write, "/payment-intents", {**PAYMENT, "amount": amount}, idempotency_key="k")
        for amount in (100, 200) * 10
    ]
    answers = together(sends)
    statuses = Counter(a.status_code for a in answers if not isinstance(a, Exception))
    assert statuses == {202: 10, 422: 10}
    assert_one()


def assert_one() -> None:
    assert OutboundCall.objects.count() == 1
    assert Payment.objects.count() == 1
    assert IdempotentRequest.objects.count() == 1
