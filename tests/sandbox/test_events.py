"""Events in the API: listed, filtered, and what they say."""

from __future__ import annotations

import time

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import AUTH, FORM, Api

EVENTS = "/v1/events"


def test_what_an_event_says(api: Api) -> None:
    """The object as it was then, the request behind it and its key."""
    answer = api.post("/v1/customers", {"name": "Ada"}, key="k")
    customer = answer.json
    event = api.get(EVENTS).json["data"][0]
    assert event["object"] == "event"
    assert event["type"] == "customer.created"
    assert event["api_version"] == "2023-10-16"
    assert event["livemode"] is False
    assert event["data"]["object"] == customer
    assert event["request"] == {"id": answer.headers["Request-Id"], "idempotency_key": "k"}
    api.delete(f"/v1/customers/{customer['id']}")
    assert api.get(f"{EVENTS}/{event['id']}").json == event
    deleted = api.get(EVENTS).json["data"][0]
    assert deleted["data"]["object"]["id"] == customer["id"]
    assert deleted["request"]["idempotency_key"] is None


def test_events_of_a_connected_account(api: Api) -> None:
    """They name the account, and only it lists them."""
    headers = {**AUTH, **FORM, "Stripe-Account": "acct_1"}
    api.send("POST", "/v1/customers", "name=a", headers)
    assert api.get(EVENTS).json["data"] == []
    (event,) = api.send("GET", EVENTS, headers=headers).json["data"]
    assert event["account"] == "acct_1"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages(api: Api, limit: int) -> None:
    """Forwards and backwards every event is seen once, newest first within a page."""
    for _ in range(7):
        api.post("/v1/customers")
    everything = [event["id"] for event in api.get(EVENTS, limit="100").json["data"]]
    assert len(everything) == 7
    assert _walk(api, "starting_after", limit) == everything
    oldest = everything[-1]
    assert _walk_back(api, oldest, limit) == everything[:-1]


def test_a_page_behind_the_last(api: Api) -> None:
    """Empty, without more."""
    api.post("/v1/customers")
    (event,) = api.get(EVENTS).json["data"]
    for cursor in ("starting_after", "ending_before"):
        page = api.get(EVENTS, **{cursor: event["id"]}).json
        assert (page["data"], page["has_more"]) == ([], False)


def test_types(api: Api) -> None:
    """One, several, or all with a common beginning."""
    api.pay()
    api.post("/v1/customers")
    assert _types(api, type="customer.created") == ["customer.created"]
    assert _types(api, type="payment_intent.*") == [
        "payment_intent.succeeded",
        "payment_intent.created",
    ]
    several = {"types[0]": "customer.created", "types[]": "charge.succeeded"}
    assert _types(api, **several) == ["customer.created", "charge.succeeded"]
    assert _types(api, type="nothing") == []
    both = api.get(EVENTS, **{"type": "a", "types[]": "b"})
    assert both.status == 400


def test_since_when(api: Api, sandbox: Sandbox) -> None:
    """created[gte] and its kin, in whole seconds."""
    now = int(time.time())
    ids = [sandbox.emit_event("x", {}, created=now - age) for age in (30, 20, 10)]

    def listed(**query: int) -> list[str]:
        found = api.get(EVENTS, **{f"created[{name}]": str(v) for name, v in query.items()})
        return [event["id"] for event in found.json["data"]]

    assert listed(gte=now - 20) == [ids[2], ids[1]]
    assert listed(gt=now - 20) == [ids[2]]
    assert listed(lt=now - 20) == [ids[0]]
    assert listed(lte=now - 20) == [ids[1], ids[0]]
    assert listed(gte=now - 25, lt=now - 15) == [ids[1]]
    exactly = api.get(EVENTS, created=str(now - 10)).json["data"]
    assert [event["id"] for event in exactly] == [ids[2]]


def test_an_event_that_nobody_hears_of(api: Api, sandbox: Sandbox) -> None:
    """Made by hand, listed, never delivered: what catching up is for."""
    missed = sandbox.emit_event("charge.refunded", {"id": "ch_1"}, deliver=False)
    (event,) = api.get(EVENTS).json["data"]
    assert (event["id"], event["data"]["object"]) == (missed, {"id": "ch_1"})
    assert sandbox.deliveries() == []


def test_search_lags_behind(api: Api, sandbox: Sandbox) -> None:
    """What was just made is not found yet, though it is there."""
    sandbox.change_settings(search_lag=3600)
    made = api.pay(**{"metadata[holdfast_call]": "c"}).json["id"]
    query = {"query": "metadata['holdfast_call']:'c'"}
    assert api.get("/v1/payment_intents/search", **query).json["data"] == []
    assert api.get(f"/v1/payment_intents/{made}").status == 200
    sandbox.change_settings(search_lag=0)
    found = api.get("/v1/payment_intents/search", **query).json
    assert [one["id"] for one in found["data"]] == [made]


@pytest.mark.parametrize(
    "query, found",
    [
        ("metadata['order']:'7'", "ab"),
        ('metadata["order"]:"7"', "ab"),
        ("metadata['note']:'it\\'s'", "a"),
        ("metadata['order']:'7' AND name:'B'", "b"),
        ("metadata['order']:'7' name:'B'", "b"),
        ("name:'A' OR name:'C'", "ca"),
        ("-metadata['order']:'7'", "c"),
        ("metadata['order']:null", "c"),
        ("-metadata['order']:null", "ba"),
        ("email~'EXAMPLE'", "cba"),
        ("email:'a@example.com'", "a"),
        ("created>0", "cba"),
        ("created<=5", ""),
        ("metadata['order']:'77'", ""),
        ("metadata['Order']:'7'", ""),
    ],
)
def test_search(api: Api, query: str, found: str) -> None:
    """https://docs.stripe.com/search#search-query-language"""
    given: dict[str, dict[str, str]] = {
        "a": {"metadata[order]": "7", "metadata[note]": "it's"},
        "b": {"metadata[order]": "7"},
        "c": {},
    }
    for name, form in given.items():
        contact = {"name": name.upper(), "email": f"{name}@example.com"}
        api.post("/v1/customers", {**contact, **form})
    answer = api.get("/v1/customers/search", query=query)
    assert answer.status == 200
    names = "".join(customer["name"].lower() for customer in answer.json["data"])
    assert sorted(names) == sorted(found)


def _walk(api: Api, cursor: str, limit: int) -> list[str]:
    seen: list[str] = []
    more = True
    while more:
        query = {"limit": str(limit), **({cursor: seen[-1]} if seen else {})}
        page = api.get(EVENTS, **query).json
        seen += [event["id"] for event in page["data"]]
        more = page["has_more"]
    return seen


def _walk_back(api: Api, start: str, limit: int) -> list[str]:
    seen: list[str] = []
    more, cursor = True, start
    while more:
        page = api.get(EVENTS, limit=str(limit), ending_before=cursor).json
        seen = [event["id"] for event in page["data"]] + seen
        more, cursor = page["has_more"], seen[0] if seen else cursor
    return seen


def _types(api: Api, **query: str) -> list[str]:
    return [event["type"] for event in api.get(EVENTS, **query).json["data"]]
