"""Webhooks: signed as Stripe signs, delivered as well or as badly as told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter

import pytest
import stripe

from sandbox.control import Sandbox
from sandbox.process import SandboxError
from sandbox.stripe.signatures import sign
from tests.house.polling import wait_until
from tests.sandbox.api import Api
from tests.sandbox.conftest import SECRET
from tests.sandbox.receiver import Received, Receiver

pytestmark = pytest.mark.faults


def order(receiver: Receiver) -> list[str]:
    return [json.loads(received.body)["id"] for received in receiver.received]


def emit(sandbox: Sandbox, number: int, **members: object) -> list[str]:
    return [sandbox.emit_event("customer.created", {"n": n}, **members) for n in range(number)]


def test_what_is_delivered(api: Api, sandbox: Sandbox, receiver: Receiver) -> None:
    """Every event once, as the API lists it, with a signature that Stripe's package accepts."""
    api.pay(key="k")
    sandbox.wait_for_deliveries()
    listed = {event["id"]: event for event in api.get("/v1/events").json["data"]}
    assert len(receiver.received) == 3
    for received in receiver.received:
        event = received.event(SECRET)
        assert json.loads(received.body) == listed.pop(event.id)
        assert received.path == "/webhooks/stripe"
        assert received.headers["content-type"] == "application/json; charset=utf-8"
    assert listed == {}
    assert Counter(delivery.outcome for delivery in sandbox.deliveries()) == {"delivered": 3}


def test_the_signature_against_stripes_own(sandbox: Sandbox) -> None:
    """The same header as Stripe's package makes for its tests."""
    body, at = b'{"id": "evt_1"}', int(time.time())
    theirs = stripe.WebhookSignature._compute_signature(f"{at}.{body.decode()}", SECRET)
    assert sign(body, secrets=[SECRET], timestamp=at) == f"t={at},v1={theirs}"


def test_two_secrets(sandbox: Sandbox, receiver: Receiver) -> None:
    """During a rotation the old secret and the new one both fit."""
    sandbox.change_webhooks(secrets=["whsec_old", "whsec_new"])
    emit(sandbox, 1)
    sandbox.wait_for_deliveries()
    (received,) = receiver.received
    assert received.event("whsec_old").id == received.event("whsec_new").id
    with pytest.raises(stripe.SignatureVerificationError):
        received.event(SECRET)


@pytest.mark.parametrize(
    "policy, reason",
    [
        ({"signature": "wrong"}, "No signatures found matching"),
        ({"signature": "malformed"}, "Unable to extract timestamp"),
        ({"age": 301}, "Timestamp outside the tolerance"),
    ],
)
def test_what_must_be_refused(
    sandbox: Sandbox, receiver: Receiver, policy: dict[str, object], reason: str
) -> None:
    """Stripe's package refuses it."""
    emit(sandbox, 1, policy=policy)
    sandbox.wait_for_deliveries()
    with pytest.raises(stripe.SignatureVerificationError, match=reason):
        receiver.received[0].event(SECRET)


def test_no_signature(sandbox: Sandbox, receiver: Receiver) -> None:
    """The header can be absent."""
    emit(sandbox, 1, policy={"signature": "missing"})
    sandbox.wait_for_deliveries()
    assert "stripe-signature" not in receiver.received[0].headers


@pytest.mark.parametrize("age", [-100_000, 100_000])
def test_a_timestamp_from_another_time(sandbox: Sandbox, receiver: Receiver, age: int) -> None:
    """Validly signed, and far from now, in both directions."""
    emit(sandbox, 1, policy={"age": age})
    sandbox.wait_for_deliveries()
    (received,) = receiver.received
    stamp = int(received.headers["stripe-signature"].split(",")[0].removeprefix("t="))
    assert abs(time.time() - age - stamp) < 60
    assert received.event(SECRET, tolerance=10**6).id == order(receiver)[0]


