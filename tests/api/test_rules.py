"""What holds for every operation: who may come in, and what a write promises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api import services
from api.models import IdempotentRequest
from api.scopes import Scope
from outbound.models import OutboundCall
from payments.models import Payment
from tests.api.conftest import PAYMENT, Caller, caller, document, pointers, problem
from tests.api.doors import DESCRIBED, OPERATIONS, POSTS, SEVERAL_CALLS, WRITES, fields_of, filled

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("routes")]

MEMBERS = {
    "id", "adapter", "operation", "status", "attempts", "due_at", "reference",
    "provider_reference", "result", "error", "created_at", "finished_at",
}  # fmt: skip
NO_KEYS = ["", "a b", "\u00e9", "a\x7fb", "a\tb", "a\x00b", "\x1f", "x" * 256]

operations = pytest.mark.parametrize("method, path", OPERATIONS)
writes = pytest.mark.parametrize("path", WRITES)


def test_no_operation_is_missing_here() -> None:
    """Each POST is in one of the tables; those with a key are the writes."""
    posts = {path for method, path in OPERATIONS if method == "POST"}
    assert posts == POSTS.keys()
    for path in posts:
        names = {p["name"] for p in DESCRIBED[path]["post"].get("parameters", [])}
        assert ("Idempotency-Key" in names) == (path in WRITES), path


@pytest.fixture
def address(desk: Caller) -> Any:
    """A write's address, at which there is something."""

    def fill(path: str) -> str:
        if "{payment_intent}" in path:
            desk.write("/payment-intents", PAYMENT)
            Payment.objects.update(provider_id="pi_1")
        return filled(path, payment_intent="pi_1")

    return fill


@operations
def test_a_key_that_opens_nothing(desk: Caller, method: str, path: str) -> None:
    """No, malformed, unknown, revoked or disabled: 401 each, and nobody can tell them apart."""
    gone, revoked = (caller(name, *Scope.values).key for name in ("gone", "revoked"))
    services.disable_client(name="gone")
    services.rotate_client(name="revoked")
    services.end_rotation(name="revoked")
    unknown = f"{desk.key.partition('.')[0]}.{'x' * 43}"
    said = set()
    for given in (None, "", "Bearer ", *(f"Bearer {key}" for key in (unknown, gone, revoked))):
        answer = desk.send(method, filled(path), POSTS.get(path), Authorization=given)
        found = problem(answer, 401)
        assert answer["WWW-Authenticate"] == "Bearer"
        said.add(json.dumps({**found, "request_id": ""}))
    assert len(said) == 1


@operations
def test_the_rate_is_the_clients(method: str, path: str) -> None:
    """Used up is used up, whatever is asked for: 429, and when to come again."""
    slow = caller("slow", *Scope.values, rate=1)
    document(slow.get("/calls"), 200)
    answer = slow.send(method, filled(path), POSTS.get(path))
    assert problem(answer, 429)["code"] == "rate_limited"
    assert 1 <= int(answer["Retry-After"]) <= 60


@writes
def test_a_write(desk: Caller, address: Any, path: str) -> None:
    """202 with the call object and its address; asked again the same, marked; for another body or
    at another address 422."""
    at, body = address(path), WRITES[path]
    first = desk.write(at, body, idempotency_key="k")
    said = document(first, 202)
    for call in said["calls"] if path in SEVERAL_CALLS else [said]:
        assert call.keys() == MEMBERS
        assert (call["status"], call["attempts"]) == ("pending", 0)
        assert document(desk.get(f"/calls/{call['id']}"), 200) == call
    if path not in SEVERAL_CALLS:
        assert first["Location"] == f"/api/v1/calls/{said['id']}"
    assert "Idempotent-Replayed" not in first
    calls = OutboundCall.objects.count()

    spelled = json.dumps(dict(reversed(body.items())), indent=3).encode()
    again = desk.write(at, raw=spelled, idempotency_key="k")
    assert document(again, 202) == said
    assert again["Idempotent-Replayed"] == "true"
    assert again.get("Location") == first.get("Location")
    other = {**body, "reference": "another"} if "reference" in fields_of(path) else {}
    elsewhere = next(p for p in WRITES if p != path and "{" not in p)
    for there, asked in ((at, other), (elsewhere, WRITES[elsewhere])):
        found = problem(desk.write(there, asked, idempotency_key="k"), 422)
        assert found["code"] == "idempotency_key_reused"
    assert OutboundCall.objects.count() == calls


@writes
def test_a_write_without_a_key(desk: Caller, address: Any, path: str) -> None:
    """400: 1 to 255 visible ASCII characters, or nothing is looked at; the body least of all."""
    at = address(path)
    before = IdempotentRequest.objects.count()
    for key in [None, *NO_KEYS]:
        given = {} if key is None else {"idempotency_key": key}
        code = "idempotency_key_malformed" if key else "idempotency_key_missing"
        for body in (WRITES[path], {"nonsense": 1}):
            assert problem(desk.post(at, body, **given), 400)["code"] == code
    assert IdempotentRequest.objects.count() == before
    document(desk.write(at, WRITES[path], idempotency_key="~" * 255), 202)


@writes
def test_a_refused_write_leaves_nothing(desk: Caller, address: Any, path: str) -> None:
    """After each refusal the same key may carry what is right."""
    at, body = address(path), WRITES[path]
    before = OutboundCall.objects.count(), IdempotentRequest.objects.count()
    key: dict[str, Any] = {"idempotency_key": "k"}
    assert pointers(problem(desk.write(at, {**body, "nonsense": 1}, **key), 422)) == ["/nonsense"]
    problem(desk.write(at, raw=b"{", **key), 400)
    problem(desk.write(at, body, content_type="text/plain", **key), 415)
    problem(desk.write(at, raw=b" " * 1_048_577, **key), 413)
    problem(desk.write(at, body, Authorization=None, **key), 401)
    problem(caller("weak").write(at, body, **key), 403)
    problem(desk.send("PUT", at, body, **key), 405)
    assert (OutboundCall.objects.count(), IdempotentRequest.objects.count()) == before
    assert "Idempotent-Replayed" not in desk.write(at, body, **key)
    assert OutboundCall.objects.count() == before[0] + 1


@pytest.mark.parametrize("path", [path for path in POSTS if path not in WRITES])
def test_what_a_status_guards_needs_no_key(desk: Caller, path: str) -> None:
    """An Idempotency-Key is not asked for, and a nonsensical one is not looked at."""
    for given in ({}, {"idempotency_key": "a b"}):
        problem(desk.post(filled(path), POSTS[path], **given), 404)
