"""What Stripe refuses, and in which words. https://docs.stripe.com/error-codes"""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import AUTH, FORM, NEVER, PAID, Api

INTENTS = "/v1/payment_intents"
LONG = "x" * 501


@pytest.mark.parametrize(
    "form, code, param",
    [
        ({}, "parameter_missing", "amount"),
        ({"amount": "5"}, "parameter_missing", "currency"),
        ({**PAID, "amount": ""}, "parameter_invalid_empty", "amount"),
        ({**PAID, "amount": "0"}, "parameter_invalid_integer", "amount"),
        ({**PAID, "amount": "-5"}, "parameter_invalid_integer", "amount"),
        ({**PAID, "amount": "12.50"}, "parameter_invalid_integer", "amount"),
        ({**PAID, "amount": "1e3"}, "parameter_invalid_integer", "amount"),
        ({**PAID, "amount": "true"}, "parameter_invalid_integer", "amount"),
        ({**PAID, "amount": "9" * 40}, "parameter_invalid_integer", "amount"),
        ({**PAID, "amount": "٣"}, "parameter_invalid_integer", "amount"),
        ({**PAID, "amount": "100000000"}, "amount_too_large", "amount"),
        ({**PAID, "amount[]": "5", "amount": "5"}, None, "amount"),
        ({**PAID, "currency": "zzz"}, None, "currency"),
        ({**PAID, "amuont": "5"}, "parameter_unknown", "amuont"),
        ({**PAID, "metadata": '{"a": "b"}'}, None, "metadata"),
        ({**PAID, "metadata[a][b]": "c"}, None, "metadata[a]"),
        ({**PAID, f"metadata[{'k' * 41}]": "v"}, None, "metadata"),
        ({**PAID, "metadata[k]": LONG}, None, "metadata"),
        ({**PAID, **{f"metadata[{n}]": "v" for n in range(51)}}, None, "metadata"),
        ({**PAID, "confirm": "yes"}, None, "confirm"),
        ({**PAID, "capture_method": "later"}, None, "capture_method"),
        ({**PAID, "automatic_payment_methods": "true"}, None, "automatic_payment_methods"),
        (
            {**PAID, "automatic_payment_methods[colour]": "red"},
            "parameter_unknown",
            "automatic_payment_methods[colour]",
        ),
        ({**PAID, "receipt_email": "nobody"}, "email_invalid", "receipt_email"),
        ({**PAID, "transfer_group": "x" * 5001}, None, "transfer_group"),
        ({**PAID, "description": "a\x00b"}, None, "description"),
        ({**PAID, "customer": "cus_unknown"}, "resource_missing", "customer"),
        ({**PAID, "payment_method": "pm_unknown"}, "resource_missing", "payment_method"),
        ({**PAID, "a" + "[b]" * 9: "c"}, None, "a" + "[b]" * 9),
        ({**PAID, "]": "c"}, None, "]"),
    ],
)
def test_a_payment_that_makes_no_sense(
    api: Api, sandbox: Sandbox, form: dict[str, str], code: str | None, param: str
) -> None:
    """400 with the parameter and the code, and nothing happens."""
    answer = api.post(INTENTS, form)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param
    assert answer.error.get("code") == code
    assert answer.error["message"]
    assert sandbox.ledger() == []


def test_a_way_back_is_needed(api: Api) -> None:
    """With redirects possible, a payment cannot be confirmed without return_url."""
    form = {name: value for name, value in PAID.items() if name not in NEVER}
    refused = api.post(INTENTS, form)
    assert refused.status == 400
    assert "return_url" in refused.error["message"]
    assert api.post(INTENTS, {**form, "return_url": "https://example.com/"}).status == 200
    assert api.post(INTENTS, {**form, "payment_method_types[]": "card"}).status == 200


@pytest.mark.parametrize(
    "authorization, status",
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer nonsense", 401),
        ("Digest sk_test_x", 401),
        ("Basic !!", 401),
        ("Bearer sk_test_é", 401),
        ("Bearer pk_test_x", 403),
        ("Bearer sk_test_x", 200),
        ("bearer rk_test_x", 200),
        ("Bearer sk_live_x", 200),
        ("Basic c2tfdGVzdF94Og==", 200),
    ],
)
def test_api_keys(api: Api, authorization: str | None, status: int) -> None:
    """Secret keys only, as bearer or as basic user name."""
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = api.send("GET", "/v1/events", headers=headers)  # type: ignore[arg-type]
    assert answer.status == status
    if status == 401:
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["WWW-Authenticate"]


def test_a_wrong_key_is_not_repeated(api: Api) -> None:
    """The message shows no more than the ends of the key."""
    secret = "sk_prod_abcdefghijklmnopqrstuvwxyz"
    answer = api.send("GET", "/v1/events", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status == 401
    assert "abcdefghijkl" not in answer.error["message"]


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/nothing"),
        ("PUT", "/v1/customers"),
        ("DELETE", "/v1/refunds/re_1"),
        ("POST", "/v1/payment_intents/pi_1/explode"),
        ("GET", "/v1/payment_intents/"),
        ("GET", "/v1/payment_intents/pi_1/"),
    ],
)
def test_an_unknown_address(api: Api, method: str, path: str) -> None:
    """404, in Stripe's envelope."""
    answer = api.send(method, path, headers=AUTH)
    assert answer.status == 404
    assert answer.error["type"] == "invalid_request_error"
    assert path in answer.error["message"]


