"""Equal requests at once: one call."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connections
from django.http import HttpResponse
from pytest_django import Settings

from api.idempotency import LIFETIME
from api.models import IdempotentRequest
from outbound import clock
from outbound.models import OutboundCall
from payments.models import Payment
from sandbox.control import Sandbox
from tests.api.conftest import PAYMENT, Caller, caller, document, problem
from tests.api.wired import provider
from tests.outbound import wire
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


def test_a_key_that_has_just_expired(shop: Caller) -> None:
    """Many come for it at once: it is used anew, and once."""
    first = document(shop.write("/payment-intents", PAYMENT, idempotency_key="k"), 202)
    tomorrow = clock.now() + LIFETIME
    with clock.use(lambda: tomorrow):
        answers = send_many(shop)
        assert len({document(answer, 202)["id"] for answer in answers} - {first["id"]}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert OutboundCall.objects.count() == 2


def test_only_so_many_wait_at_a_time(shop: Caller, settings: Settings) -> None:
    """Past API_INLINE_CALLS nobody waits: 202 at once, while a slow provider keeps the others.
    Nothing is sent twice, and every place is given back."""
    settings.API_INLINE_CALLS = places = 3
    asked, let_go, numbers = threading.Semaphore(0), threading.Event(), itertools.count()

    def slowly(peer: wire.Peer, connection: socket.socket) -> None:
        peer.read_request(connection)
        asked.release()
        let_go.wait(30)
        made = {"id": f"pi_{next(numbers)}", "object": "payment_intent"}
        connection.sendall(wire.reply(json.dumps(made).encode()))

    with (
        provider(settings, slowly, POLICY={"read_timeout": 10.0, "total_timeout": 12.0}) as peer,
        ThreadPoolExecutor(places) as pool,
    ):
        waiting = [pool.submit(closing, shop, prefer="wait=20") for _ in range(places)]
        for _ in range(places):
            assert asked.acquire(timeout=30)
        for _ in range(2):
            answer = shop.write("/payment-intents", PAYMENT, prefer="wait=20")
            assert document(answer, 202)["attempts"] == 0
            assert "Preference-Applied" not in answer
        assert problem(shop.get("/payment-intents/pi_1"), 503)["code"] == "busy"
        let_go.set()
        assert {document(done.result(), 201)["status"] for done in waiting} == {"succeeded"}
        assert document(shop.write("/payment-intents", PAYMENT, prefer="wait=20"), 201)
    assert len(peer.requests) == places + 1


def closing(shop: Caller, **options: Any) -> HttpResponse:
    """A write in a thread of its own."""
    try:
        return shop.write("/payment-intents", PAYMENT, **options)
    finally:
        connections.close_all()


def test_the_rate_holds_under_a_crowd(shop: Caller) -> None:
    """As many as the client may send get in, and not one more."""
    slow, moment = caller("slow", rate=5), clock.now()
    with clock.use(lambda: moment):
        answers = together([partial(slow.get, "/calls")] * 20)
    statuses = Counter(a.status_code for a in answers if not isinstance(a, Exception))
    assert statuses == {200: 5, 429: 15}


def assert_one() -> None:
    assert OutboundCall.objects.count() == 1
    assert Payment.objects.count() == 1
    assert IdempotentRequest.objects.count() == 1
