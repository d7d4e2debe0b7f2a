"""Every fault, seen from the client's side, and what it leaves behind."""

from __future__ import annotations

import json
import socket
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox.control import Sandbox
from tests.house.polling import wait_until
from tests.sandbox.api import Api

pytestmark = pytest.mark.faults

LOST = (ConnectionError, HTTPException)


def connect(sandbox: Sandbox) -> socket.socket:
    parts = urlsplit(sandbox.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def raw_get(path: str = "/v1/events") -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Authorization: Bearer sk_test_x", "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    "how, error", [("reset", ConnectionResetError), ("close", RemoteDisconnected)]
)
def test_drop_before_effect(api: Api, sandbox: Sandbox, how: str, error: type[Exception]) -> None:
    """The connection ends; nothing happened, and the key is free."""
    sandbox.add_fault("drop_before_effect", how=how)
    with pytest.raises(error):
        api.pay(key="k")
    assert sandbox.ledger() == []
    assert not api.pay(key="k").replayed


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("when", ["before_answer", "in_headers", "in_body"])
def test_drop_after_effect(api: Api, sandbox: Sandbox, how: str, when: str) -> None:
    """The connection ends before the answer has; it happened, and the key knows it."""
    sandbox.add_fault("drop_after_effect", how=how, when=when)
    with pytest.raises(LOST):
        api.pay(key="k")
    (effect,) = sandbox.ledger()
    again = api.pay(key="k")
    assert again.replayed
    assert again.json["id"] == effect.object
    first, second = sandbox.requests(key="k")
    assert (first.answered, first.fault, first.status) == (False, "drop_after_effect", 200)
    assert (second.answered, second.fault) == (True, "")


def test_drop_after_effect_of_a_deletion(api: Api, sandbox: Sandbox) -> None:
    """What has no key is repeated into a 404."""
    customer = api.post("/v1/customers").json["id"]
    sandbox.add_fault("drop_after_effect")
    with pytest.raises(LOST):
        api.delete(f"/v1/customers/{customer}")
    assert api.delete(f"/v1/customers/{customer}").status == 404
    assert len(sandbox.ledger(kind="customer.deleted")) == 1


@pytest.mark.parametrize("where", ["before_effect", "after_effect"])
def test_latency(api: Api, sandbox: Sandbox, where: str) -> None:
    """The answer is late and right; the effect is there before or after the wait."""
    sandbox.add_fault("latency", seconds=2, where=where)
    with Api(sandbox.url, timeout=0.3) as hasty, pytest.raises(TimeoutError):
        hasty.pay(key="k")
    if where == "before_effect":
        assert sandbox.ledger() == []
    wait_until(lambda: len(sandbox.ledger()) == 1)
    if where == "after_effect":
        assert sandbox.requests()[0].finished_at is None
    assert api.pay(key="k").replayed


@pytest.mark.parametrize("part", ["headers", "body"])
def test_drip(sandbox: Sandbox, part: str) -> None:
    """A byte at a time: no read is slow, the whole is."""
    sandbox.add_fault("drip", seconds=0.01, part=part)
    with connect(sandbox) as connection:
        connection.sendall(raw_get())
        pieces: list[bytes] = []
        while b'"url":"/v1/events"}' not in b"".join(pieces):
            pieces.append(connection.recv(65536))
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    assert json.loads(body)["object"] == "list"
    assert sum(len(piece) == 1 for piece in pieces) > len(head if part == "headers" else body) / 2


def test_a_dripped_answer_is_whole(api: Api, sandbox: Sandbox) -> None:
    """Somebody patient gets the right answer, and the connection goes on."""
    sandbox.add_fault("drip", seconds=0.001)
    assert api.pay(key="k").status == 200
    assert api.pay(key="k").replayed


