"""The systems that other tests break: they work, they break as told, and they say what they did."""

from __future__ import annotations

import http.client
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.harness import Refused, System, row
from tests.house.processes import is_running

ENQUEUE = "outbound.services.enqueue_call"
SIGKILLED = 128 + 9

pytestmark = pytest.mark.faults


@pytest.fixture(
    params=[pytest.param("system", marks=pytest.mark.services), "embedded_system"],
    ids=["production", "embedded"],
)
def either_system(request: pytest.FixtureRequest) -> System:
    chosen: System = request.getfixturevalue(request.param)
    return chosen


def create_customer(system: System, number: int = 1) -> str:
    """Ask for a customer; the id of the call."""
    email = f"customer{number}@example.com"
    customer: dict[str, str] = system.call("payments.services.create_customer", {"email": email})
    return customer["call_id"]


def start_everything(system: System) -> None:
    system.start_web()
    system.start_worker()
    if system.broker:
        system.start_beat()


def test_the_main_job(either_system: System) -> None:
    """Calls go out, events come back, and the books agree."""
    system = either_system
    assert system.manage("check").returncode == 0
    start_everything(system)
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda number: create_customer(system, number), range(8)))
    system.wait_for_rest()
    system.provider.wait_for_deliveries()
    system.wait_for_rest()
    books = system.check_invariants()
    assert sorted(call.id for call in books.calls) == sorted(ids)
    assert {call.status for call in books.calls} == {"succeeded"}
    assert len(books.effects) == 8
    assert {event.event_type for event in books.events} == {"customer.created"}


def test_a_killed_worker(embedded_system: System) -> None:
    """SIGKILL with a call in flight: it stays as it is until the worker is started again."""
    system = embedded_system
    start_everything(system)
    system.provider.hold_webhooks()  # its event would settle the call
    system.provider.add_fault("latency", seconds=2)
    create_customer(system)
    system.wait_until(system.provider.requests, what="the call is at the provider")
    system.kill("worker")
    assert system.process("worker").status == SIGKILLED
    assert system.rows.calls()[0].status == "running"
    system.start("worker")
    system.wait_for_rest()
    books = system.check_invariants()
    assert [attempt.outcome for attempt in books.attempts] == ["crashed", "succeeded"]


def test_frozen_thawed_stopped(embedded_system: System) -> None:
    """A frozen web process does not answer, a thawed one does, a stopped one is gone, and what was
    stopped can be started again at the same address."""
    system = embedded_system
    system.start_web()
    system.freeze("web")
    assert not answers(system)
    system.thaw("web")
    assert answers(system)
    assert system.stop("web") == 0
    assert not is_running(system.process("web").pid)
    system.start("web")
    assert answers(system)


def answers(system: System) -> bool:
    address = urlsplit(system.web_url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=1)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_the_desk(embedded_system: System) -> None:
    """Functions of the project can be called with rows and return rows; their errors come back by
    name; what an error interrupted is rolled back."""
    system = embedded_system
    call_id = create_customer(system)
    found = system.call("outbound.services.find_call", {"call_id": call_id})
    assert (found["id"], found["status"]) == (call_id, "pending")
    call = {"call": row("outbound.OutboundCall", call_id), "wait": 0.1}
    assert system.call("outbound.services.deliver_now", call, atomic=False)["attempts"] == 1
    with pytest.raises(Refused) as refused:
        system.call(ENQUEUE, {"adapter": "acme", "operation": "x", "payload": {}})
    assert refused.value.kind == "UnknownAdapter"
    assert len(system.rows.calls()) == 1


def test_the_books_must_agree(embedded_system: System) -> None:
    """An effect that no row asked for is found."""
    system = embedded_system
    address = urlsplit(system.provider.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    connection.request(
        "POST",
        "/v1/customers",
        "email=stranger%40example.com",
        {
            "Authorization": f"Bearer {system.environment['STRIPE_SECRET_KEY']}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Idempotency-Key": "nobody's",
        },
    )
    assert connection.getresponse().status == 200
    connection.close()
    with pytest.raises(AssertionError, match=r"1: customer.created .* belongs to no call"):
        system.check_invariants()


def test_a_failure_shows_what_the_processes_said(
    embedded_system: System, request: pytest.FixtureRequest
) -> None:
    """The report of a test that failed ends with the last lines of its processes."""
    embedded_system.start_desk()
    embedded_system.process("desk").log.write_text("a line of the desk\n")
    failed = pytest.CallInfo.from_call(lambda: pytest.fail("on purpose"), when="call")
    report = request.node.ihook.pytest_runtest_makereport(item=request.node, call=failed)
    assert report.failed
    assert ("processes", "--- desk\na line of the desk") in report.sections


def test_a_process_that_does_not_start_says_why(embedded_system: System) -> None:
    """At once, with what it printed."""
    embedded_system.environment["SECRET_KEY"] = ""
    with pytest.raises(AssertionError, match=r"(?s)worker ended with .*SECRET_KEY is not set"):
        embedded_system.start_worker()


def test_the_environment_is_the_systems_own(
    embedded_system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process has of the project's variables does not reach the system."""
    monkeypatch.setenv("SENTRY_DSN", "http://key@127.0.0.1/1")
    assert "SENTRY_DSN" not in embedded_system.environment
    assert embedded_system.environment["DATABASE_URL"] != os.environ["DATABASE_URL"]
    assert Path(embedded_system.environment["STATE_DIR"]).is_relative_to(embedded_system.folder)