@pytest.mark.parametrize(
    "path, kind, param",
    [
        ("/v1/payment_intents/pi_1", "payment_intent", "intent"),
        ("/v1/payment_intents/%00%ff", "payment_intent", "intent"),
        ("/v1/customers/cus_1", "customer", "id"),
        ("/v1/refunds/re_1", "refund", "refund"),
        ("/v1/charges/ch_1", "charge", "id"),
        ("/v1/events/evt_1", "event", "id"),
    ],
)
def test_an_unknown_object(api: Api, path: str, kind: str, param: str) -> None:
    """404 resource_missing."""
    answer = api.get(path)
    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("resource_missing", param)
    assert answer.error["message"].startswith(f"No such {kind}: ")


@pytest.mark.parametrize(
    "path, query, param",
    [
        ("/v1/events", {"limit": "0"}, "limit"),
        ("/v1/events", {"limit": "101"}, "limit"),
        ("/v1/events", {"limit": "many"}, "limit"),
        ("/v1/events", {"starting_after": "evt_1"}, "starting_after"),
        ("/v1/events", {"ending_before": "evt_1"}, "ending_before"),
        ("/v1/events", {"created[gte]": "yesterday"}, "created[gte]"),
        ("/v1/events", {"created[ge]": "5"}, "created[ge]"),
        ("/v1/events", {"created": "-1"}, "created"),
        ("/v1/events", {"colour": "red"}, "colour"),
        ("/v1/events", {"types": "x"}, "types"),
        ("/v1/refunds", {"colour": "red"}, "colour"),
        ("/v1/customers/search", {}, "query"),
        ("/v1/customers/search", {"query": ""}, "query"),
        ("/v1/customers/search", {"query": "metadata"}, "query"),
        ("/v1/customers/search", {"query": "colour:'red'"}, "query"),
        ("/v1/customers/search", {"query": "metadata['a']:'b"}, "query"),
        ("/v1/customers/search", {"query": "name:'a' AND name:'b' OR name:'c'"}, "query"),
        ("/v1/customers/search", {"query": "name:'a'name:'b'"}, "query"),
        ("/v1/customers/search", {"query": "created>'x'"}, "query"),
    ],
)
def test_a_question_that_makes_no_sense(
    api: Api, path: str, query: dict[str, str], param: str
) -> None:
    """400 with the parameter."""
    answer = api.get(path, **query)
    assert answer.status == 400
    assert answer.error["param"] == param


@pytest.mark.parametrize(
    "body, content_type",
    [
        (b'{"amount": 5}', "application/json"),
        (b"\xff\xfe", FORM["Content-Type"]),
        (b"amount=%ff", FORM["Content-Type"]),
        (b"&".join(b"a%d=1" % n for n in range(1001)), FORM["Content-Type"]),
    ],
)
def test_a_body_that_is_no_form(api: Api, body: bytes, content_type: str) -> None:
    """400, never a crash."""
    answer = api.send("POST", INTENTS, body, {**AUTH, "Content-Type": content_type})
    assert answer.status == 400
    assert "application/x-www-form-urlencoded" in answer.error["message"]


@pytest.mark.parametrize(
    "version, status", [("2023-10-16", 200), ("2025-03-31.basil", 200), ("1", 400)]
)
def test_versions(api: Api, version: str, status: int) -> None:
    """What looks like a version is taken; answers are always as of 2023-10-16, and say so."""
    answer = api.send("GET", "/v1/events", headers={**AUTH, "Stripe-Version": version})
    assert answer.status == status
    assert answer.headers["Stripe-Version"] == "2023-10-16"


def test_every_answer_names_its_request(api: Api, sandbox: Sandbox) -> None:
    """Request-Id, another one each time, good answers and bad ones; it is the one on record."""
    answers = [
        api.pay(),
        api.get("/v1/nothing"),
        api.pay(amount="x"),
        api.send("GET", "/v1/events"),
    ]
    ids = [answer.headers["Request-Id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(request_id.startswith("req_") for request_id in ids)
    assert [seen.request_id for seen in sandbox.requests()] == ids


def test_modes_and_accounts_are_apart(api: Api) -> None:
    """What one account or mode has, the others do not know."""
    made: dict[str, Any] = api.post("/v1/customers").json
    path = f"/v1/customers/{made['id']}"
    assert made["livemode"] is False
    live = {"Authorization": "Bearer sk_live_x"}
    assert api.send("GET", path, headers=live).status == 404
    assert api.send("GET", path, headers={**AUTH, "Stripe-Account": "acct_1"}).status == 404
    assert api.send("GET", path, headers={**AUTH, "Stripe-Account": "nonsense"}).status == 403
    assert api.get(path).status == 200
    assert api.send("POST", "/v1/customers", headers=live).json["livemode"] is True
