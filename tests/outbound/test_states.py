"""Every move from every status, and what the database itself does not let pass."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from outbound import clock
from outbound.errors import IllegalMove
from outbound.models import CallAttempt, OutboundCall
from outbound.states import (
    FINAL,
    MOVES,
    SETTLED,
    WAITING,
    AttemptOutcome,
    AttemptTrigger,
    CallStatus,
    sources_of,
)
from tests.outbound.rows import call_in, reread
from tests.outbound.scripted import Script

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

S = CallStatus

LEGAL = {
    (S.PENDING, S.PENDING),  # parked
    (S.PENDING, S.RUNNING),
    (S.PENDING, S.FAILED),  # too old before its first attempt
    (S.PENDING, S.CANCELLED),
    (S.RUNNING, S.SUCCEEDED),
    (S.RUNNING, S.RETRYING),
    (S.RUNNING, S.UNKNOWN),
    (S.RUNNING, S.FAILED),
    (S.RETRYING, S.RETRYING),  # parked
    (S.RETRYING, S.RUNNING),
    (S.RETRYING, S.UNKNOWN),  # too old, or cancelled, and an attempt may have worked
    (S.RETRYING, S.FAILED),
    (S.RETRYING, S.CANCELLED),
    (S.UNKNOWN, S.SUCCEEDED),
    (S.UNKNOWN, S.FAILED),
    (S.UNKNOWN, S.RETRYING),
    (S.FAILED, S.PENDING),
}


PAIRS = list(itertools.product(CallStatus, CallStatus))


def lease(status: CallStatus) -> dict[str, Any]:
    """The columns that a RUNNING row must have, and no other may."""
    if status != S.RUNNING:
        return {"lease_token": None, "lease_expires_at": None}
    return {"lease_token": uuid.uuid4(), "lease_expires_at": clock.now()}


@pytest.mark.parametrize("source,target", PAIRS)
def test_every_pair(source: CallStatus, target: CallStatus, script: Script) -> None:
    """A legal move moves the row; any other raises and leaves it as it is."""
    call = call_in(source, script)
    rows = OutboundCall.objects.filter(pk=call.pk)
    assert call.can_move_to(target) == ((source, target) in LEGAL)
    if (source, target) in LEGAL:
        assert rows.move_to(target, sources={source}, now=clock.now(), **lease(target)) == 1
        assert reread(call).status == target
    else:
        with pytest.raises(IllegalMove, match=f"{source} to {target}"):
            rows.move_to(target, sources={source}, now=clock.now(), **lease(target))
        assert reread(call).status == source


@pytest.mark.parametrize("source,target", PAIRS)
def test_a_row_that_somebody_else_has_moved(
    source: CallStatus, target: CallStatus, script: Script
) -> None:
    """Moving from the statuses that lead to the target touches no row in another one."""
    call = call_in(source, script)
    if not sources_of(target):
        pytest.fail(f"nothing leads to {target}")
    moved = OutboundCall.objects.filter(pk=call.pk).move_to(
        target, now=clock.now(), **lease(target)
    )
    assert moved == ((source, target) in LEGAL)
    assert reread(call).status == (target if moved else source)


def test_moving_from_nowhere(script: Script) -> None:
    """An empty set of sources is a mistake of the caller, not a move of no row."""
    call = call_in(S.PENDING, script)
    with pytest.raises(IllegalMove, match="nowhere"):
        OutboundCall.objects.filter(pk=call.pk).move_to(S.RUNNING, sources=set(), now=clock.now())


@pytest.mark.parametrize("status", ["", "done", "PENDING", "pending "])
def test_unknown_statuses(status: str, script: Script) -> None:
    """The database rejects a status that nobody knows."""
    call = call_in(S.PENDING, script)
    with pytest.raises(IntegrityError), transaction.atomic():
        OutboundCall.objects.filter(pk=call.pk).update(status=status)
    with pytest.raises(IntegrityError), transaction.atomic():
        CallAttempt.objects.create(
            call=call, number=9, trigger=AttemptTrigger.AUTO, started_at=clock.now(), outcome=status
        )


@pytest.mark.parametrize("status", list(CallStatus))
def test_lease_and_status_go_together(status: CallStatus, script: Script) -> None:
    """The database rejects a RUNNING row without a lease, and a lease on any other."""
    call = call_in(status, script)
    token = None if status == S.RUNNING else uuid.uuid4()
    with pytest.raises(IntegrityError), transaction.atomic():
        OutboundCall.objects.filter(pk=call.pk).update(lease_token=token)


def test_two_open_attempts(script: Script) -> None:
    """The database rejects a second attempt while one is in flight."""
    call = call_in(S.RUNNING, script)
    with pytest.raises(IntegrityError), transaction.atomic():
        CallAttempt.objects.create(
            call=call, number=2, trigger=AttemptTrigger.AUTO, started_at=clock.now()
        )
    CallAttempt.objects.filter(call=call).finish(AttemptOutcome.CRASHED, now=clock.now())
    CallAttempt.objects.create(
        call=call, number=2, trigger=AttemptTrigger.AUTO, started_at=clock.now()
    )


def test_attempt_numbers_are_given_once(script: Script) -> None:
    """Two attempts of a call never share a number."""
    call = call_in(S.SUCCEEDED, script)
    with pytest.raises(IntegrityError), transaction.atomic():
        CallAttempt.objects.create(
            call=call, number=1, trigger=AttemptTrigger.AUTO, started_at=clock.now()
        )


def test_the_sets_agree_with_the_table() -> None:
    """WAITING calls can be claimed; FINAL ones go nowhere by themselves; only a person revives."""
    assert set(MOVES) == set(CallStatus)
    assert sources_of(S.RUNNING) == WAITING
    assert SETTLED - {S.UNKNOWN} == FINAL
    assert {source for source, target in LEGAL if source in FINAL} == {S.FAILED}
