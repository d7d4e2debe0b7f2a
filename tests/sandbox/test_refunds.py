"""Money back: never more than was taken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import NEVER, Api

REFUNDS = "/v1/refunds"


def test_a_part_then_the_rest(api: Api) -> None:
    """The charge counts along, and says when all of it is gone."""
    intent = api.pay().json
    path = f"/v1/charges/{intent['latest_charge']}"
    api.post(REFUNDS, {"payment_intent": intent["id"], "amount": "500"})
    charge = api.get(path).json
    assert (charge["amount_refunded"], charge["refunded"]) == (500, False)
    rest = api.post(REFUNDS, {"payment_intent": intent["id"], "metadata[holdfast_call]": "c"}).json
    assert (rest["amount"], rest["metadata"]) == (1500, {"holdfast_call": "c"})
    charge = api.get(path).json
    assert (charge["amount_refunded"], charge["refunded"]) == (2000, True)


def test_the_events(api: Api) -> None:
    """refund.created, and charge.refunded with the sum so far and the one before."""
    intent = api.pay().json
    for amount in ("500", "700"):
        api.post(REFUNDS, {"payment_intent": intent["id"], "amount": amount})
    newest = api.get("/v1/events", type="charge.refunded").json["data"][0]
    assert newest["data"]["object"]["amount_refunded"] == 1200
    assert newest["data"]["previous_attributes"] == {"amount_refunded": 500}
    created = api.get("/v1/events", type="refund.created").json["data"]
    assert [event["data"]["object"]["amount"] for event in created] == [700, 500]


@pytest.mark.parametrize(
    "before, amount, code, message",
    [
        ([], "2001", "amount_too_large", "($20.01) is greater than charge amount ($20.00)"),
        (
            ["1500"],
            "501",
            "amount_too_large",
            "($5.01) is greater than unrefunded amount on charge ($5.00)",
        ),
        (["2000"], "1", "charge_already_refunded", "has already been refunded"),
        (["2000"], None, "charge_already_refunded", "has already been refunded"),
        ([], "0", "parameter_invalid_integer", "greater than or equal to 1"),
    ],
)
def test_too_much(
    api: Api, sandbox: Sandbox, before: list[str], amount: str | None, code: str, message: str
) -> None:
    """400 in Stripe's words, without effect."""
    intent = api.pay().json["id"]
    for part in before:
        assert api.post(REFUNDS, {"payment_intent": intent, "amount": part}).status == 200
    effects = len(sandbox.ledger())
    form = {"payment_intent": intent} | ({"amount": amount} if amount else {})
    refused = api.post(REFUNDS, form)
    assert (refused.status, refused.error["code"]) == (400, code)
    assert message in refused.error["message"]
    assert len(sandbox.ledger()) == effects


def test_only_what_was_captured(api: Api) -> None:
    """A partial capture bounds the refund."""
    intent = api.pay(capture_method="manual").json["id"]
    refund = {"payment_intent": intent, "amount": "1501"}
    assert "successful charge" in api.post(REFUNDS, refund).error["message"]
    api.post(f"/v1/payment_intents/{intent}/capture", {"amount_to_capture": "1500"})
    assert api.post(REFUNDS, refund).error["code"] == "amount_too_large"
    assert api.post(REFUNDS, {"payment_intent": intent}).json["amount"] == 1500


@pytest.mark.parametrize(
    "form, status",
    [
        ({}, 400),
        ({"payment_intent": "pi_unknown"}, 404),
        ({"charge": "ch_unknown"}, 404),
        ({"payment_intent": "{unpaid}"}, 400),
        ({"payment_intent": "{paid}", "reason": "regret"}, 400),
        ({"payment_intent": "{paid}", "colour": "red"}, 400),
        ({"payment_intent": "{paid}", "charge": "ch_other"}, 400),
    ],
)
def test_nothing_to_refund(api: Api, form: dict[str, str], status: int) -> None:
    """Refused with a reason."""
    unpaid = api.post("/v1/payment_intents", {"amount": "5", "currency": "usd", **NEVER}).json["id"]
    ids = {"{unpaid}": unpaid, "{paid}": api.pay().json["id"]}
    refused = api.post(REFUNDS, {name: ids.get(value, value) for name, value in form.items()})
    assert refused.status == status
    assert refused.error["message"]


def test_many_at_once(api: Api, sandbox: Sandbox) -> None:
    """Thirty requests for a tenth each: ten are granted."""
    intent = api.pay().json["id"]

    def refund(number: int) -> int:
        with Api(sandbox.url) as mine:
            form = {"payment_intent": intent, "amount": "200"}
            return mine.post(REFUNDS, form, key=f"r{number}").status

    with ThreadPoolExecutor(15) as pool:
        statuses = list(pool.map(refund, range(30)))
    assert sorted(statuses) == [200] * 10 + [400] * 20
    assert len(sandbox.ledger(kind="refund.created")) == 10
