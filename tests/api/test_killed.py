"""Real processes: a web process that dies while it waits for a provider, a caller that hangs up."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox.control import Sandbox
from tests.api.conftest import PAYMENT
from tests.faults.conftest import embedded_system, migrated_file  # noqa: F401 - fixtures
from tests.faults.harness import System

pytestmark = pytest.mark.faults


@pytest.fixture
def sandbox() -> Any:
    """A provider of this test's own."""
    with Sandbox.start() as sandbox:
        yield sandbox


def post(system: System, key: str, *, seconds: float = 30) -> tuple[int, dict[str, Any], Any]:
    """Ask for a payment and wait for its outcome: status, document, headers."""
    address = urlsplit(system.web_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=seconds)
    try:
        connection.request(
            "POST",
            "/api/v1/payment-intents",
            json.dumps(PAYMENT),
            {
                "Authorization": f"Bearer {key}",
                "Content-Type": "application/json",
                "Idempotency-Key": "order-1",
                "Prefer": "wait=3",
            },
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


def key_of(system: System) -> str:
    made = system.manage("create_api_client", "shop", "--scope", "payments:write")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def running(system: System) -> bool:
    return any(call.status == "running" for call in system.rows.calls())


def test_the_web_process_dies_while_it_waits(embedded_system: System) -> None:  # noqa: F811
    """The call goes on in a worker with the same key, and has one effect; the same request, made
    again, tells of that call."""
    system = embedded_system
    key = key_of(system)
    system.start_web()
    system.provider.add_fault("hang", effect=True, method="POST")

    def ask() -> None:
        with suppress(OSError, http.client.HTTPException):
            post(system, key)

    waiting = threading.Thread(target=ask)
    waiting.start()
    system.wait_until(lambda: running(system), what="the call is being made")
    system.kill("web")
    waiting.join()
    system.start("web")
    system.start_worker()
    system.wait_for_rest()
    answers: list[tuple[int, dict[str, Any], Any]] = []

    def answered() -> bool:
        answers.append(post(system, key))
        return answers[-1][0] != 409

    system.wait_until(answered, what="the key answers again")
    status, call, headers = answers[-1]
    assert (status, call["status"], headers["Idempotent-Replayed"]) == (201, "succeeded", "true")
    assert len(system.rows.calls()) == 1
    system.check_invariants()


def test_the_caller_hangs_up(embedded_system: System) -> None:  # noqa: F811
    """Its call is made all the same, once, and can be asked for."""
    system = embedded_system
    key = key_of(system)
    system.start_web()
    system.provider.add_fault("drip", seconds=0.2)
    with suppress(TimeoutError):
        post(system, key, seconds=0.3)
    system.start_worker()
    system.wait_until(system.rows.calls, what="the call is stored")
    system.wait_for_rest()
    system.wait_until(lambda: post(system, key)[0] != 409, what="the key answers")
    _, call, _ = post(system, key)
    assert call["status"] == "succeeded"
    assert len(system.rows.calls()) == 1
    system.check_invariants()
