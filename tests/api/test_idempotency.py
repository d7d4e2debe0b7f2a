"""Idempotency-Key: a write is done once, whoever dies when; asked again it tells how it stands."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.http import HttpResponse
from pytest_django import Settings

from api import idempotency, writes
from api.models import IdempotentRequest
from api.sweep import overdue, sweep
from outbound import clock
from outbound.models import OutboundCall, RateBucket
from payments.models import Payment
from tests.api.conftest import PAYMENT, Caller, caller, document, problem
from tests.api.wired import provider
from tests.outbound import wire

pytestmark = pytest.mark.django_db(transaction=True)

MADE = wire.answers(wire.reply(b'{"id": "pi_1", "object": "payment_intent"}'))


@pytest.mark.both_databases
def test_asked_again(shop: Caller) -> None:
    """The current call object, with the first status, Location and Idempotent-Replayed. How the
    body is spelled does not matter."""
    first = shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    again = shop.send(
        "POST",
        "/payment-intents",
        raw=b'{ "currency":"usd",\n"amount":2000}',
        idempotency_key="k",
    )
    assert "Idempotent-Replayed" not in first
    assert (again["Idempotent-Replayed"], again["Location"]) == ("true", first["Location"])
    assert document(again, 202) == document(first, 202)
    assert OutboundCall.objects.count() == 1
    OutboundCall.objects.update(provider_reference="pi_9")
    later = shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    assert document(later, 202)["provider_reference"] == "pi_9"


@pytest.mark.parametrize(
    "path, body",
    [
        ("/payment-intents", {**PAYMENT, "amount": 2001}),
        ("/payment-intents", {**PAYMENT, "reference": "x"}),
        ("/customers", {"email": "jo@example.com"}),
    ],
)
def test_the_same_key_for_something_else(shop: Caller, path: str, body: dict[str, Any]) -> None:
    """422, and nothing more is stored."""
    shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    found = problem(shop.write(path, body, idempotency_key="k"), 422)
    assert found["code"] == "idempotency_key_reused"
    assert OutboundCall.objects.count() == 1


def test_keys_belong_to_clients(shop: Caller, desk: Caller) -> None:
    """Two clients may use the same key: they are two requests."""
    document(shop.write("/payment-intents", PAYMENT, idempotency_key="k"), 202)
    document(desk.write("/payment-intents", PAYMENT, idempotency_key="k"), 202)
    assert OutboundCall.objects.count() == 2


def test_after_a_429_the_key_is_free() -> None:
    """Nothing is kept of a request that was too many."""
    slow = caller("slow", "payments:write", rate=1)
    document(slow.write("/payment-intents", PAYMENT), 202)
    answer = slow.write("/payment-intents", PAYMENT, idempotency_key="k")
    assert problem(answer, 429)["code"] == "rate_limited"
    assert 1 <= int(answer["Retry-After"]) <= 60
    RateBucket.objects.all().delete()
    document(slow.write("/payment-intents", {**PAYMENT, "amount": 5}, idempotency_key="k"), 202)


def test_while_the_first_is_being_answered(shop: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """409, until it has been answered."""
    inner: list[Any] = []

    def slowly(*, call: OutboundCall, wait: float) -> OutboundCall:
        inner.append(shop.write("/payment-intents", PAYMENT, idempotency_key="k"))
        return call

    monkeypatch.setattr(writes, "deliver_now", slowly)
    document(shop.write("/payment-intents", PAYMENT, idempotency_key="k", prefer="wait=5"), 202)
    assert problem(inner[0], 409)["code"] == "idempotency_key_in_use"
    assert "Retry-After" in inner[0]
    document(shop.write("/payment-intents", PAYMENT, idempotency_key="k"), 202)


@pytest.mark.both_databases
def test_nothing_is_stuck_after_a_crash(shop: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while it waits leaves a call that goes on, and a key that answers as
    soon as nobody can be answering any more."""

    def die(**_: Any) -> OutboundCall:
        raise SystemExit

    monkeypatch.setattr(writes, "deliver_now", die)
    with pytest.raises(SystemExit):
        shop.write("/payment-intents", PAYMENT, idempotency_key="k", prefer="wait=5")
    problem(shop.write("/payment-intents", PAYMENT, idempotency_key="k"), 409)
    later = clock.now() + timedelta(seconds=5) + idempotency.ANSWER_GRACE
    with clock.use(lambda: later):
        again = shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    assert (document(again, 202)["status"], again["Idempotent-Replayed"]) == ("pending", "true")
    assert OutboundCall.objects.count() == 1