@pytest.mark.parametrize("livemode", [True, False])
def test_livemode(sandbox: Sandbox, receiver: Receiver, livemode: bool) -> None:
    """An event can claim the other mode, validly signed."""
    emit(sandbox, 1, policy={"livemode": livemode})
    sandbox.wait_for_deliveries()
    assert receiver.received[0].event(SECRET).livemode is livemode


def test_duplicates(sandbox: Sandbox, receiver: Receiver) -> None:
    """So many more copies of each event, all valid and equal."""
    sandbox.change_webhooks(policy={"duplicates": 2})
    ids = emit(sandbox, 3)
    sandbox.wait_for_deliveries()
    assert Counter(order(receiver)) == dict.fromkeys(ids, 3)
    assert len({received.body for received in receiver.received}) == 3
    assert {d.copy for d in sandbox.deliveries(event=ids[0])} == {1, 2, 3}


def test_reordering(sandbox: Sandbox, receiver: Receiver) -> None:
    """A buffer's worth is shuffled; nothing is lost or doubled, and a rest is not forgotten."""
    sandbox.change_webhooks(policy={"reorder": 20, "reorder_seconds": 0.2})
    ids = emit(sandbox, 25)
    sandbox.wait_for_deliveries()
    assert sorted(order(receiver)) == sorted(ids)
    assert order(receiver) != ids


def test_a_delay(sandbox: Sandbox, receiver: Receiver) -> None:
    """A late event is overtaken by a later one."""
    (late,) = emit(sandbox, 1, policy={"delay": 1.5})
    (soon,) = emit(sandbox, 1)
    sandbox.wait_for_deliveries()
    assert order(receiver) == [soon, late]


def test_what_is_dropped(api: Api, sandbox: Sandbox, receiver: Receiver) -> None:
    """Never delivered, still listed, and on record as dropped."""
    sandbox.change_webhooks(rules=[{"types": ["customer.*"], "policy": {"drop": True}}])
    (dropped,) = emit(sandbox, 1)
    kept = sandbox.emit_event("charge.refunded", {})
    sandbox.wait_for_deliveries()
    assert order(receiver) == [kept]
    assert [delivery.event for delivery in sandbox.deliveries(outcome="dropped")] == [dropped]
    assert dropped in {event["id"] for event in api.get("/v1/events").json["data"]}


def test_what_is_held(sandbox: Sandbox, receiver: Receiver) -> None:
    """Held until released: by type, by number, all."""
    sandbox.hold_webhooks()
    ids = emit(sandbox, 3)
    refunded = sandbox.emit_event("charge.refunded", {})
    sandbox.wait_for_deliveries()
    assert receiver.received == []
    assert sandbox.summary()["deliveries_held"] == 4
    assert sandbox.release_webhooks(types=["charge.refunded"]) == 1
    sandbox.wait_for_deliveries()
    assert order(receiver) == [refunded]
    assert sandbox.release_webhooks(limit=1) == 1
    sandbox.wait_for_deliveries()
    assert order(receiver) == [refunded, ids[0]]
    assert sandbox.release_webhooks(shuffle=True) == 2
    sandbox.wait_for_deliveries()
    assert sorted(order(receiver)) == sorted([refunded, *ids])


def test_rules_come_before_the_policy(sandbox: Sandbox, receiver: Receiver) -> None:
    """The first rule that fits decides, so many times; what it does not say is the policy's."""
    sandbox.change_webhooks(
        policy={"signature": "wrong"},
        rules=[{"types": ["customer.created"], "times": 2, "policy": {"duplicates": 1}}],
    )
    ids = emit(sandbox, 3)
    sandbox.wait_for_deliveries()
    assert Counter(order(receiver)) == {ids[0]: 2, ids[1]: 2, ids[2]: 1}
    for received in receiver.received:
        with pytest.raises(stripe.SignatureVerificationError):
            received.event(SECRET)


