"""The control endpoint: what it shows, what it refuses, and a new start."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.process import SandboxError
from tests.sandbox.api import AUTH, FORM, Api
from tests.sandbox.receiver import Receiver


def test_the_ledger(api: Api, sandbox: Sandbox) -> None:
    """Every effect with its key, the call it belongs to, its kind, object, amount and time."""
    customer = api.post("/v1/customers", {"metadata[holdfast_call]": "c1"}, key="k1").json["id"]
    intent = api.pay(key="k2", **{"metadata[holdfast_call]": "c2", "metadata[x]": "y"}).json["id"]
    form = {"payment_intent": intent, "amount": "5", "metadata[holdfast_call]": "c3"}
    refund = api.post("/v1/refunds", form, key="k3").json["id"]
    held = api.pay(capture_method="manual").json["id"]
    api.post(f"/v1/payment_intents/{held}/capture", {"amount_to_capture": "7"}, key="k4")
    other = api.pay(capture_method="manual").json["id"]
    api.post(f"/v1/payment_intents/{other}/cancel", key="k5")
    api.delete(f"/v1/customers/{customer}")
    ledger = sandbox.ledger()
    assert [(e.kind, e.object, e.amount, e.key) for e in ledger if e.key or "del" in e.kind] == [
        ("customer.created", customer, None, "k1"),
        ("payment_intent.created", intent, 2000, "k2"),
        ("refund.created", refund, 5, "k3"),
        ("payment_intent.captured", held, 7, "k4"),
        ("payment_intent.canceled", other, 2000, "k5"),
        ("customer.deleted", customer, None, ""),
    ]
    assert [effect.call for effect in ledger[:3]] == ["c1", "c2", "c3"]
    assert [effect.seq for effect in ledger] == list(range(1, 9))
    times = [effect.at for effect in ledger]
    assert times == sorted(times)
    assert sandbox.ledger(call="c2") == sandbox.ledger(key="k2") == [ledger[1]]
    assert sandbox.ledger(kind="refund.created", object=refund) == [ledger[2]]
    assert sandbox.requests(key="k2")[0].request_id == ledger[1].request_id


def test_reading_has_no_effect(api: Api, sandbox: Sandbox) -> None:
    """Reads, refusals and replays leave the ledger alone, and are counted as requests."""
    api.get("/v1/events")
    api.get("/v1/customers/cus_x")
    api.post("/v1/refunds")
    assert sandbox.ledger() == []
    assert [(seen.method, seen.status, seen.effects) for seen in sandbox.requests()] == [
        ("GET", 200, 0),
        ("GET", 404, 0),
        ("POST", 400, 0),
    ]


def test_the_requests(api: Api, sandbox: Sandbox) -> None:
    """Method, path, key, a digest of the body, times, and whether the answer went out."""
    headers = {**AUTH, **FORM, "Idempotency-Key": "k", "Stripe-Account": "acct_1"}
    for body in ("name=a&email=a%40example.com", "name=a&email=a%40example.com"):
        api.send("POST", "/v1/customers", body, headers)
    first, second = sandbox.requests(path="/v1/customers")
    assert (first.method, first.key, first.account) == ("POST", "k", "acct_1")
    assert first.body_sha256 == second.body_sha256
    assert (first.effects, second.effects, second.replayed) == (1, 0, True)
    assert first.answered
    assert first.finished_at is not None
    assert first.arrived_at <= first.finished_at <= second.arrived_at


def test_long_records_come_in_pages(api: Api, sandbox: Sandbox) -> None:
    """A page says whether there is more; the Python client reads them all."""
    for _ in range(7):
        api.post("/v1/customers")
    page = api.send("GET", "/_control/ledger?limit=3&after=2").json
    assert [record["seq"] for record in page["records"]] == [3, 4, 5]
    assert (page["more"], page["total"]) == (True, 7)
    for _ in range(1100):
        api.get("/v1/nothing")
    assert len(sandbox.requests()) == 1107


def test_the_summary(api: Api, sandbox: Sandbox) -> None:
    """The numbers of a demo's last table."""
    api.pay(key="k")
    api.pay(key="k")
    api.pay(payment_method="pm_card_chargeDeclined")
    summary = sandbox.summary()
    assert summary["requests"] == 3
    assert summary["replayed"] == 1
    assert summary["effects"] == 2
    assert summary["effects_by_kind"] == {"payment_intent.created": 2}
    assert summary["effects_by_outcome"] == {"done": 1, "declined": 1}
    assert summary["keys_with_several_effects"] == []


def test_a_reset_forgets_everything(api: Api, sandbox: Sandbox, receiver: Receiver) -> None:
    """Objects, keys, records, faults, declines, settings, webhooks: all as at the start."""
    customer = api.post("/v1/customers", key="k").json["id"]
    sandbox.wait_for_deliveries()
    sandbox.add_fault("status", times=None)
    sandbox.set_mix(rate=1, kinds=["status"])
    sandbox.decline_for(amount=5)
    sandbox.change_settings(search_lag=9)
    sandbox.hold_webhooks()
    sandbox.reset()
    with pytest.raises((HTTPException, ConnectionError)):
        api.get("/v1/events")  # this connection was cut
    assert api.get(f"/v1/customers/{customer}").status == 404
    assert not api.post("/v1/customers", key="k").replayed
    assert len(sandbox.ledger()) == len(api.get("/v1/events").json["data"]) == 1
    assert sandbox.faults() == {"rules": [], "mix": None}
    assert sandbox.declines() == []
    assert sandbox.deliveries() == []
    assert sandbox.change_settings()["search_lag"] == 0
    assert sandbox.ask("GET", "/webhooks") == {"webhooks": {}}


