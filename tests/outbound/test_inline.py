"""Waiting for an answer: the caller's own process makes the attempt, with no broker in the path."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import structlog
from django.db import connections, transaction
from pytest_django import Settings

from outbound import engine, services
from outbound.adapters import CallContext, Reply
from outbound.errors import (
    CallRefused,
    DeliveryError,
    IllegalMove,
    InvalidPayload,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from outbound.hints import Hint
from outbound.models import CallNote, OutboundCall
from outbound.services import cancel_call, deliver_now, perform_read
from outbound.states import AttemptTrigger, CallStatus
from tests.outbound.rows import PAYLOAD, attempts, call_in, enqueue, reread
from tests.outbound.scripted import DONE, Script, scripted_settings

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

S = CallStatus
LONG = 30.0  # seconds nobody really waits for


class TestDeliverNow:
    """A write whose answer somebody needs."""

    def test_success(self, script: Script, announced: list[Hint]) -> None:
        """The call comes back settled, with its result, and no message was sent."""
        call = deliver_now(call=enqueue(inline=True), wait=LONG)
        assert (call.status, call.result) == (S.SUCCEEDED, {"id": "obj-1"})
        assert [a.trigger for a in attempts(call)] == [AttemptTrigger.INLINE]
        assert announced == []

    def test_transient(self, script: Script, announced: list[Hint]) -> None:
        """What fails for the moment goes on in the background; the caller is not kept waiting,
        and the row is announced as soon as it is due, for no message speaks of it."""
        script.then(TransientError("away"))
        call = deliver_now(call=enqueue(inline=True), wait=LONG)
        assert (call.status, len(script.seen)) == (S.RETRYING, 1)
        assert call.hint_at == call.due_at

    @pytest.mark.parametrize(
        "error,status",
        [(PermanentError("no"), S.FAILED), (OutcomeUnknown("lost"), S.UNKNOWN)],
    )
    def test_final(self, script: Script, error: DeliveryError, status: CallStatus) -> None:
        """A refusal and a doubt are outcomes, too."""
        script.then(error)
        assert deliver_now(call=enqueue("notify", inline=True), wait=LONG).status == status

    def test_inside_a_transaction(self, script: Script) -> None:
        """A call that is not committed cannot be made, and no transaction is held during one."""
        with transaction.atomic():
            call = enqueue(inline=True)
            with pytest.raises(RuntimeError, match="never inside one"):
                deliver_now(call=call, wait=LONG)
        assert script.seen == []
        assert reread(call).status == S.PENDING

    def test_the_wait_reaches_the_attempt(self, script: Script) -> None:
        """The attempt's total deadline is no longer than the caller waits."""
        deliver_now(call=enqueue(inline=True), wait=7)
        assert script.seen[0].context.timeouts.total == 7

    def test_a_bug(self, script: Script) -> None:
        """A bug of the adapter is not the caller's: the row is left to the sweep."""
        script.then(KeyError("canary"))
        with structlog.testing.capture_logs() as lines:
            call = deliver_now(call=enqueue(inline=True), wait=LONG)
        assert call.status == S.RUNNING
        assert "attempt_crashed" in [line["event"] for line in lines]

    @pytest.mark.parametrize("status", [S.SUCCEEDED, S.FAILED, S.UNKNOWN, S.CANCELLED, S.RETRYING])
    def test_nothing_to_do(self, script: Script, status: CallStatus) -> None:
        """A call that is not due comes back as it stands, at once."""
        call = call_in(status, script)
        seen = len(script.seen)
        assert deliver_now(call=call, wait=LONG).status == status
        assert len(script.seen) == seen

    def test_another_process_has_it(self, script: Script) -> None:
        """The outcome of somebody else's attempt is awaited."""
        asked, go_on = threading.Event(), threading.Event()

        def answer(context: CallContext) -> Reply:
            asked.set()
            assert go_on.wait(LONG)
            return DONE

        script.then(answer)
        call = enqueue(inline=True)
        other = threading.Thread(target=_deliver, args=(call,))
        other.start()
        assert asked.wait(LONG)
        polls = _after_polls(2, go_on.set)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("outbound.services.time.sleep", polls)
            assert deliver_now(call=call, wait=LONG).status == S.SUCCEEDED
        other.join()
        assert len(script.seen) == 1

    def test_another_process_has_it_for_too_long(self, script: Script) -> None:
        """When the time is up the call comes back RUNNING, and the other attempt goes on."""
        asked, go_on = threading.Event(), threading.Event()

        def answer(context: CallContext) -> Reply:
            asked.set()
            assert go_on.wait(LONG)
            return DONE

        script.then(answer)
        call = enqueue(inline=True)
        other = threading.Thread(target=_deliver, args=(call,))
        other.start()
        assert asked.wait(LONG)
        assert deliver_now(call=call, wait=0.05).status == S.RUNNING
        go_on.set()
        other.join()
        assert reread(call).status == S.SUCCEEDED


def _deliver(call: OutboundCall) -> None:
    try:
        engine.deliver(call.pk)
    finally:
        connections.close_all()