@pytest.mark.parametrize("effect", [False, True])
def test_hang(sandbox: Sandbox, effect: bool) -> None:
    """No answer, ever; with or without effect."""
    sandbox.add_fault("hang", effect=effect)
    with Api(sandbox.url, timeout=0.4) as api, pytest.raises(TimeoutError):
        api.pay(key="k")
    wait_until(lambda: [seen.finished_at is None for seen in sandbox.requests()] == [False])
    assert len(sandbox.ledger()) == int(effect)


def test_hang_for_a_while(api: Api, sandbox: Sandbox) -> None:
    """After its time the connection is closed without a word."""
    sandbox.add_fault("hang", seconds=0.1)
    with pytest.raises(RemoteDisconnected):
        api.pay()


def test_many_that_hang(api: Api, sandbox: Sandbox) -> None:
    """A few hundred hanging connections cost the others nothing."""
    sandbox.add_fault("hang", times=300)
    connections = [connect(sandbox) for _ in range(300)]
    for connection in connections:
        connection.sendall(raw_get())
    wait_until(lambda: sandbox.summary()["running"] == 300)
    assert api.pay().status == 200
    for connection in connections:
        connection.close()
    wait_until(lambda: sandbox.summary()["running"] == 0)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_a_storm(api: Api, sandbox: Sandbox, status: int) -> None:
    """So many errors, then none."""
    sandbox.add_fault("status", times=3, status=status)
    answers = [api.pay(key="k") for _ in range(4)]
    assert [answer.status for answer in answers] == [status] * 3 + [200]
    assert answers[0].error["type"] == "api_error"
    assert answers[0].headers["Request-Id"].startswith("req_")


