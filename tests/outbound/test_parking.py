"""Calls that wait for a circuit or a limit: nothing spent, and let go in good order."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from outbound import engine, limits, parking, permits, registry
from outbound.errors import CircuitOpen, PermanentError, RateLimited, TransientError
from outbound.hints import Hint
from outbound.limits import Limits
from outbound.models import CallAttempt, Circuit, CircuitTransition, OutboundCall
from outbound.services import deliver_now, operate_circuit, perform_read, retry_call
from outbound.states import AttemptTrigger, CallStatus, CircuitMode, CircuitState
from outbound.sweep import announce_calls, announce_lookups
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, attempts, call_in, enqueue, reread
from tests.outbound.scripted import DONE, Script, scripted_settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

BREAKER = {"minimum_calls": 3, "open_seconds": 30.0, "successes": 2, "jitter": 0.0}
AWAY = TransientError("away")


@pytest.fixture(autouse=True)
def breaker(settings: Settings, script: Script, time: VirtualTime) -> None:
    settings.OUTBOUND_ADAPTERS = scripted_settings(
        script, BREAKER=BREAKER, POLICY={"jitter": 0, "schedule": [600, 600]}
    )
    settings.OUTBOUND_BREAKER = {}
    settings.OUTBOUND_SWEEP_SECONDS = 5
    settings.OUTBOUND_RAMP_STEP_SECONDS = 1


@pytest.fixture
def outage(script: Script, announced: list[Hint], time: VirtualTime) -> Circuit:
    """The circuit, opened by three failures."""
    return break_down(script, announced, time)


def break_down(script: Script, announced: list[Hint], time: VirtualTime) -> Circuit:
    attempt(enqueue(account="acct_1"))  # that is another circuit
    registry.breaker_for("scripted", "scripted").admit()
    script.then(AWAY, AWAY, AWAY)
    for _ in range(3):
        call = enqueue()
        time.passes(seconds=1)
        attempt(call)
    announced.clear()
    return the_circuit()


def the_circuit() -> Circuit:
    return Circuit.objects.get(pk="scripted")


def told(hints: list[Hint]) -> list[str]:
    ids = [hint.kwargs["call_id"] for hint in hints]
    hints.clear()
    return ids


def sweep(announced: list[Hint]) -> list[str]:
    announce_calls(announce=announced.append)
    return told(announced)


class TestOpen:
    def test_a_call_is_parked_without_an_attempt(
        self, outage: Circuit, script: Script, time: VirtualTime
    ) -> None:
        """6: no attempt, no request; the row says what it waits for, and until when."""
        assert outage.state == CircuitState.OPEN
        asked = len(script.seen)
        call = enqueue()
        delivery = engine.deliver(call.pk)
        assert delivery is not None
        assert delivery.refused
        assert isinstance(delivery.error, CircuitOpen)
        call = reread(call)
        assert (call.status, call.attempts, call.parked_by) == (CallStatus.PENDING, 0, "scripted")
        assert call.error_kind == "circuit_open"
        assert outage.open_until is not None
        assert call.due_at >= outage.open_until
        assert (attempts(call), len(script.seen)) == ([], asked)

    def test_a_call_that_has_failed_keeps_its_error(
        self, outage: Circuit, script: Script, time: VirtualTime
    ) -> None:
        """What the provider said is worth more than that it is still away."""
        call = OutboundCall.objects.filter(status=CallStatus.RETRYING).first()
        assert call is not None
        OutboundCall.objects.filter(pk=call.pk).update(due_at=time.now)
        attempt(call)
        call = reread(call)
        assert (call.attempts, call.error_kind) == (1, "transient_error")
        assert call.parked_by == "scripted"

    def test_waiting_calls_are_not_announced(
        self, outage: Circuit, announced: list[Hint], time: VirtualTime
    ) -> None:
        """And nothing is written about them."""
        calls = [enqueue() for _ in range(5)]
        announced.clear()
        time.passes(seconds=20)
        before = [reread(call).updated_at for call in calls]
        assert sweep(announced) == []
        assert [reread(call).updated_at for call in calls] == before

    def test_calls_of_others_go_on(
        self, outage: Circuit, announced: list[Hint], time: VirtualTime
    ) -> None:
        """Another account has another circuit."""
        call = enqueue(account="acct_2")
        announced.clear()
        time.passes(seconds=20)
        assert sweep(announced) == [str(call.pk)]
        assert attempt(call).status == CallStatus.SUCCEEDED

    def test_look_ups_wait_as_well(
        self, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """They would go to the same provider."""
        call_in(CallStatus.UNKNOWN, script, "charge")
        assert break_down(script, announced, time).state == CircuitState.OPEN
        time.passes(seconds=20)
        assert announce_lookups(announce=announced.append) == 0
        assert announced == []

    def test_the_claim_sees_what_the_gate_did_not(
        self, script: Script, time: VirtualTime, announced: list[Hint]
    ) -> None:
        """The circuit opens between the gates and the claim: another process did it."""
        attempt(enqueue())  # this process has seen it closed
        Circuit.objects.filter(pk="scripted").update(
            state=CircuitState.OPEN, version=7, open_until=time.now.replace(year=2030)
        )
        call = enqueue()
        asked = len(script.seen)
        delivery = engine.deliver(call.pk)
        assert delivery is not None
        assert delivery.refused
        assert (reread(call).attempts, len(script.seen)) == (0, asked)


class TestHalfOpen:
    def test_probes_close_it_one_after_the_other(
        self, outage: Circuit, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """One at a time; each that succeeds calls the next; the attempts are marked."""
        calls = [enqueue() for _ in range(5)]
        announced.clear()
        time.passes(seconds=31)
        first = sweep(announced)
        assert len(first) == 1
        assert sweep(announced) == [], "there is one on its way"
        engine.deliver(first[0])
        second = told(announced)
        assert the_circuit().state == CircuitState.HALF_OPEN
        assert len(second) == 1
        engine.deliver(second[0])
        assert the_circuit().state == CircuitState.CLOSED
        probes = CallAttempt.objects.filter(trigger=AttemptTrigger.PROBE)
        assert {str(p.call_id) for p in probes} == {*first, *second}
        assert len(told(announced)) == 3, "the rest is on the ramp"
        assert all(reread(call).attempts <= 1 for call in calls)

    def test_others_wait_while_a_probe_is_out(
        self, outage: Circuit, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """Whatever brings them to the gate."""
        probe, other = enqueue(), enqueue()
        time.passes(seconds=31)

        def meanwhile(context: Any) -> Any:
            delivery = engine.deliver(other.pk)
            assert delivery is not None
            assert delivery.refused
            return DONE

        script.then(meanwhile)
        engine.deliver(probe.pk)
        assert reread(probe).status == CallStatus.SUCCEEDED
        assert reread(other).attempts == 0

    def test_a_probe_that_fails_opens_it_for_longer(
        self, outage: Circuit, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """And tells nobody to come."""
        enqueue()
        announced.clear()
        time.passes(seconds=31)
        script.then(AWAY)
        engine.deliver(sweep(announced)[0])
        circuit = the_circuit()
        assert circuit.state == CircuitState.OPEN
        assert circuit.open_until is not None
        assert (circuit.open_until - time.now).total_seconds() == pytest.approx(60)
        assert told(announced) == []

    def test_a_refusal_says_nothing_about_the_provider(
        self, outage: Circuit, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """It neither heals nor trips; the next may probe at once."""
        [enqueue() for _ in range(2)]
        announced.clear()
        time.passes(seconds=31)
        script.then(PermanentError("declined"))
        engine.deliver(sweep(announced)[0])
        assert the_circuit().state == CircuitState.HALF_OPEN
        assert len(told(announced)) == 1


class TestRamp:
    def test_twice_as_many_each_second(
        self, outage: Circuit, announced: list[Hint], time: VirtualTime, settings: Settings
    ) -> None:
        """Important calls first, then the oldest; all within the ramp."""
        calls = []
        for _ in range(40):
            time.passes(seconds=0.001)
            calls.append(enqueue())
        OutboundCall.objects.filter(pk=calls[-1].pk).update(priority=0)
        announced.clear()
        operate_circuit(name="scripted", mode=CircuitMode.FORCED_CLOSED, reason="it works again")
        operate_circuit(name="scripted", mode=CircuitMode.AUTO)
        Circuit.objects.filter(pk="scripted").update(
            state=CircuitState.CLOSED, closed_at=time.now, released=0
        )
        order: list[str] = []
        due: list[float] = []
        start = time.now
        for _ in range(4):
            fresh = sweep(announced)
            order += [pk for pk in fresh if pk not in order]
            time.passes(seconds=5)
        due = [(OutboundCall.objects.get(pk=pk).due_at - start).total_seconds() for pk in order]
        assert order[0] == str(calls[-1].pk)
        assert order[1:] == [str(call.pk) for call in calls[:-1]]
        assert due == sorted(due)
        assert sum(1 for seconds in due if seconds < 1) <= 2
        assert sum(1 for seconds in due if seconds < 3) <= 8

    def test_after_the_ramp_all_is_as_before(
        self, outage: Circuit, announced: list[Hint], time: VirtualTime
    ) -> None:
        """Nothing waits for a circuit that has been closed for long."""
        calls = [enqueue() for _ in range(3)]
        announced.clear()
        Circuit.objects.filter(pk="scripted").update(
            state=CircuitState.CLOSED, closed_at=time.now, released=0, version=9
        )
        time.passes(seconds=parking.RAMP_STEPS + 11)
        assert sorted(sweep(announced)) == sorted(str(call.pk) for call in calls)


class TestOperators:
    def test_forced_open_parks_everything(self, script: Script, announced: list[Hint]) -> None:
        """Without a single failure."""
        attempt(enqueue())
        operate_circuit(name="scripted", mode=CircuitMode.FORCED_OPEN, reason="maintenance")
        call = enqueue()
        delivery = engine.deliver(call.pk)
        assert delivery is not None
        assert delivery.refused
        assert reread(call).attempts == 0

    def test_observing_blocks_nothing(
        self, outage: Circuit, script: Script, announced: list[Hint]
    ) -> None:
        operate_circuit(name="scripted", mode=CircuitMode.OBSERVE, reason="we want to see")
        assert attempt(enqueue()).status == CallStatus.SUCCEEDED

    def test_who_and_why_are_kept(self, outage: Circuit) -> None:
        operate_circuit(
            name="scripted", mode=CircuitMode.FORCED_CLOSED, reason="their page says up", actor="li"
        )
        last = CircuitTransition.objects.filter(circuit="scripted").order_by("-at", "-id").first()
        assert last is not None
        assert (last.actor, last.mode) == ("li", CircuitMode.FORCED_CLOSED)
        assert "their page says up" in last.why


class TestInline:
    def test_it_is_parked_and_returned_at_once(self, outage: Circuit) -> None:
        call = enqueue(inline=True)
        call = deliver_now(call=call, wait=10)
        assert (call.status, call.attempts) == (CallStatus.PENDING, 0)
        assert call.error_kind == "circuit_open"

    def test_strict_cancels_what_was_never_sent(self, outage: Circuit) -> None:
        call = enqueue(inline=True)
        with pytest.raises(CircuitOpen) as refused:
            deliver_now(call=call, wait=10, strict=True)
        assert refused.value.http_status == 503
        assert refused.value.retry_after is not None
        assert refused.value.retry_after > 0
        assert reread(call).status == CallStatus.CANCELLED

    def test_strict_keeps_what_was_sent(self, outage: Circuit, time: VirtualTime) -> None:
        call = OutboundCall.objects.filter(status=CallStatus.RETRYING).first()
        assert call is not None
        OutboundCall.objects.filter(pk=call.pk).update(due_at=time.now)
        call = deliver_now(call=call, wait=0, strict=True)
        assert call.status == CallStatus.RETRYING

    def test_a_read_is_refused(self, outage: Circuit, script: Script) -> None:
        asked = len(script.seen)
        with pytest.raises(CircuitOpen):
            perform_read(adapter="scripted", operation="look", payload={"n": 1})
        assert len(script.seen) == asked


class TestLimits:
    @pytest.fixture
    def limit(self, settings: Settings, script: Script) -> Any:
        def set_limits(**limits: Any) -> None:
            settings.OUTBOUND_ADAPTERS = scripted_settings(
                script, LIMITS=limits, POLICY={"jitter": 0, "schedule": [1, 600]}
            )

        return set_limits

    def test_out_of_tokens_waits_exactly(
        self, limit: Any, announced: list[Hint], time: VirtualTime
    ) -> None:
        """The second call comes when its token does, and a message says so."""
        limit(rate=0.5, burst=1)
        assert attempt(enqueue()).status == CallStatus.SUCCEEDED
        call = enqueue()
        announced.clear()
        delivery = engine.deliver(call.pk)
        assert delivery is not None
        assert isinstance(delivery.error, RateLimited)
        call = reread(call)
        assert (call.attempts, call.error_kind) == (0, "rate_limited")
        assert (call.due_at - time.now).total_seconds() == pytest.approx(2, abs=0.01)
        assert [hint.countdown for hint in announced] == [2]
        time.passes(seconds=2.01)
        assert attempt(call).status == CallStatus.SUCCEEDED

    def test_who_waits_is_served_first(
        self, limit: Any, announced: list[Hint], time: VirtualTime
    ) -> None:
        """Parked calls come back one by one, in order, and a new one goes behind them."""
        limit(rate=1, burst=1)
        attempt(enqueue())
        calls = [enqueue() for _ in range(4)]
        for call in calls:
            engine.deliver(call.pk)
        waits = [(reread(call).due_at - time.now).total_seconds() for call in calls]
        assert waits == sorted(waits)
        assert waits[-1] - waits[0] == pytest.approx(3, abs=0.1)
        time.passes(seconds=1.01)
        new = enqueue()
        assert attempt(new).attempts == 0, "the token belongs to who has waited"
        assert attempt(calls[0]).status == CallStatus.SUCCEEDED

    def test_no_more_in_flight_than_allowed(
        self, limit: Any, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """Who comes too much waits, and is called when a place is free."""
        limit(concurrency=1)
        first, second = enqueue(), enqueue()
        announced.clear()

        def meanwhile(context: Any) -> Any:
            delivery = engine.deliver(second.pk)
            assert delivery is not None
            assert isinstance(delivery.error, RateLimited)
            assert reread(second).attempts == 0
            return DONE

        script.then(meanwhile)
        engine.deliver(first.pk)
        assert told(announced) == [str(second.pk)]
        assert attempt(second).status == CallStatus.SUCCEEDED

    def test_retries_wait_when_there_are_too_many(
        self, limit: Any, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """First attempts never do."""
        limit(retry_floor=1)
        script.then(AWAY, AWAY)
        calls = [attempt(enqueue()) for _ in range(2)]
        time.passes(seconds=2)
        assert attempt(calls[0]).status == CallStatus.SUCCEEDED
        held = attempt(calls[1])
        assert (held.status, held.attempts) == (CallStatus.RETRYING, 1)
        assert held.parked_by.startswith("retries:")
        assert attempt(enqueue()).status == CallStatus.SUCCEEDED

    def test_what_a_person_sends_again_is_no_retry(
        self, limit: Any, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """It goes, however many retries there were, and is not counted as one."""
        limit(retry_floor=1)
        script.then(AWAY, PermanentError("declined"))
        automatic, failed = attempt(enqueue()), attempt(enqueue())
        time.passes(seconds=2)
        assert attempt(automatic).status == CallStatus.SUCCEEDED
        retry_call(call_id=failed.pk, actor="eve")
        assert attempt(failed).status == CallStatus.SUCCEEDED
        assert permits.held("retries:scripted") == 1

    def test_who_waits_for_an_answer_is_not_held_back(
        self, limit: Any, script: Script, announced: list[Hint], time: VirtualTime
    ) -> None:
        """The few tries of a view are its own affair."""
        limit(retry_floor=1)
        limits.take_retry("scripted", Limits(retry_floor=1))
        script.then(AWAY)
        call = attempt(enqueue("look"))
        time.passes(seconds=2)
        engine.deliver(call.pk, trigger=AttemptTrigger.INLINE)
        assert reread(call).status == CallStatus.SUCCEEDED

    def test_another_rate_is_another_queue(
        self, limit: Any, announced: list[Hint], time: VirtualTime
    ) -> None:
        """A rate that was far too low holds nobody up once it is put right."""
        limit(rate=0.001, burst=1)
        for _ in range(50):
            engine.deliver(enqueue().pk)
        limit(rate=10)
        call = attempt(enqueue())
        time.passes(seconds=(call.due_at - time.now).total_seconds())
        assert attempt(call).status == CallStatus.SUCCEEDED
        assert (call.due_at - call.created_at).total_seconds() < 1
