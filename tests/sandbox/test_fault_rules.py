"""Which request meets which fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import Api

CUSTOMERS = "/v1/customers"


def statuses(api: Api, number: int) -> list[int]:
    return [api.post(CUSTOMERS, key=f"k{n}").status for n in range(number)]


def test_scripted_faults_come_in_their_order(api: Api, sandbox: Sandbox) -> None:
    """A queue: each rule its times, then the next, then nothing."""
    sandbox.add_fault("status", times=2, status=500)
    sandbox.add_fault("status", status=503)
    assert statuses(api, 5) == [500, 500, 503, 200, 200]
    assert sandbox.faults() == {"rules": [], "mix": None}


@pytest.mark.parametrize(
    "match",
    [
        {"method": "POST"},
        {"method": "post"},
        {"path": "/v1/cust"},
        {"key": "mine"},
        {"body": "metadata[holdfast_call]=c 1"},
        {"method": "POST", "path": CUSTOMERS, "key": "mine", "body": "holdfast_call"},
    ],
)
def test_what_matches(api: Api, sandbox: Sandbox, match: dict[str, str]) -> None:
    """All that is said must fit; what does not fit is left alone, and costs the rule nothing."""
    sandbox.add_fault("status", **match)  # type: ignore[arg-type]
    assert api.get("/v1/events").status == 200
    hit = api.post(CUSTOMERS, {"metadata[holdfast_call]": "c 1"}, key="mine")
    assert hit.status == 500
    assert api.post(CUSTOMERS, {"metadata[holdfast_call]": "c 1"}, key="mine").status == 200


@pytest.mark.parametrize(
    "match",
    [{"method": "GET"}, {"path": "/v1/refunds"}, {"key": "min"}, {"body": "holdfast_call=d"}],
)
def test_what_does_not_match(api: Api, sandbox: Sandbox, match: dict[str, str]) -> None:
    """Near is not enough."""
    sandbox.add_fault("status", **match)  # type: ignore[arg-type]
    answer = api.post(CUSTOMERS, {"metadata[holdfast_call]": "c"}, key="mine")
    assert answer.status == 200


def test_until_it_is_cleared(api: Api, sandbox: Sandbox) -> None:
    """Without a number of times a rule stays; it is cleared by its id, the others are not."""
    rule = sandbox.add_fault("status", times=None, path=CUSTOMERS)
    other = sandbox.add_fault("status", times=None, path="/v1/refunds")
    assert statuses(api, 3) == [500] * 3
    assert sandbox.clear_faults(rule) == 1
    assert statuses(api, 1) == [200]
    assert [rule["id"] for rule in sandbox.faults()["rules"]] == [other]
    assert sandbox.clear_faults() == 1


def test_the_mix_has_its_rate(api: Api, sandbox: Sandbox) -> None:
    """About every fifth request meets one of the faults, and every kind has its turn."""
    sandbox.set_mix(
        rate=0.2, kinds=["rate_limit", {"kind": "status", "status": 503}], method="POST"
    )
    seen = statuses(api, 400)
    assert 40 < len([status for status in seen if status != 200]) < 130
    assert set(seen) == {200, 429, 503}
    assert api.get("/v1/events").status == 200
    sandbox.clear_faults()
    assert set(statuses(api, 20)) == {200}


def test_a_seed_repeats_itself(sandbox: Sandbox) -> None:
    """After a reset the same requests meet the same faults; the ids are others."""
    runs = []
    for _ in range(2):
        sandbox.reset()
        sandbox.set_mix(rate=0.5, kinds=["rate_limit", "status"])
        with Api(sandbox.url) as api:
            runs.append((statuses(api, 40), {effect.object for effect in sandbox.ledger()}))
    (first, ids), (second, other_ids) = runs
    assert first == second
    assert set(first) == {200, 429, 500}
    assert not ids & other_ids


def test_scripted_before_mixed(api: Api, sandbox: Sandbox) -> None:
    """A scripted fault comes before chance."""
    sandbox.set_mix(rate=1, kinds=["rate_limit"])
    sandbox.add_fault("status")
    assert statuses(api, 2) == [500, 429]


def test_so_many_for_each_key(api: Api, sandbox: Sandbox) -> None:
    """With a limit for each key everything ends well in the end."""
    sandbox.set_mix(rate=1, kinds=["status"], per_key=2)
    for key in ("a", "b"):
        assert [api.post(CUSTOMERS, key=key).status for _ in range(3)] == [500, 500, 200]


def test_chance_in_a_scripted_rule(api: Api, sandbox: Sandbox) -> None:
    """A rate below 1 spreads the faults; `times` still bounds them."""
    sandbox.add_fault("status", times=3, rate=0.5)
    seen = statuses(api, 40)
    assert seen.count(500) == 3
    assert seen[:3] != [500] * 3


@pytest.mark.parametrize(
    "method, path, document, reason",
    [
        ("POST", "/faults", {}, "lacks fault"),
        ("POST", "/faults", {"fault": "earthquake"}, "must be one of latency, drip"),
        ("POST", "/faults", {"fault": 5}, "fault must be a JSON object"),
        ("POST", "/faults", {"fault": {}}, "lacks kind"),
        ("POST", "/faults", {"fault": "latency"}, "lacks seconds"),
        ("POST", "/faults", {"fault": {"kind": "latency", "seconds": -1}}, "between 0 and"),
        ("POST", "/faults", {"fault": {"kind": "latency", "seconds": "1"}}, "must be a number"),
        ("POST", "/faults", {"fault": {"kind": "latency", "seconds": True}}, "must be a number"),
        ("POST", "/faults", {"fault": {"kind": "status", "status": 200}}, "between 400 and 599"),
        ("POST", "/faults", {"fault": {"kind": "status", "status": 500.5}}, "a whole number"),
        ("POST", "/faults", {"fault": {"kind": "status", "colour": 1}}, "unknown fields: colour"),
        ("POST", "/faults", {"fault": {"kind": "status", "store": "yes"}}, "true or false"),
        ("POST", "/faults", {"fault": {"kind": "drip", "part": "feet"}}, "one of body, headers"),
        ("POST", "/faults", {"fault": {"kind": "body", "shape": "round"}}, "one of malformed"),
        ("POST", "/faults", {"fault": {"kind": "body", "size": 10**12}}, "between 1 and"),
        (
            "POST",
            "/faults",
            {"fault": {"kind": "rate_limit", "retry_after": "1\r\nX: y"}},
            "control characters",
        ),
        (
            "POST",
            "/faults",
            {"fault": {"kind": "rate_limit", "retry_after": 1, "retry_after_date": 1}},
            "not both",
        ),
        ("POST", "/faults", {"fault": {"kind": "rate_limit", "retry_after": []}}, "number or a"),
        ("POST", "/faults", {"fault": {"kind": "headers", "headers": {"a": 1}}}, "of texts"),
        ("POST", "/faults", {"fault": "hang", "times": 0}, "between 1 and"),
        ("POST", "/faults", {"fault": "hang", "rate": 2}, "between 0 and 1"),
        ("POST", "/faults", {"fault": "hang", "per_key": 0}, "between 1 and"),
        ("POST", "/faults", {"fault": "hang", "match": {"port": "1"}}, "unknown fields: port"),
        ("POST", "/faults", {"fault": "hang", "match": []}, "must be a JSON object"),
        ("POST", "/faults", {"fault": "hang", "kinds": ["hang"]}, "unknown fields: kinds"),
        ("PUT", "/faults/mix", {"kinds": ["hang"]}, "lacks rate"),
        ("PUT", "/faults/mix", {"rate": 0.2}, "lacks kinds"),
        ("PUT", "/faults/mix", {"rate": 0.2, "kinds": []}, "at least one fault"),
        ("PUT", "/faults/mix", {"rate": 0.2, "kinds": "hang"}, "must be a list"),
        ("PUT", "/faults/mix", {"rate": 0.2, "kinds": ["hang"], "times": 5}, "unknown fields"),
        ("DELETE", "/faults", {"id": "x"}, "whole number"),
    ],
)
def test_bad_rules(
    api: Api, sandbox: Sandbox, method: str, path: str, document: dict[str, Any], reason: str
) -> None:
    """400 with the reason, and no rule."""
    refuse(api, method, path, document, reason)
    assert sandbox.faults() == {"rules": [], "mix": None}


def refuse(api: Api, method: str, path: str, document: dict[str, Any], reason: str) -> None:
    answer = api.send(method, f"/_control{path}", json.dumps(document))
    assert answer.status == 400
    assert reason in answer.json["error"]


def test_the_number_of_rules_is_bounded(api: Api, sandbox: Sandbox) -> None:
    """A loop that never clears is told so."""
    never = json.dumps({"fault": "hang", "match": {"path": "/never"}})
    for _ in range(1000):
        assert api.send("POST", "/_control/faults", never).status == 200
    assert len(sandbox.faults()["rules"]) == 1000
    refuse(api, "POST", "/faults", {"fault": "hang"}, "1000 rules already")
