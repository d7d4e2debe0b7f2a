"""Telling the tenant that a call has to wait, so that it can ask somebody else."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.db import IntegrityError

from outbound.errors import CircuitOpen, PermanentError, RateLimited, TransientError
from outbound.models import CallNote, OutboundCall
from outbound.services import cancel_call, operate_circuit
from outbound.states import CallStatus, CircuitMode
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, enqueue, reread
from tests.outbound.scripted import Script, scripted_settings

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def told(hooks: Any, script: Script) -> list[tuple[str, str, str]]:
    """What the hook of `create` was told: status, kind of error, code."""
    seen: list[tuple[str, str, str]] = []
    hooks(
        "create",
        postponed=lambda call: seen.append((call.status, call.error_kind, call.error_code)),
    )
    return seen


def test_parked_by_an_open_circuit(told: list[Any], script: Script) -> None:
    """The circuit's refusal reaches the hook before any attempt was made."""
    call = attempt_under_an_open_circuit()
    assert told == [(CallStatus.PENDING, "circuit_open", call.circuit)]
    assert [seen.operation for seen in script.seen] == ["charge"]


def attempt_under_an_open_circuit() -> OutboundCall:
    attempt(enqueue("charge"))  # the circuit is known from here on
    call = enqueue()
    operate_circuit(name=call.circuit, mode=CircuitMode.FORCED_OPEN, reason="maintenance")
    return attempt(call)


def test_parked_by_a_limit(told: list[Any], script: Script, settings: LazySettings) -> None:
    """So does a limit's."""
    settings.OUTBOUND_ADAPTERS = scripted_settings(script, LIMITS={"rate": 0.1, "burst": 1})
    attempt(enqueue())
    attempt(enqueue())
    assert [kind for _, kind, _ in told] == ["rate_limited"]


@pytest.mark.parametrize(
    "error,kind,code",
    [
        (TransientError("away", code="away"), "transient_error", "away"),
        (RateLimited("tomorrow", code="quota", retry_after=600), "rate_limited", "quota"),
    ],
)
def test_to_be_tried_again(
    told: list[Any], script: Script, error: Exception, kind: str, code: str
) -> None:
    """An attempt that failed for the moment reaches it with the error on the row."""
    script.then(error)
    attempt(enqueue())
    assert told == [(CallStatus.RETRYING, kind, code)]


@pytest.mark.parametrize("error", [None, PermanentError("no")])
def test_an_outcome_is_no_delay(told: list[Any], script: Script, error: Exception | None) -> None:
    """What has an outcome is told by the other hook."""
    if error is not None:
        script.then(error)
    attempt(enqueue())
    assert told == []


def test_it_may_stop_the_call(hooks: Any, script: Script, time: VirtualTime) -> None:
    """A hook that cancels the call ends it: nothing of it is sent any more."""
    hooks("create", postponed=lambda call: cancel_call(call_id=call.pk, reason="another way"))
    script.then(RateLimited("tomorrow", retry_after=60))
    call = attempt(enqueue())
    assert call.status == CallStatus.CANCELLED
    time.passes(hours=1)
    assert attempt(call).status == CallStatus.CANCELLED
    assert len(script.seen) == 1


@pytest.mark.parametrize("bug", [KeyError("a bug"), IntegrityError("a query")])
def test_a_hook_that_fails(hooks: Any, script: Script, bug: Exception) -> None:
    """Its own effects are undone; the call goes on as planned."""

    def failing(call: OutboundCall) -> None:
        CallNote.objects.create(call=call, at=call.updated_at, action="told")
        raise bug

    hooks("create", postponed=failing)
    script.then(TransientError("away"))
    call = attempt(enqueue())
    assert call.status == CallStatus.RETRYING
    assert not CallNote.objects.exists()
    assert reread(call).error_kind == "transient_error"


def test_an_open_circuit_is_told_of_once_for_each_parking(told: list[Any], script: Script) -> None:
    """A hint that finds the call parked already tells nothing twice."""
    attempt(attempt_under_an_open_circuit())
    assert [kind for _, kind, _ in told] == [CircuitOpen("x").kind]