@pytest.mark.parametrize(
    "method, path, document, reason",
    [
        ("POST", "/declines", {}, "say what is declined"),
        ("POST", "/declines", {"amount": "5"}, "a whole number"),
        ("POST", "/declines", {"amount": 0}, "between 1"),
        ("POST", "/declines", {"metadata": {"a": 1}}, "of texts"),
        ("POST", "/declines", {"amount": 5, "colour": 1}, "unknown fields"),
        ("DELETE", "/declines", {"id": True}, "whole number"),
        ("DELETE", "/declines", {"name": "x"}, "only `id`"),
        ("PATCH", "/settings", {"latency": "slow"}, "must be a number"),
        ("PATCH", "/settings", {"latency": -1}, "between 0"),
        ("PATCH", "/settings", {"speed": 1}, "unknown fields"),
        ("PATCH", "/webhooks", {"url": "ftp://x/"}, "must be http"),
        ("PATCH", "/webhooks", {"url": "http:///x"}, "must be http"),
        ("PATCH", "/webhooks", {"url": "http://a@b/"}, "must be http"),
        ("PATCH", "/webhooks", {"url": "http://b:x/"}, "no valid port"),
        ("PATCH", "/webhooks", {"url": "http://b/\r\nX: y"}, "percent-encoded"),
        ("PATCH", "/webhooks", {"url": 5}, "must be a text"),
        ("PATCH", "/webhooks", {"secrets": "whsec_x"}, "must be a list"),
        ("PATCH", "/webhooks", {"secrets": [""]}, "list of texts"),
        ("PATCH", "/webhooks", {"timeout": 0}, "between 0.01"),
        ("PATCH", "/webhooks", {"retry_seconds": [-1]}, "between 0"),
        ("PATCH", "/webhooks", {"retry_seconds": [0] * 101}, "more than 100"),
        ("PATCH", "/webhooks", {"policy": {"duplicates": 101}}, "between 0 and 100"),
        ("PATCH", "/webhooks", {"policy": {"signature": "kind of"}}, "one of good, wrong"),
        ("PATCH", "/webhooks", {"policy": {"colour": 1}}, "unknown fields"),
        ("PATCH", "/webhooks", {"rules": [5]}, "must be a JSON object"),
        ("PATCH", "/webhooks", {"rules": [{"types": "x"}]}, "must be a list"),
        ("PATCH", "/webhooks", {"colour": 1}, "unknown fields"),
        ("POST", "/webhooks/release", {"limit": "all"}, "a whole number"),
        ("POST", "/events", {"type": "x"}, "lacks object"),
        ("POST", "/events", {"object": {}}, "lacks type"),
        ("POST", "/events", {"type": "x", "object": []}, "must be a JSON object"),
        ("POST", "/events", {"type": "x", "object": {}, "colour": 1}, "unknown fields"),
        ("POST", "/events", {"raw": 5}, "must be a text"),
        ("POST", "/events/resend", {}, "lacks event"),
        ("POST", "/events/resend", {"event": "evt_x"}, "no event evt_x"),
        ("POST", "/confirm", {}, "lacks payment_intent"),
        ("POST", "/confirm", {"payment_intent": 5}, "must be a text"),
        ("POST", "/keys/forget", {"key": 5}, "must be a text"),
        ("POST", "/reset", {"now": True}, "unknown fields"),
    ],
)
def test_bad_input(
    api: Api, sandbox: Sandbox, method: str, path: str, document: dict[str, Any], reason: str
) -> None:
    """400 with the reason, for a person and for the Python client."""
    answer = api.send(method, f"/_control{path}", json.dumps(document))
    assert answer.status == 400
    assert reason in answer.json["error"]
    with pytest.raises(SandboxError, match=r"^[A-Z]+ /"):
        sandbox.ask(method, path, document)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff", b"5", b"null", b"[" * 100_000, b"name=a"]
)
def test_no_json(api: Api, body: bytes) -> None:
    """400, never a crash."""
    answer = api.send("POST", "/_control/faults", body)
    assert answer.status == 400
    assert "JSON" in answer.json["error"]


@pytest.mark.parametrize(
    "query, reason",
    [("limit=x", "whole number"), ("after=-1", "whole number"), ("colour=red", "unknown")],
)
@pytest.mark.parametrize("path", ["ledger", "requests", "deliveries"])
def test_bad_queries(api: Api, path: str, query: str, reason: str) -> None:
    """400 with the reason."""
    answer = api.send("GET", f"/_control/{path}?{query}")
    assert answer.status == 400
    assert reason in answer.json["error"]


def test_unknown_verbs(api: Api) -> None:
    """404 for a path, 405 for a method, and a list of what there is."""
    assert api.send("GET", "/_control/nothing").status == 404
    wrong = api.send("PUT", "/_control/reset")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert "POST /_control/reset" in api.send("GET", "/_control").json["verbs"]


def test_control_is_no_traffic(api: Api, sandbox: Sandbox) -> None:
    """Faults do not touch the control endpoint, and it does not count."""
    sandbox.add_fault("status", times=None)
    sandbox.change_settings(latency=30)
    assert sandbox.requests() == []
    assert api.get("/v1/events").status == 500


def test_nobody_there() -> None:
    """The Python client says so."""
    with pytest.raises(SandboxError, match="GET /summary"):
        Sandbox("http://127.0.0.1:9", timeout=2).summary()