@pytest.mark.parametrize(
    "given",
    ["7", "0", "-5", "99999999999999999999", "soon", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", ""],
)
def test_retry_after_as_it_is(api: Api, sandbox: Sandbox, given: str) -> None:
    """429 with whatever a provider may come up with."""
    sandbox.add_fault("rate_limit", retry_after=given)
    answer = api.pay(key="k")
    assert (answer.status, answer.error["code"]) == (429, "rate_limit")
    assert (answer.headers["Retry-After"] or "") == given


@pytest.mark.parametrize("given", [7, 1.5, -3])
def test_retry_after_as_a_number(api: Api, sandbox: Sandbox, given: float) -> None:
    """A number is written as it is."""
    sandbox.add_fault("rate_limit", retry_after=given)
    assert api.pay().headers["Retry-After"] == str(given)


@pytest.mark.parametrize("seconds", [30, -3600, 86400 * 365])
def test_retry_after_as_a_date(api: Api, sandbox: Sandbox, seconds: int) -> None:
    """An HTTP date, counted from the moment of the answer."""
    sandbox.add_fault("rate_limit", retry_after_date=seconds)
    began = time.time()
    date = parsedate_to_datetime(api.pay().headers["Retry-After"]).timestamp()
    assert began + seconds - 1 <= date <= time.time() + seconds


def test_no_retry_after(api: Api, sandbox: Sandbox) -> None:
    """429 may come without it."""
    sandbox.add_fault("rate_limit")
    assert api.pay().headers["Retry-After"] is None


@pytest.mark.parametrize(
    "fault, status",
    [("status", 500), ("rate_limit", 429), ("conflict", 409), ("headers", 200)],
)
@pytest.mark.parametrize("word", [True, False, None])
def test_should_retry(
    api: Api, sandbox: Sandbox, fault: str, status: int, word: bool | None
) -> None:
    """Stripe-Should-Retry says true, false or nothing, on any answer."""
    sandbox.add_fault(fault, should_retry=word)
    answer = api.pay()
    assert answer.status == status
    expected = {True: "true", False: "false", None: None}[word]
    assert answer.headers["Stripe-Should-Retry"] == expected


def test_other_headers(api: Api, sandbox: Sandbox) -> None:
    """Any header can be put into an answer, in place of ours."""
    sandbox.add_fault("headers", headers={"Request-Id": "req_forged", "X-Cache": "HIT"})
    answer = api.pay()
    assert (answer.headers["X-Cache"], answer.headers.get_all("Request-Id")) == (
        "HIT",
        ["req_forged"],
    )


def test_a_conflict(api: Api, sandbox: Sandbox) -> None:
    """409 as if another request ran."""
    sandbox.add_fault("conflict")
    answer = api.pay(key="k")
    assert (answer.status, answer.error["code"]) == (409, "idempotency_key_in_use")
    assert "k. Please" in answer.error["message"]
    assert sandbox.ledger() == []


@pytest.mark.parametrize(
    "options, code, decline_code",
    [
        ({}, "card_declined", "generic_decline"),
        ({"decline_code": "do_not_honor"}, "card_declined", "do_not_honor"),
        ({"code": "expired_card"}, "expired_card", "expired_card"),
    ],
)
def test_a_decline(
    api: Api, sandbox: Sandbox, options: dict[str, Any], code: str, decline_code: str
) -> None:
    """A good card is declined, once, and the decline is stored like a real one."""
    sandbox.add_fault("decline", **options)
    answer = api.pay(key="k")
    assert (answer.status, answer.error["code"]) == (402, code)
    assert answer.error["decline_code"] == decline_code
    assert answer.error["payment_intent"]["status"] == "requires_payment_method"
    assert api.pay(key="k").replayed
    assert api.pay(key="other").status == 200


@pytest.mark.parametrize(
    "path, form",
    [
        ("/v1/customers", {"name": "a"}),
        ("/v1/payment_intents", {"amount": "5", "currency": "usd"}),
    ],
)
def test_a_decline_where_nothing_is_paid(
    api: Api, sandbox: Sandbox, path: str, form: dict[str, str]
) -> None:
    """402 without effect, stored."""
    sandbox.add_fault("decline")
    assert api.post(path, form, key="k").error["type"] == "card_error"
    assert api.post(path, form, key="k").replayed
    assert sandbox.ledger() == []


@pytest.mark.parametrize("shape", ["malformed", "empty", "not_object", "html"])
def test_an_unreadable_body(api: Api, sandbox: Sandbox, shape: str) -> None:
    """200 with something else in it; it happened, and the repetition shows what."""
    sandbox.add_fault("body", shape=shape)
    answer = api.pay(key="k")
    assert answer.status == 200
    assert not _is_object(answer.body)
    assert (answer.headers["Content-Type"] == "text/html") == (shape == "html")
    again = api.pay(key="k")
    assert again.replayed
    assert again.json["object"] == "payment_intent"
    assert len(sandbox.ledger()) == 1


def test_a_truncated_body(api: Api, sandbox: Sandbox) -> None:
    """Shorter than it claims to be."""
    sandbox.add_fault("body", shape="truncated")
    with pytest.raises(IncompleteRead):
        api.pay(key="k")
    assert api.pay(key="k").replayed


def test_an_oversized_body(api: Api, sandbox: Sandbox) -> None:
    """As long as it was told to be, and valid JSON."""
    sandbox.add_fault("body", shape="oversized", size=3_000_000)
    answer = api.pay()
    assert len(answer.body) == 3_000_000
    assert answer.json["object"] == "payment_intent"


def test_faults_are_on_record(api: Api, sandbox: Sandbox) -> None:
    """Each request names the fault it met, and the summary counts them."""
    sandbox.add_fault("status", times=2)
    sandbox.add_fault("rate_limit")
    for _ in range(4):
        api.pay(key="k")
    assert [seen.fault for seen in sandbox.requests()] == ["status", "status", "rate_limit", ""]
    assert [seen.status for seen in sandbox.requests()] == [500, 500, 429, 200]
    assert sandbox.summary()["faults"] == {"status": 2, "rate_limit": 1}


def _is_object(body: bytes) -> bool:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict)