def test_rules_outlast_other_changes(sandbox: Sandbox, receiver: Receiver) -> None:
    """A rule's count goes on when something else is changed."""
    sandbox.change_webhooks(rules=[{"times": 1, "policy": {"drop": True}}])
    emit(sandbox, 1)
    sandbox.change_webhooks(timeout=5)
    (second,) = emit(sandbox, 1)
    sandbox.wait_for_deliveries()
    assert order(receiver) == [second]


def test_some_by_chance(sandbox: Sandbox, receiver: Receiver) -> None:
    """A rate picks some of them."""
    sandbox.change_webhooks(rules=[{"rate": 0.5, "policy": {"duplicates": 1}}])
    ids = emit(sandbox, 40)
    sandbox.wait_for_deliveries()
    copies = Counter(order(receiver))
    assert copies.keys() == set(ids)
    assert set(copies.values()) == {1, 2}


def test_only_some_types(sandbox: Sandbox, receiver: Receiver) -> None:
    """An endpoint that listens to some types hears of no others."""
    sandbox.change_webhooks(types=["charge.refunded"])
    emit(sandbox, 1)
    refunded = sandbox.emit_event("charge.refunded", {})
    sandbox.wait_for_deliveries()
    assert order(receiver) == [refunded]


@pytest.mark.parametrize("status", [500, 503, 404, 302, 199])
def test_what_is_refused_comes_again(sandbox: Sandbox, receiver: Receiver, status: int) -> None:
    """Anything but 2xx is tried again, with a new signature; a success ends it."""
    sandbox.change_webhooks(retry_seconds=[0.02] * 5)
    answers = iter([status, status, 204])
    receiver.answer = lambda _received: next(answers)
    (event,) = emit(sandbox, 1)
    sandbox.wait_for_deliveries()
    assert order(receiver) == [event] * 3
    assert receiver.received[-1].event(SECRET).id == event
    log = sandbox.deliveries(event=event)
    assert [(d.attempt, d.outcome, d.status) for d in log] == [
        (1, "refused", status),
        (2, "refused", status),
        (3, "delivered", 204),
    ]


def test_attempts_are_bounded(sandbox: Sandbox, receiver: Receiver) -> None:
    """At some point it gives up."""
    sandbox.change_webhooks(retry_seconds=[0.01, 0.01])
    receiver.answer = lambda _received: 500
    emit(sandbox, 1)
    sandbox.wait_for_deliveries()
    assert len(receiver.received) == 3


def test_nobody_there(sandbox: Sandbox) -> None:
    """A refused connection is on record with its reason."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    sandbox.change_webhooks(url=f"http://127.0.0.1:{port}/", secrets=[SECRET], retry_seconds=[])
    emit(sandbox, 1)
    sandbox.wait_for_deliveries()
    (delivery,) = sandbox.deliveries()
    assert (delivery.outcome, delivery.status) == ("failed", None)
    assert "ConnectionRefusedError" in delivery.error


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 two hundred\r\n\r\n"])
def test_a_receiver_that_talks_nonsense(sandbox: Sandbox, said: bytes) -> None:
    """No answer is an answer for the log, not a crash."""
    with socket.create_server(("127.0.0.1", 0)) as strange:
        url = f"http://127.0.0.1:{strange.getsockname()[1]}/"
        sandbox.change_webhooks(url=url, secrets=[SECRET], retry_seconds=[])
        emit(sandbox, 1)
        connection, _ = strange.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(said)
        sandbox.wait_for_deliveries()
    assert sandbox.deliveries()[0].outcome == "failed"


def test_a_slow_receiver_does_not_slow_the_api(
    api: Api, sandbox: Sandbox, receiver: Receiver
) -> None:
    """While every delivery waits for its receiver, payments are taken; at most 16 wait at once."""
    answered = threading.Event()

    def wait(_received: Received) -> int:
        answered.wait(20)
        return 200

    receiver.answer = wait
    emit(sandbox, 40)
    wait_until(lambda: len(receiver.received) == 16)
    for _ in range(5):
        assert api.pay().status == 200
    assert len(receiver.received) == 16
    answered.set()
    sandbox.wait_for_deliveries()
    assert len(receiver.received) == 55


def test_a_receiver_that_never_answers(sandbox: Sandbox) -> None:
    """After the time-out it counts as failed."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        sandbox.change_webhooks(url=url, secrets=[SECRET], timeout=0.2, retry_seconds=[])
        emit(sandbox, 1)
        sandbox.wait_for_deliveries()
    (delivery,) = sandbox.deliveries()
    assert (delivery.outcome, delivery.error) == ("failed", "no answer within 0.2 s")
    assert delivery.seconds >= 0.2


