"""Keys as Stripe v1 remembers them. https://docs.stripe.com/api/idempotent_requests"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sandbox.control import Sandbox
from tests.house.polling import wait_until
from tests.sandbox.api import AUTH, FORM, PAID, Answer, Api

CUSTOMERS = "/v1/customers"


def test_a_repetition_is_a_replay(api: Api, sandbox: Sandbox) -> None:
    """The same bytes again, marked, with the first request's id beside its own; one effect."""
    first, second = api.pay(key="k"), api.pay(key="k")
    assert (first.replayed, second.replayed) == (False, True)
    assert first.body == second.body
    assert first.headers["Original-Request"] == first.headers["Request-Id"]
    assert second.headers["Original-Request"] == first.headers["Request-Id"]
    assert second.headers["Request-Id"] != first.headers["Request-Id"]
    assert second.headers["Idempotency-Key"] == "k"
    assert len(sandbox.ledger(key="k")) == 1
    assert [seen.replayed for seen in sandbox.requests(key="k")] == [False, True]


def test_the_order_of_parameters_is_no_difference(api: Api) -> None:
    """What is compared are the parameters."""
    first = api.post("/v1/payment_intents", list(PAID.items()), key="k")
    second = api.post("/v1/payment_intents", list(reversed(PAID.items())), key="k")
    assert second.replayed
    assert second.body == first.body


@pytest.mark.parametrize(
    "answer_of",
    [
        lambda api: api.pay(key="k"),
        lambda api: api.pay(key="k", payment_method="pm_card_chargeDeclined"),
        lambda api: api.pay(key="k", customer="cus_unknown"),
        lambda api: api.post("/v1/refunds", {"payment_intent": "pi_unknown"}, key="k"),
        lambda api: api.post("/v1/payment_intents/pi_unknown/cancel", key="k"),
    ],
    ids=["success", "decline", "no such customer", "no such payment", "nothing to cancel"],
)
def test_what_is_stored(api: Api, answer_of: object) -> None:
    """Whatever came of a request that was executed, failures included."""
    assert callable(answer_of)
    first: Answer = answer_of(api)
    second: Answer = answer_of(api)
    assert not first.replayed
    assert second.replayed
    assert (first.status, first.body) == (second.status, second.body)


@pytest.mark.parametrize("effect", [False, True])
def test_a_stored_500(api: Api, sandbox: Sandbox, effect: bool) -> None:
    """A 500 that Stripe stored comes back for ever, whether it had an effect or not."""
    sandbox.add_fault("status", status=500, store=True, effect=effect)
    answers = [api.pay(key="k") for _ in range(3)]
    assert [answer.status for answer in answers] == [500] * 3
    assert [answer.replayed for answer in answers] == [False, True, True]
    assert answers[0].error["type"] == "api_error"
    assert len(sandbox.ledger(key="k")) == int(effect)


def test_a_500_that_is_not_stored(api: Api, sandbox: Sandbox) -> None:
    """Without effect the next attempt makes it; with effect it finds what was made."""
    sandbox.add_fault("status", status=503)
    assert api.pay(key="without").status == 503
    made = api.pay(key="without")
    assert (made.status, made.replayed) == (200, False)
    sandbox.add_fault("status", status=502, effect=True)
    assert api.pay(key="with").status == 502
    found = api.pay(key="with")
    assert (found.status, found.replayed) == (200, True)
    assert [effect.key for effect in sandbox.ledger()] == ["without", "with"]


@pytest.mark.parametrize(
    "bad",
    [{"amount": "x"}, {"amount": ""}, {"colour": "red"}, {"currency": "zzz"}, {"confirm": "maybe"}],
)
def test_failed_validation_is_not_stored(api: Api, sandbox: Sandbox, bad: dict[str, str]) -> None:
    """The key stays good for corrected parameters."""
    refused = api.pay(key="k", **bad)
    assert (refused.status, refused.replayed) == (400, False)
    made = api.pay(key="k")
    assert (made.status, made.replayed) == (200, False)
    assert len(sandbox.ledger(key="k")) == 1


@pytest.mark.parametrize(
    "fault, options, status",
    [
        ("rate_limit", {}, 429),
        ("rate_limit", {"code": "lock_timeout"}, 429),
        ("conflict", {}, 409),
    ],
)
def test_what_was_never_begun_is_not_stored(
    api: Api, sandbox: Sandbox, fault: str, options: dict[str, Any], status: int
) -> None:
    """429 and 409 leave the key as it was."""
    sandbox.add_fault(fault, **options)
    assert api.pay(key="k").status == status
    made = api.pay(key="k")
    assert (made.status, made.replayed) == (200, False)


def test_a_missing_key_is_not_stored(api: Api, sandbox: Sandbox) -> None:
    """401 comes before everything."""
    headers = {**FORM, "Idempotency-Key": "k"}
    assert api.send("POST", CUSTOMERS, "name=a", headers).status == 401
    assert not api.post(CUSTOMERS, {"name": "b"}, key="k").replayed


