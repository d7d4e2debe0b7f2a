"""A client of the API, and what it says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from api.scopes import Scope
from api.services import create_client
from sandbox.control import Sandbox
from tests.notifications.scripted import entry
from tests.outbound.scripted import Script

V1 = "/api/v1"
PAYMENT = {"amount": 2000, "currency": "usd"}

_keys = (f"key-{number}" for number in itertools.count(1))


@dataclass
class Caller:
    """Somebody with a key, who sends requests as the web server would hand them on."""

    key: str
    name: str = ""

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        **headers: str | None,
    ) -> HttpResponse:
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        sent: dict[str, str | None] = {"Authorization": f"Bearer {self.key}", **named(headers)}
        answer: Any = Client(raise_request_exception=False).generic(
            method,
            f"{V1}{path}",
            content,
            content_type=content_type if content else "",
            headers={name: value for name, value in sent.items() if value is not None},
        )
        return answer  # type: ignore[no-any-return]

    def get(self, path: str, **options: Any) -> HttpResponse:
        return self.send("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> HttpResponse:
        return self.send("POST", path, body, **options)

    def write(self, path: str, body: Any = None, **options: Any) -> HttpResponse:
        """A POST with a key of its own, unless one is given."""
        options.setdefault("idempotency_key", next(_keys))
        return self.send("POST", path, body, **options)


def named(headers: dict[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def caller(name: str, *scopes: str, rate: int = 100_000) -> Caller:
    return Caller(str(create_client(name=name, scopes=scopes, rate=rate)), name)


def problem(answer: HttpResponse, status: int) -> dict[str, Any]:
    """The problem that an answer is; every error must be one."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(answer.content)
    assert found["status"] == status
    assert found["type"] == "about:blank"
    assert found["request_id"] == answer["X-Request-ID"]
    assert {"title", "detail", "code"} <= found.keys()
    return found


def pointers(found: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in found["errors"]]


def document(answer: HttpResponse, status: int) -> dict[str, Any]:
    """What a good answer holds."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"].partition(";")[0] == "application/json"
    found: dict[str, Any] = json.loads(answer.content)
    return found


@pytest.fixture
def shop() -> Caller:
    """May do what a shop does."""
    return caller("shop", Scope.PAYMENTS_WRITE, Scope.PAYMENTS_READ)


@pytest.fixture
def desk() -> Caller:
    """May do everything."""
    return caller("desk", *Scope.values)


@pytest.fixture
def routes(settings: Settings) -> None:
    """A provider for messages of every kind, beside the one for payments."""
    settings.OUTBOUND_ADAPTERS = {**settings.OUTBOUND_ADAPTERS, "scripted": entry(Script())}
    settings.EMAIL_ROUTE = settings.SMS_ROUTE = settings.PUSH_ROUTE = ["scripted"]
    settings.DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"


@pytest.fixture(scope="session")
def running() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox, settings: Settings) -> Sandbox:
    """As just started, and the provider that the adapter calls."""
    running.reset()
    entry = settings.OUTBOUND_ADAPTERS["stripe"]
    settings.OUTBOUND_ADAPTERS = {
        "stripe": {
            **entry,
            "OPTIONS": {**entry["OPTIONS"], "API_BASE": running.url},
            "POLICY": {"connect_timeout": 0.5, "read_timeout": 1.0, "total_timeout": 1.5},
        }
    }
    return running