def test_what_fails_before_the_commit_leaves_nothing(
    shop: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither call nor key, and the same request works later."""

    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as patched:
        patched.setattr("payments.services.insert", fail)
        answer = shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    assert problem(answer, 503)["code"] == "unavailable"
    assert (OutboundCall.objects.count(), IdempotentRequest.objects.count()) == (0, 0)
    document(shop.write("/payment-intents", PAYMENT, idempotency_key="k"), 202)


def test_a_key_lives_for_a_day(shop: Caller) -> None:
    """After 24 hours it may be used for something else."""
    shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    tomorrow = clock.now() + idempotency.LIFETIME
    with clock.use(lambda: tomorrow - timedelta(seconds=1)):
        problem(shop.write("/payment-intents", {**PAYMENT, "amount": 1}, idempotency_key="k"), 422)
    with clock.use(lambda: tomorrow + timedelta(seconds=60)):
        document(shop.write("/payment-intents", {**PAYMENT, "amount": 1}, idempotency_key="k"), 202)
    assert OutboundCall.objects.count() == 2


@pytest.mark.both_databases
def test_expired_keys_are_forgotten_in_batches(shop: Caller) -> None:
    """As many as the batch has room for, the oldest first; their calls stay."""
    for _ in range(3):
        shop.write("/payment-intents", PAYMENT)
    assert sweep() == {"expired": 0}
    tomorrow = clock.now() + idempotency.LIFETIME
    with clock.use(lambda: tomorrow):
        assert overdue() == {"expired": 3}
        assert sweep(limit=2) == {"expired": 2}
        assert sweep(limit=2) == {"expired": 1}
    assert OutboundCall.objects.count() == 3


def test_the_database_goes_away_after_the_call(
    shop: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is known and is given, though it cannot be noted."""

    def gone(*_: Any) -> int:
        raise OperationalError("gone")

    monkeypatch.setattr(writes, "deliver_now", lambda *, call, wait: call)
    monkeypatch.setattr("api.models.RequestQuerySet.answered", gone)
    document(shop.write("/payment-intents", PAYMENT, prefer="wait=1"), 202)


def die(*_: Any, **__: Any) -> Any:
    """The process ends here."""
    raise SystemExit


@pytest.mark.both_databases
def test_a_crash_before_the_commit(shop: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, call and payment are one transaction: there is none of them, and the key is free."""
    with monkeypatch.context() as patched:
        patched.setattr("payments.services.insert", die)  # the last statement of it
        with pytest.raises(SystemExit):
            shop.write("/payment-intents", PAYMENT, idempotency_key="k")
    stored = (IdempotentRequest, OutboundCall, Payment)
    assert [model.objects.count() for model in stored] == [0, 0, 0]
    answer = shop.write("/payment-intents", {**PAYMENT, "amount": 5}, idempotency_key="k")
    assert "Idempotent-Replayed" not in answer


@pytest.mark.both_databases
def test_a_crash_before_the_answer_is_noted(
    shop: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider has done it and the row says so: asked again, once nobody can be answering any
    more, the key tells of it with the status that the first answer would have had."""
    with provider(settings, MADE) as peer:
        with monkeypatch.context() as patched:
            patched.setattr(writes, "answered", die)
            with pytest.raises(SystemExit):
                shop.write("/payment-intents", PAYMENT, idempotency_key="k", prefer="wait=5")
        busy = shop.write("/payment-intents", PAYMENT, idempotency_key="k", prefer="wait=5")
        assert problem(busy, 409)["code"] == "idempotency_key_in_use"
        later = clock.now() + timedelta(seconds=5) + idempotency.ANSWER_GRACE
        with clock.use(lambda: later):
            again = shop.write("/payment-intents", PAYMENT, idempotency_key="k", prefer="wait=5")
    assert (document(again, 201)["status"], again["Idempotent-Replayed"]) == ("succeeded", "true")
    assert len(peer.requests) == 1
    assert OutboundCall.objects.count() == 1


@pytest.mark.faults
@pytest.mark.both_databases
@pytest.mark.parametrize("prefer", ["wait=5", None])
def test_a_crash_at_every_statement(shop: Caller, settings: Settings, prefer: str | None) -> None:
    """Each statement of a write in turn is where the process ends. The same request, made again
    once nobody can be answering any more, tells of one call, for which there is one payment."""
    numbers = itertools.count(1)

    def answer(peer: wire.Peer, connection: socket.socket) -> None:
        while peer.read_request(connection):
            made = {"id": f"pi_{next(numbers)}", "object": "payment_intent"}
            connection.sendall(wire.reply(json.dumps(made).encode()))

    with provider(settings, answer):
        for number in itertools.count(1):
            key = f"k-{number}"
            whole = dies_at(number, lambda key=key: write(shop, key, prefer))  # type: ignore[misc]
            later = clock.now() + timedelta(seconds=5) + idempotency.ANSWER_GRACE
            with clock.use(lambda later=later: later):  # type: ignore[misc]
                again = write(shop, key, None)
            call = document(again, 201 if again.status_code == 201 else 202)
            row = IdempotentRequest.objects.get(key=key)
            assert str(row.call_id) == call["id"]
            assert Payment.objects.filter(call_id=row.call_id).count() == 1
            assert OutboundCall.objects.count() == IdempotentRequest.objects.count() == number
            if whole:
                break
    assert number > 2, "there are several statements to end at"


def write(shop: Caller, key: str, prefer: str | None) -> HttpResponse:
    return shop.write("/payment-intents", PAYMENT, idempotency_key=key, prefer=prefer)


def dies_at(number: int, act: Callable[[], Any]) -> bool:
    """Run something that ends at its so-manieth statement. Whether it had fewer."""
    left = itertools.count(number - 1, -1)

    def count(execute: Any, *statement: Any) -> Any:
        if next(left) == 0:
            raise SystemExit
        return execute(*statement)

    with connection.execute_wrapper(count):
        try:
            act()
        except SystemExit:
            return False
    return True
