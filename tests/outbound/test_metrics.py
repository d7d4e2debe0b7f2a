"""What is counted for Prometheus: each thing once, under names that say nothing of content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from outbound import clock
from outbound.circuits import change
from outbound.errors import PermanentError, RateLimited
from outbound.models import Circuit
from outbound.services import operate_circuit
from outbound.states import CallStatus, CircuitMode, CircuitState
from outbound.sweep import sweep
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, call_in, enqueue
from tests.outbound.scripted import Script

pytestmark = pytest.mark.django_db

S = CallStatus
CREATE = {"adapter": "scripted", "operation": "create"}


class Counted:
    """How much a counter has grown since it was first asked for."""

    def __init__(self) -> None:
        self.before: dict[Any, float] = {}

    def __call__(self, name: str, **labels: str) -> float:
        now = REGISTRY.get_sample_value(f"holdfast_{name}", labels) or 0
        return now - self.before.setdefault((name, *sorted(labels.items())), now)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.mark.parametrize(
    "status,outcome",
    [(S.RETRYING, "transient"), (S.UNKNOWN, "unknown"), (S.FAILED, "permanent")],
)
def test_attempts(script: Script, counted: Counted, status: CallStatus, outcome: str) -> None:
    """By outcome, and how long each took."""
    watched = [
        ("call_attempts_total", {**CREATE, "outcome": outcome}),
        ("call_attempt_seconds_count", CREATE),
    ]
    for name, labels in watched:
        counted(name, **labels)
    call_in(status, script)
    assert [counted(name, **labels) for name, labels in watched] == [1, 1]


def test_retries(script: Script, counted: Counted, time: VirtualTime) -> None:
    """Not the first attempt of a call."""
    counted("call_retries_total", **CREATE)
    call = call_in(S.RETRYING, script)
    assert counted("call_retries_total", **CREATE) == 0
    time.passes(hours=1)
    script.then(PermanentError("declined"))
    attempt(call)
    assert counted("call_retries_total", **CREATE) == 1


def test_a_crash_is_an_outcome(script: Script, counted: Counted, time: VirtualTime) -> None:
    """Counted by whoever finds it."""
    labels = {**CREATE, "outcome": "crashed"}
    counted("call_attempts_total", **labels)
    call_in(S.RUNNING, script)
    time.passes(seconds=30)
    sweep()
    assert counted("call_attempts_total", **labels) == 1


def test_hooks_that_fail(script: Script, counted: Counted, hooks: Callable[..., None]) -> None:
    counted("call_hook_failures_total", **CREATE)
    hooks("create", settled=lambda call: 1 / 0)
    call_in(S.FAILED, script)
    assert counted("call_hook_failures_total", **CREATE) == 1


def test_parks(script: Script, counted: Counted) -> None:
    """Each call that has to wait, and what for."""
    parked = {"adapter": "scripted", "why": "circuit_open"}
    counted("call_parks_total", **parked)
    operate_circuit(name=circuit(script).pk, mode=CircuitMode.FORCED_OPEN, reason="x")
    attempt(enqueue())
    assert counted("call_parks_total", **parked) == 1


def circuit(script: Script) -> Circuit:
    """The scripted adapter's, which the first call through it makes."""
    call = call_in(S.FAILED, script)
    return Circuit.objects.get(pk=call.circuit)


def test_transitions(
    script: Script, counted: Counted, django_capture_on_commit_callbacks: Any
) -> None:
    """Of the state: an operator's word about the mode is none."""
    row = circuit(script)
    opened = {"circuit": row.pk, "state": "open"}
    counted("circuit_transitions_total", **opened)
    with django_capture_on_commit_callbacks(execute=True):
        assert change(row, CircuitState.OPEN, now=clock.now(), why="x")
    row.refresh_from_db()
    with django_capture_on_commit_callbacks(execute=True):
        operate_circuit(name=row.pk, mode=CircuitMode.OBSERVE, reason="x")
    assert counted("circuit_transitions_total", **opened) == 1


def test_what_the_provider_holds_back(script: Script, counted: Counted) -> None:
    labels = {**CREATE, "outcome": "rate_limited"}
    counted("call_attempts_total", **labels)
    script.answers.clear()
    script.then(RateLimited("later"))
    attempt(enqueue())
    assert counted("call_attempts_total", **labels) == 1