def _after_polls(count: int, act: Any) -> Any:
    """A sleep that does something after so many polls, however long they take."""
    left = [count]
    pause = threading.Event()

    def sleep(seconds: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            act()
        pause.wait(seconds)

    return sleep


@pytest.fixture
def impatient(script: Script, settings: Settings) -> Script:
    """A script whose reads are tried again at once."""
    settings.OUTBOUND_ADAPTERS = scripted_settings(
        script, OPERATIONS={"look": {"schedule": (0.01, 0.01)}}
    )
    return script


def read(**arguments: Any) -> OutboundCall:
    arguments = {"payload": PAYLOAD, "wait": LONG, **arguments}
    return perform_read(adapter="scripted", operation="look", **arguments)


class TestPerformRead:
    """A read while somebody waits."""

    def test_success(self, script: Script, announced: list[Hint]) -> None:
        """The answer, and a row like any other."""
        call = read(reference="order 7", account="acct")
        assert (call.status, call.result) == (S.SUCCEEDED, {"id": "obj-1"})
        assert (call.reference, call.account) == ("order 7", "acct")
        assert announced == []

    def test_tried_again(self, impatient: Script) -> None:
        """A read is repeated within the wait, also when an answer was lost or slow."""
        impatient.then(TransientError("away"), OutcomeUnknown("lost"))
        assert read().status == S.SUCCEEDED
        assert len(impatient.seen) == 3

    def test_short_policy(self, script: Script) -> None:
        """By default three tries inside fifteen seconds."""
        call = read()
        assert call.max_attempts == 3
        assert (call.deadline_at - call.created_at).total_seconds() == 15

    def test_the_last_error(self, impatient: Script) -> None:
        """When every try failed, the caller gets what the last one met."""
        impatient.then(TransientError("one"), TransientError("two"), RateLimited("three"))
        with pytest.raises(RateLimited, match="three"):
            read()
        assert OutboundCall.objects.get().status == S.FAILED

    def test_refused(self, script: Script) -> None:
        """A refusal is raised at once."""
        script.then(PermanentError("no such object", http_status=404))
        with pytest.raises(PermanentError) as caught:
            read()
        assert caught.value.http_status == 404
        assert len(script.seen) == 1

    def test_cancelled_when_nobody_waits(self, script: Script) -> None:
        """A read that would come too late is cancelled, with the reason on record."""
        script.then(RateLimited("429", retry_after=10))
        with pytest.raises(RateLimited):
            read(wait=0.2)
        call = OutboundCall.objects.get()
        assert (call.status, call.attempts) == (S.CANCELLED, 1)
        assert "nobody waits" in CallNote.objects.get(call=call).reason

    def test_parked(self, script: Script, settings: Settings) -> None:
        """A read that cannot be sent from here is a time-out for the caller, not a bug."""
        settings.OUTBOUND_ADAPTERS = scripted_settings(None)
        with pytest.raises(TransientError) as caught:
            read(wait=0.2)
        assert caught.value.http_status == 504
        assert OutboundCall.objects.get().status == S.CANCELLED

    def test_a_worker_took_it_at_the_last_moment(
        self, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where it cannot be cancelled any more, the caller still gets the error."""

        def too_late(**_: Any) -> None:
            raise IllegalMove("a running call cannot be cancelled")

        script.then(TransientError("away"))
        monkeypatch.setattr(services, "cancel_call", too_late)
        with pytest.raises(TransientError, match="away"):
            read(wait=0.1)

    def test_a_worker_has_it(self, impatient: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        """When a worker picked the row up between two tries, its answer is taken."""
        impatient.then(TransientError("away"))
        stolen: list[OutboundCall] = []

        def sleep(seconds: float) -> None:
            threading.Event().wait(seconds)
            call = OutboundCall.objects.get()
            if not stolen and engine.deliver(call.pk):
                stolen.append(call)

        monkeypatch.setattr("outbound.services.time.sleep", sleep)
        assert read().result == {"id": "obj-1"}
        assert len(stolen) == 1
        assert [a.trigger for a in attempts(stolen[0])] == ["inline", "auto"]

    def test_a_write(self, script: Script) -> None:
        """What changes something is enqueued, not read."""
        with pytest.raises(CallRefused, match=r"scripted\.create changes something"):
            perform_read(adapter="scripted", operation="create", payload=PAYLOAD)
        assert not OutboundCall.objects.exists()

    def test_invalid(self, script: Script) -> None:
        """A payload is checked as ever."""
        with pytest.raises(InvalidPayload):
            read(payload={"n": 0})

    def test_inside_a_transaction(self, script: Script) -> None:
        """No transaction is held during a call."""
        with transaction.atomic(), pytest.raises(RuntimeError, match="never inside one"):
            read()
        assert not OutboundCall.objects.exists()


def test_cancelling_a_call_that_is_being_made(script: Script) -> None:
    """What is under way cannot be cancelled."""
    call = call_in(S.RUNNING, script)
    with pytest.raises(IllegalMove):
        cancel_call(call_id=call.pk)