def test_waiting_is_told(sandbox: Sandbox, receiver: Receiver) -> None:
    """The Python client gives up waiting with a reason."""
    emit(sandbox, 1, policy={"delay": 60})
    with pytest.raises(SandboxError, match="still on their way"):
        sandbox.wait_for_deliveries(patience=0.1)


def test_by_hand(sandbox: Sandbox, receiver: Receiver) -> None:
    """Any event at all, with any id, time, account and earlier attributes; again on request."""
    at = int(time.time()) - 5000
    id_ = sandbox.emit_event(
        "charge.refunded",
        {"id": "ch_x", "amount_refunded": 7},
        id="evt_mine",
        created=at,
        account="acct_1",
        livemode=True,
        previous={"amount_refunded": 0},
    )
    sandbox.resend_event(id_)
    sandbox.wait_for_deliveries()
    first, second = receiver.received
    assert first.body == second.body
    assert json.loads(first.body) == {
        "id": "evt_mine",
        "object": "event",
        "api_version": "2023-10-16",
        "created": at,
        "data": {
            "object": {"id": "ch_x", "amount_refunded": 7},
            "previous_attributes": {"amount_refunded": 0},
        },
        "livemode": True,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "charge.refunded",
        "account": "acct_1",
    }


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '{"id": 5}', "\u0000", "é" * 1000])
def test_any_body(api: Api, sandbox: Sandbox, receiver: Receiver, body: str) -> None:
    """A body that is no event is delivered as it is, validly signed, and listed nowhere."""
    sandbox.post_raw(body)
    sandbox.wait_for_deliveries()
    (received,) = receiver.received
    assert received.body.decode() == body
    stamp = int(received.headers["stripe-signature"].split(",")[0].removeprefix("t="))
    expected = sign(body.encode(), secrets=[SECRET], timestamp=stamp)
    assert received.headers["stripe-signature"] == expected
    assert api.get("/v1/events").json["data"] == []


def test_a_start_with_a_url(receiver: Receiver) -> None:
    """URL and secret can be given on the command line, and a reset comes back to them."""
    with Sandbox.start(webhook_url=receiver.url, webhook_secret="whsec_cli") as sandbox:
        sandbox.hold_webhooks()
        emit(sandbox, 1)
        sandbox.reset()
        ids = emit(sandbox, 1)
        sandbox.wait_for_deliveries()
    assert order(receiver) == ids
    assert receiver.received[0].event("whsec_cli").id == ids[0]


def test_a_reset_calls_everything_back(sandbox: Sandbox, receiver: Receiver) -> None:
    """What was late, held, refused or waiting is not delivered any more."""
    receiver.answer = lambda _received: 500
    emit(sandbox, 1)
    wait_until(lambda: len(receiver.received) > 0)
    gone = emit(sandbox, 1, policy={"delay": 0.3})
    gone += emit(sandbox, 1, policy={"hold": True})
    gone += emit(sandbox, 1, policy={"reorder": 5, "reorder_seconds": 0.3})
    sandbox.reset()
    sandbox.change_webhooks(url=receiver.url, secrets=[SECRET])
    receiver.answer = lambda _received: 200
    (last,) = emit(sandbox, 1, policy={"delay": 0.6})
    sandbox.wait_for_deliveries()
    assert last in order(receiver)
    assert not set(gone) & set(order(receiver))
    assert sandbox.summary()["deliveries"] == {"delivered": 1}
