"""Whatever goes wrong below /api/ is a problem, and what describes the API is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import InterfaceError, OperationalError
from django.test import Client
from pytest_django import Settings

from api.front import front
from api.openapi import access_of
from api.pages import document as described
from outbound import services as outbound_services
from outbound.errors import CircuitOpen, DeliveryError, PermanentError, RateLimited, TransientError
from outbound.models import OutboundCall
from sandbox.control import Sandbox
from tests.api.conftest import PAYMENT, Caller, document, problem

COMMITTED = Path(__file__).resolve().parents[2] / "docs/openapi.json"
OPERATIONS = [
    (method.upper(), path) for path, methods in described()["paths"].items() for method in methods
]

database = pytest.mark.django_db(transaction=True)


def bare(method: str, path: str, **headers: str) -> Any:
    return Client(raise_request_exception=False).generic(method, path, headers=headers)


@pytest.mark.parametrize(
    "path",
    [
        "/api", "/api/", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/calls",
        "/api/v1/calls/", "/api/v1/calls/a/b/c", "/api/v1/%00", "/api/v1/\u00e9", "/api//v1/calls",
        "/api/v1/calls+", "/api/v1/%63alls%2F", "/api/v1/calls%0A", "/api/v1/calls;a=b",
        "/api/v1/%ff", "/api/v1/../v1/calls", "/api/v1/CALLS", "/api/v1/refunds%2F",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_nothing_there(method: str, path: str) -> None:
    """404, however the address is written."""
    assert problem(bare(method, path), 404)["code"] == "not_found"


@pytest.mark.parametrize("path", sorted({path for _, path in OPERATIONS}))
def test_wrong_methods(path: str) -> None:
    """405 with the methods that there are."""
    right = {method for method, at in OPERATIONS if at == path}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} - right:
        answer = bare(method, path)
        assert problem(answer, 405)["code"] == "method_not_allowed"
        assert set(answer["Allow"].split(", ")) == right
    answer = bare("HEAD", path)
    assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")
    assert set(answer["Allow"].split(", ")) == right


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/api/v1/docs"])
def test_what_describes_it_is_only_read(path: str) -> None:
    """405 for all else."""
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = bare(method, path)
        assert problem(answer, 405)["code"] == "method_not_allowed"
        assert answer["Allow"] == "GET, HEAD"


def test_nothing_is_kept_on_the_way() -> None:
    """No answer may be stored by a proxy, be it a refusal."""
    for path in ("/api/v1/calls", "/api/v1/nothing", "/api/v1/openapi.json"):
        assert bare("GET", path)["Cache-Control"] == "no-store"


def test_a_wrong_host() -> None:
    """Django's own refusals are problems too."""
    problem(bare("GET", "/api/v1/calls", host="evil.example"), 400)


