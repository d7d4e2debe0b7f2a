"""How the calls are: figures for Prometheus and findings for the doctor, each on purpose."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from pytest_django import Settings

from outbound import clock
from outbound.leases import periodic_lease
from outbound.models import Circuit, OutboundCall, PeriodicLease
from outbound.states import CallStatus, CircuitMode, CircuitState
from outbound.vitals import findings, gauges
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import call_in, enqueue
from tests.outbound.scripted import Script

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

S = CallStatus


def figures() -> dict[str, dict[tuple[str, ...], float]]:
    """Each metric with the values of its labels."""
    return {
        metric.name: {tuple(each.labels.values()): each.value for each in metric.samples}
        for metric in gauges()
    }


def found() -> list[str]:
    return [str(finding) for finding in findings()]


@pytest.fixture(autouse=True)
def swept(time: VirtualTime) -> None:
    """A sweep has just run: workers live."""
    with periodic_lease("outbound.sweep", seconds=30) as ours:
        assert ours


class TestGauges:
    def test_nothing(self) -> None:
        assert figures() == {
            "holdfast_calls": {},
            "holdfast_calls_oldest_due_seconds": {},
            "holdfast_call_hooks_owed": {(): 0},
            "holdfast_circuit_open": {},
        }

    def test_what_is_not_finished(self, script: Script, time: VirtualTime) -> None:
        """By adapter and status; what is finished is no figure of the moment."""
        for status in (S.PENDING, S.PENDING, S.RETRYING, S.UNKNOWN, S.FAILED, S.CANCELLED):
            call_in(status, script)
        time.passes(seconds=1)
        shown = figures()["holdfast_calls"]
        assert shown == {
            ("scripted", "pending"): 2, ("scripted", "retrying"): 1, ("scripted", "unknown"): 1,
        }  # fmt: skip

    def test_the_oldest_that_is_due(self, script: Script, time: VirtualTime) -> None:
        """What is not due yet is not late."""
        enqueue(not_before=clock.now() + timedelta(hours=1))
        time.passes(seconds=5)
        assert figures()["holdfast_calls_oldest_due_seconds"] == {}
        enqueue()
        time.passes(seconds=30)
        enqueue()
        time.passes(seconds=12)
        assert figures()["holdfast_calls_oldest_due_seconds"] == {("scripted",): 42}

    @pytest.mark.parametrize(
        "state,mode,shown",
        [
            (CircuitState.CLOSED, CircuitMode.AUTO, 0),
            (CircuitState.OPEN, CircuitMode.AUTO, 1),
            (CircuitState.HALF_OPEN, CircuitMode.AUTO, 1),
            (CircuitState.OPEN, CircuitMode.FORCED_CLOSED, 0),
            (CircuitState.CLOSED, CircuitMode.FORCED_OPEN, 1),
        ],
    )
    def test_circuits(self, state: CircuitState, mode: CircuitMode, shown: int) -> None:
        make_circuit(state=state, mode=mode)
        assert figures()["holdfast_circuit_open"] == {("stripe",): shown}

    def test_owed_hooks(
        self, script: Script, time: VirtualTime, hooks: Callable[..., None]
    ) -> None:
        hooks("create", settled=lambda call: 1 / 0)
        call_in(S.FAILED, script)
        time.passes(hours=3)
        assert figures()["holdfast_call_hooks_owed"] == {(): 1}


def make_circuit(**columns: object) -> Circuit:
    now = clock.now()
    fresh = {"name": "stripe", "adapter": "stripe", "counting_from": now, "updated_at": now}
    return Circuit.objects.create(**(fresh | columns))


class TestFindings:
    def test_healthy(self, script: Script) -> None:
        """Rows in every ordinary state, and a provider that said no: nothing to find."""
        for status in (S.PENDING, S.RETRYING, S.UNKNOWN, S.FAILED, S.CANCELLED):
            call_in(status, script)
        make_circuit()
        assert found() == []

    def test_no_sweep(self, time: VirtualTime) -> None:
        """It has run when a beat and a worker live."""
        time.passes(seconds=59)
        assert found() == []
        time.passes(seconds=10)
        [line] = found()
        assert line.startswith("sweep: it has not run for 69 s")
        PeriodicLease.objects.all().delete()
        [line] = found()
        assert line.startswith("sweep: it has never run")

    def later(self, time: VirtualTime, hours: float) -> None:
        """Time passes, and the sweep is well."""
        time.passes(hours=hours)
        with periodic_lease("outbound.sweep", seconds=30):
            pass

    def test_late_calls(self, script: Script, time: VirtualTime) -> None:
        enqueue(), enqueue()
        self.later(time, hours=0.08)
        assert found() == []
        self.later(time, hours=0.02)
        [line] = found()
        assert line.startswith("calls of scripted: 2 have been due for up to 6 min (do workers")

    def test_calls_of_an_open_circuit_are_not_late(self, script: Script, time: VirtualTime) -> None:
        """They wait for it, and it is what is found."""
        call = enqueue()
        make_circuit(name=call.circuit, adapter="scripted", state=CircuitState.OPEN,
                     open_until=clock.now() + timedelta(hours=9))  # fmt: skip
        self.later(time, hours=1)
        assert found() == [f"circuit {call.circuit}: it is open (its provider fails)"]

    def test_a_forced_circuit(self) -> None:
        """Easily forgotten, so it is said, with who and why."""
        make_circuit(mode=CircuitMode.OBSERVE, mode_actor="ada", mode_reason="their maintenance")
        [line] = found()
        assert line.startswith("circuit stripe: it is observe only by ada: their maintenance (")

    def test_unknown_for_long(self, script: Script, time: VirtualTime) -> None:
        call_in(S.UNKNOWN, script)
        self.later(time, hours=1)
        assert "calls of scripted: 1 have an unknown outcome" in found()[0]

    @pytest.mark.parametrize("hours,lines", [(1, 1), (24 * 8, 0)])
    def test_given_up(self, script: Script, time: VirtualTime, hours: float, lines: int) -> None:
        """Not what the provider refused; not for ever."""
        call_in(S.FAILED, script)
        call = call_in(S.FAILED, script)
        OutboundCall.objects.filter(pk=call.pk).update(error_kind="transient_error")
        self.later(time, hours=hours)
        assert ["1 were given up within 7 days" in line for line in found()] == [True] * lines

    def test_failing_hooks(
        self, script: Script, time: VirtualTime, hooks: Callable[..., None]
    ) -> None:
        hooks("create", settled=lambda call: 1 / 0)
        call_in(S.FAILED, script)
        [line] = found()
        assert line.startswith("hooks of scripted.create: they keep failing for 1 settled calls")

    def test_dead_letters(self, script: Script) -> None:
        """Of what still waits; a finished call has got over it."""
        waiting, finished = enqueue(), call_in(S.FAILED, script)
        pks = [waiting.pk, finished.pk]
        OutboundCall.objects.filter(pk__in=pks).update(dead_letter_reason="delivery_limit")
        [line] = found()
        assert line.startswith("calls: messages about 1 unfinished ones were given up")

    def test_a_lost_key(self, script: Script, settings: Settings) -> None:
        """Rows that cannot be read any more are found before a retry of theirs is."""
        enqueue()
        settings.FIELD_ENCRYPTION_KEYS = ["A" * 43 + "="]
        lines = found()
        assert [line.partition(" (")[0] for line in lines] == [
            "calls: the oldest one cannot be decrypted",
            "calls: the newest one cannot be decrypted",
        ]


def test_ids_are_never_told(script: Script) -> None:
    """Findings and figures speak of sorts, not of rows."""
    call = enqueue(reference="order-77", account="acct_77", idempotency_key=uuid.uuid4().hex)
    text = str(figures()) + str(found())
    assert not {str(call.pk), "order-77", "acct_77", call.idempotency_key} & set(text.split("'"))