@pytest.mark.parametrize(
    "path, form, words",
    [
        (CUSTOMERS, {"name": "b"}, "same parameters"),
        (CUSTOMERS, {"name": "a", "email": "a@example.com"}, "same parameters"),
        (CUSTOMERS, {}, "same parameters"),
        ("/v1/refunds", {"name": "a"}, "('/v1/customers' vs '/v1/refunds')"),
    ],
)
def test_another_request_under_the_same_key(
    api: Api, sandbox: Sandbox, path: str, form: dict[str, str], words: str
) -> None:
    """400 idempotency_error without effect; the stored answer stays."""
    first = api.post(CUSTOMERS, {"name": "a"}, key="k")
    other = api.post(path, form, key="k")
    assert (other.status, other.error["type"]) == (400, "idempotency_error")
    assert words in other.error["message"]
    again = api.post(CUSTOMERS, {"name": "a"}, key="k")
    assert again.replayed
    assert again.body == first.body
    assert len(sandbox.ledger()) == 1


@pytest.mark.parametrize("length, status", [(1, 200), (255, 200), (256, 400), (0, 400)])
def test_the_length_of_a_key(api: Api, length: int, status: int) -> None:
    """1 to 255 characters."""
    assert api.post(CUSTOMERS, key="k" * length).status == status


def test_keys_belong_to_an_account_and_mode(api: Api, sandbox: Sandbox) -> None:
    """The same key elsewhere is another key."""
    for headers in ({}, {"Stripe-Account": "acct_1"}, {"Authorization": "Bearer sk_live_x"}):
        answer = api.send(
            "POST", CUSTOMERS, "name=a", {**AUTH, **FORM, "Idempotency-Key": "k", **headers}
        )
        assert (answer.status, answer.replayed) == (200, False)
    assert [effect.account for effect in sandbox.ledger(key="k")] == ["", "acct_1", ""]


def test_only_posts_have_keys(api: Api, sandbox: Sandbox) -> None:
    """DELETE and GET ignore them."""
    customer = api.post(CUSTOMERS).json["id"]
    headers = {**AUTH, "Idempotency-Key": "k"}
    path = f"{CUSTOMERS}/{customer}"
    assert api.send("GET", path, headers=headers).json["id"] == customer
    assert api.send("DELETE", path, headers=headers).status == 200
    again = api.send("DELETE", path, headers=headers)
    assert (again.status, again.replayed) == (404, False)
    assert sandbox.ledger(kind="customer.deleted")[0].key == ""


def test_a_clash_with_a_running_request(api: Api, sandbox: Sandbox) -> None:
    """409 idempotency_key_in_use while the first one runs, its answer afterwards."""
    sandbox.add_fault("latency", seconds=1)
    first: list[Answer] = []

    def run() -> None:
        with Api(sandbox.url) as mine:
            first.append(mine.pay(key="k"))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: sandbox.summary()["running"] == 1)
    clash = api.pay(key="k")
    other = api.pay(key="k", amount="5")
    thread.join()
    assert (clash.status, clash.error["code"]) == (409, "idempotency_key_in_use")
    assert clash.error["type"] == "idempotency_error"
    assert (other.status, other.error["type"]) == (400, "idempotency_error")
    again = api.pay(key="k")
    assert again.replayed
    assert again.body == first[0].body
    assert len(sandbox.ledger(key="k")) == 1


@pytest.mark.parametrize("latency", [0.0, 0.5])
def test_fifty_at_once(sandbox: Sandbox, latency: float) -> None:
    """One effect; each of the others is a replay or a clash, and nobody gets another object."""
    sandbox.change_settings(latency=latency)
    ready = threading.Barrier(50)

    def pay(_number: int) -> Answer:
        with Api(sandbox.url) as mine:
            mine.get("/v1/nothing")  # connects
            ready.wait()
            return mine.pay(key="k")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(pay, range(50)))
    good = [answer for answer in answers if answer.status == 200]
    assert len(sandbox.ledger(key="k")) == 1
    assert len({answer.body for answer in good}) == 1
    assert sum(not answer.replayed for answer in good) == 1
    assert {answer.status for answer in answers} <= {200, 409}


def test_keys_are_forgotten(api: Api, sandbox: Sandbox) -> None:
    """After its time a key is new again: a second effect, as at Stripe after 24 hours."""
    first = api.post(CUSTOMERS, key="a").json["id"]
    assert sandbox.forget_keys("other") == 0
    assert api.post(CUSTOMERS, key="a").json["id"] == first
    assert sandbox.forget_keys("a") == 1
    assert api.post(CUSTOMERS, key="a").json["id"] != first
    sandbox.change_settings(key_lifetime=0)
    assert not api.post(CUSTOMERS, key="a").replayed
    assert sandbox.summary()["keys_with_several_effects"] == ["a"]


def test_an_effect_nobody_waits_for(sandbox: Sandbox) -> None:
    """A client that gives up does not stop what it has asked for."""
    sandbox.add_fault("latency", seconds=0.8)
    with Api(sandbox.url, timeout=0.1) as hasty, pytest.raises(TimeoutError):
        hasty.pay(key="k")
    wait_until(lambda: len(sandbox.ledger(key="k")) == 1)
    with Api(sandbox.url) as patient:
        assert patient.pay(key="k").replayed
