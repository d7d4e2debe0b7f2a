"""A call is taken by one statement, written by hand; it takes what the sets of calls say may go."""

from __future__ import annotations

import itertools
import uuid
from datetime import datetime, timedelta

import pytest
from django.db.models import Exists, OuterRef

from outbound.errors import IllegalMove
from outbound.models import Circuit, OutboundCall
from outbound.states import CallStatus, CircuitMode, CircuitState
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import enqueue, reread
from tests.outbound.scripted import Script

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NEAR = [timedelta(seconds=seconds) for seconds in (-1, 0, 1)]
LEASE = timedelta(seconds=30)


def take(call: OutboundCall, now: datetime, *, probe: bool = False) -> bool:
    token = uuid.uuid4()
    return call.take(
        now=now, latest=now, token=token, lease=LEASE, key_lives=timedelta(hours=1), probe=probe
    )


def put(call: OutboundCall, **columns: object) -> None:
    OutboundCall.objects.filter(pk=call.pk).update(**columns)


@pytest.mark.parametrize("status", CallStatus)
def test_ready(script: Script, time: VirtualTime, status: CallStatus) -> None:
    """In each status, before, at and after each of its times."""
    call, now = enqueue(), time.now
    token = uuid.uuid4() if status == CallStatus.RUNNING else None
    for due, ends, key in itertools.product(NEAR, NEAR, [None, *NEAR]):
        put(
            call,
            status=status,
            lease_token=token,
            attempts=0,
            due_at=now + due,
            deadline_at=now + ends,
            key_expires_at=None if key is None else now + key,
        )
        ready = OutboundCall.objects.ready(now).filter(pk=call.pk).exists()
        assert take(call, now) == ready, (due, ends, key)
        assert (reread(call).attempts == 1) == ready


@pytest.mark.parametrize("mode", CircuitMode)
@pytest.mark.parametrize("state", CircuitState)
def test_a_circuit(
    script: Script, time: VirtualTime, mode: CircuitMode, state: CircuitState
) -> None:
    """In each mode and state: a probe goes through, others where it does not block."""
    since = {"counting_from": time.now, "updated_at": time.now}
    Circuit.objects.create(name="scripted", state=state, mode=mode, **since)
    Circuit.objects.create(name="another", state=CircuitState.OPEN, **since)
    ordinary, probe = enqueue(), enqueue()
    assert ordinary.circuit == "scripted"
    blocking = Circuit.objects.blocking().filter(name=OuterRef("circuit"))
    blocked = OutboundCall.objects.filter(Exists(blocking), pk=ordinary.pk).exists()
    assert take(ordinary, time.now) is not blocked
    assert take(probe, time.now, probe=True)


def test_what_is_written(script: Script, time: VirtualTime) -> None:
    """And the row has it, as the database does; its key lives as long as the first attempt said."""
    call = enqueue(account="a")
    put(call, parked_by="somebody", reference="written meanwhile")
    assert take(call, time.now)
    stored = reread(call)
    for column in (field.attname for field in OutboundCall._meta.concrete_fields):
        assert getattr(call, column) == getattr(stored, column), column
    assert (call.status, call.attempts, call.parked_by) == (CallStatus.RUNNING, 1, "")
    assert (call.updated_at, call.lease_expires_at) == (time.now, time.now + LEASE)
    assert call.key_expires_at == time.now + timedelta(hours=1)
    assert call.reference == "written meanwhile"
    assert call.lease_token is not None
    began = time.now
    time.passes(seconds=60)
    token = call.lease_token
    assert call.leave(CallStatus.RETRYING, token=token, now=time.now, due_at=time.now)
    assert take(call, time.now)
    assert (call.attempts, call.key_expires_at) == (2, began + timedelta(hours=1))


def test_who_has_lost_it(script: Script, time: VirtualTime) -> None:
    """Another's lease is not ended, and nothing is written."""
    call = enqueue()
    assert take(call, time.now)
    before = reread(call)
    other = uuid.uuid4()
    assert not call.leave(CallStatus.SUCCEEDED, token=other, now=time.now, reference="mine")
    assert reread(call).__dict__ | {"_state": 0} == before.__dict__ | {"_state": 0}
    assert call.lease_token is not None
    assert call.leave(CallStatus.SUCCEEDED, token=call.lease_token, now=time.now, reference="mine")
    after = reread(call)
    assert (after.status, after.lease_token) == (CallStatus.SUCCEEDED, None)
    assert after.reference == "mine"
    assert not call.leave(CallStatus.FAILED, token=other, now=time.now)


def test_where_an_attempt_cannot_end(script: Script, time: VirtualTime) -> None:
    with pytest.raises(IllegalMove, match="from running to cancelled"):
        enqueue().leave(CallStatus.CANCELLED, token=uuid.uuid4(), now=time.now)