@database
def test_what_nobody_foresaw(
    desk: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 with the request id, and nothing else about it; the log has the traceback."""

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(outbound_services, "find_call", fail)
    answer = desk.get("/calls/1", x_request_id="trace-7")
    found = problem(answer, 500)
    assert found["request_id"] == "trace-7"
    assert b"secret" not in answer.content
    assert found.keys() == {"type", "title", "status", "detail", "code", "request_id"}
    logged = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert any(line.get("exc_info") for line in logged)


def test_what_fails_outside_the_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same when it is not an operation that fails."""

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("django.middleware.security.SecurityMiddleware.process_request", fail)
    answer = bare("GET", "/api/v1/calls")
    problem(answer, 500)
    assert b"secret" not in answer.content


def test_in_debug_too(settings: Settings) -> None:
    """Django's yellow pages are for people."""
    settings.DEBUG = True
    problem(bare("GET", "/api/v1/nothing"), 404)


@database
@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("gone")])
@pytest.mark.parametrize("place", ["api.gate.identify", "outbound.services.find_call"])
def test_the_database_is_away(
    desk: Caller, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    """503 with Retry-After, wherever it is noticed."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(place, fail)
    answer = desk.get("/calls/1")
    assert problem(answer, 503)["code"] == "unavailable"
    assert int(answer["Retry-After"]) >= 1


def test_the_database_is_away_for_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    """They ask it who looks at them: 503 as everywhere here."""

    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr("django.contrib.auth.middleware.get_user", fail)
    answer = bare("GET", "/api/v1/docs")
    assert problem(answer, 503)["code"] == "unavailable"
    assert int(answer["Retry-After"]) >= 1


def test_the_request_id_is_made_or_taken() -> None:
    """The caller's when it is usable; else one of ours."""
    assert problem(bare("GET", "/api/v1/x", x_request_id="mine"), 404)["request_id"] == "mine"
    assert len(problem(bare("GET", "/api/v1/x", x_request_id="a b"), 404)["request_id"]) == 32


@database
def test_reading_at_the_provider(shop: Caller, sandbox: Sandbox) -> None:
    """The provider's object as it is; 404 for what it does not know, and for what is no id."""
    made = document(shop.write("/payment-intents", PAYMENT, prefer="wait=9"), 201)
    path = f"/payment-intents/{made['provider_reference']}"
    assert document(shop.get(path), 200)["amount"] == 2000
    for name in ("pi_nobody", "x", "pi_..", "%00", "pi_%00", "é", "pi_" + "x" * 300):
        problem(shop.get(f"/payment-intents/{name}"), 404)


@database
@pytest.mark.parametrize(
    "error, status, again",
    [
        (CircuitOpen("open", http_status=503, retry_after=9), 503, "9"),
        (RateLimited("slow down", http_status=429, retry_after=0.2), 429, "1"),
        (RateLimited("slow down", http_status=429), 429, "5"),
        (TransientError("no answer", http_status=504), 504, None),
        (TransientError("nonsense"), 502, None),
        (PermanentError("the key is wrong", http_status=500), 500, None),
        (PermanentError("wrong", http_status=400, code="c", param="p"), 400, None),
    ],
)
def test_reads_that_fail(
    shop: Caller,
    monkeypatch: pytest.MonkeyPatch,
    error: DeliveryError,
    status: int,
    again: str | None,
) -> None:
    """503 for an open circuit, 429, 504 for a time-out, 502 for other trouble."""

    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr("payments.services.perform_read", fail)
    answer = shop.get("/payment-intents/pi_1")
    found = problem(answer, status)
    assert (found["detail"], found.get("param")) == (error.message, error.param or None)
    assert answer.get("Retry-After") == again
    assert OutboundCall.objects.count() == 0


def test_the_committed_description_is_current(tmp_path: Path) -> None:
    """`./dev manage export_openapi --output docs/openapi.json` writes it."""
    assert json.loads(COMMITTED.read_text()) == described()
    call_command("export_openapi", check=COMMITTED)
    stale = tmp_path / "openapi.json"
    with pytest.raises(CommandError):
        call_command("export_openapi", check=stale)
    call_command("export_openapi", output=stale)
    assert stale.read_text() == COMMITTED.read_text()
    stale.write_text("{}")
    with pytest.raises(CommandError, match="not current"):
        call_command("export_openapi", check=stale)


def test_it_is_served(client: Client) -> None:
    """To everybody, as OpenAPI 3.1."""
    answer = client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.json() == described()
    assert answer.json()["openapi"].startswith("3.1")
    problem(bare("POST", "/api/v1/openapi.json"), 405)


def test_every_operation_declares_its_errors() -> None:
    """And none of them without a body of the right kind."""
    for methods in described()["paths"].values():
        for method, details in methods.items():
            declared = set(details["responses"])
            assert {"400", "401", "403", "413", "415", "429", "500", "503"} <= declared
            assert ("409" in declared and "422" in declared) or method == "get"
            for status, answer in details["responses"].items():
                kind = "application/problem+json" if status >= "400" else "application/json"
                assert list(answer["content"]) == [kind]


def test_every_operation_asks_for_a_key() -> None:
    """Nothing is open by mistake."""
    for _, router in front._routers:
        for view in router.path_operations.values():
            assert all(access_of(operation) for operation in view.operations)
    for methods in described()["paths"].values():
        assert all(details["security"] for details in methods.values())


@database
def test_the_docs_are_for_staff(client: Client, settings: Settings) -> None:
    """A page without scripts, made of the description; in DEBUG for everybody."""
    assert client.get("/api/v1/docs").status_code == 302
    client.force_login(User.objects.create_user("somebody"))
    assert client.get("/api/v1/docs").status_code == 302
    client.force_login(User.objects.create_user("jo", is_staff=True))
    page = client.get("/api/v1/docs")
    text = page.content.decode()
    assert all(path in text for _, path in OPERATIONS)
    assert "<script" not in text
    assert "style=" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in page["Content-Security-Policy"]
    client.logout()
    settings.DEBUG = True
    assert client.get("/api/v1/docs").status_code == 200
