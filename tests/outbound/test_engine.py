"""One attempt, step by step: what each step leaves on the rows, and what nobody can break."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, connection, transaction
from pytest_django import Settings

from outbound import engine, registry
from outbound.adapters import CallContext, Reply
from outbound.client import Request
from outbound.errors import (
    AdapterBug,
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    StoredFailure,
    TransientError,
)
from outbound.models import CallAttempt, OutboundCall
from outbound.parking import park
from outbound.redaction import HIDDEN
from outbound.states import AttemptOutcome, AttemptTrigger, CallStatus
from outbound.sweep import expire_leases
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import PAYLOAD, attempt, attempts, call_in, enqueue, reread
from tests.outbound.scripted import KEY_LIFETIME, Script, scripted_settings
from tests.outbound.threads import at_once

pytestmark = pytest.mark.both_databases

S = CallStatus


def claim(call: OutboundCall) -> engine.Claim:
    """The right to make an attempt, for tests that stop half-way."""
    plan = engine.gate(call.pk)
    assert plan is not None
    claimed = engine.claim_call(plan, trigger=AttemptTrigger.AUTO, wait=None)
    assert claimed is not None
    return claimed


@pytest.mark.django_db
class TestOneAttempt:
    """What is on the rows when an attempt has ended."""

    def test_success(self, script: Script, time: VirtualTime) -> None:
        """The call holds the answer, the attempt tells the story."""
        call = enqueue(reference="order 7", request_id="req")

        def answer(context: CallContext) -> Reply:
            time.passes(seconds=2)
            context.exchange.status = 201
            context.exchange.reply = {"id": "obj-9", "secret": "s"}
            return Reply({"id": "obj-9", "secret": "s"}, "obj-9", 201, "req-77")

        script.then(answer)
        started = time.now
        delivery = engine.deliver(call.pk)
        assert delivery is not None
        assert (delivery.decision.status, delivery.error, delivery.hint_in) == (
            S.SUCCEEDED, None, None,
        )  # fmt: skip
        call = reread(call)
        assert (call.status, call.attempts, call.result) == (
            S.SUCCEEDED, 1, {"id": "obj-9", "secret": "s"},
        )  # fmt: skip
        assert (call.provider_reference, call.error_kind) == ("obj-9", "")
        assert call.finished_at == call.updated_at == time.now
        assert (call.lease_token, call.lease_expires_at) == (None, None)
        [only] = attempts(call)
        assert (only.number, only.trigger, only.outcome) == (1, "auto", AttemptOutcome.SUCCEEDED)
        assert (only.http_status, only.provider_request_id) == (201, "req-77")
        assert (only.started_at, only.finished_at) == (started, time.now)
        assert only.duration == timedelta(seconds=2)
        assert (only.idempotency_key, only.effect_possible) == (call.idempotency_key, True)
        assert only.request_summary == {"n": 1, "labels": {}}
        assert only.response_summary == {"id": "obj-9", "secret": HIDDEN}
        assert only.worker.count(":") == 2

    def test_the_adapter_gets_what_was_asked_for(self, script: Script) -> None:
        """Payload, key, account and request id arrive, with the policy's time-outs."""
        payload = {"n": 3, "labels": {"a": "b"}, "anything": [1, None, 2.5, "x"]}
        call = enqueue(payload=payload, account="acct_1", request_id="req-1")
        attempt(call)
        [seen] = script.seen
        assert (seen.operation, seen.payload) == ("create", payload)
        assert (seen.context.call_id, seen.key) == (str(call.pk), call.idempotency_key)
        assert (seen.context.account, seen.context.request_id) == ("acct_1", "req-1")
        timeouts = seen.context.timeouts
        assert (timeouts.connect, timeouts.read, timeouts.total) == (3, 10, 15)

    @pytest.mark.parametrize(
        "error,status,outcome,possible",
        [
            (TransientError("away"), S.RETRYING, AttemptOutcome.TRANSIENT, False),
            (TransientError("503", effect_possible=True), S.RETRYING, AttemptOutcome.UNKNOWN, True),
            (RateLimited("429"), S.RETRYING, AttemptOutcome.RATE_LIMITED, False),
            (OutcomeUnknown("lost"), S.RETRYING, AttemptOutcome.UNKNOWN, True),
            (StoredFailure("stored"), S.UNKNOWN, AttemptOutcome.UNKNOWN, True),
            (PermanentError("no"), S.FAILED, AttemptOutcome.PERMANENT, False),
        ],
        ids=lambda value: getattr(value, "kind", None),
    )
    def test_failures(
        self,
        script: Script,
        error: DeliveryError,
        status: CallStatus,
        outcome: AttemptOutcome,
        possible: bool,
    ) -> None:
        """Each class of error leaves its mark on the call and on the attempt."""
        error.code, error.http_status, error.provider_request_id = "a_code", 418, "req-5"
        script.then(error)
        call = attempt(enqueue())
        assert (call.status, call.error_kind, call.error_code) == (status, error.kind, "a_code")
        assert (call.error_message, call.error_http_status) == (error.message, 418)
        [only] = attempts(call)
        assert (only.outcome, only.effect_possible) == (outcome, possible)
        assert (only.error_kind, only.error_code, only.error_message) == (
            error.kind, "a_code", error.message,
        )  # fmt: skip
        assert only.provider_request_id == "req-5"
        assert (call.finished_at is not None) == (status == S.FAILED)

    def test_a_success_clears_the_error(self, script: Script, time: VirtualTime) -> None:
        """What went wrong before is on the attempts, not on a call that succeeded."""
        script.then(TransientError("away", code="a", http_status=418))
        call = attempt(enqueue())
        time.passes(seconds=10)
        call = attempt(call)
        assert (call.status, call.error_kind, call.error_code, call.error_message) == (
            S.SUCCEEDED, "", "", "",
        )  # fmt: skip
        assert call.error_http_status is None
        assert [a.outcome for a in attempts(call)] == ["transient", "succeeded"]

    def test_waits_between_attempts(
        self, script: Script, time: VirtualTime, settings: Settings
    ) -> None:
        """The row is due when the policy says, is not taken before, and ends after the last."""
        settings.OUTBOUND_POLICY = {"schedule": [5, 30], "jitter": 0}
        script.then(*(TransientError("away") for _ in range(3)))
        call = enqueue()
        for wait in (5, 30):
            call = attempt(call)
            assert call.due_at == time.now + timedelta(seconds=wait)
            time.passes(seconds=wait - 1)
            assert engine.deliver(call.pk) is None
            time.passes(seconds=1)
        call = attempt(call)
        assert (call.status, call.rule) == (S.FAILED, "3 attempts made")
        assert len(attempts(call)) == 3

    def test_the_key_never_changes(self, script: Script, time: VirtualTime) -> None:
        """All attempts carry one key, whose promise starts to run with the first of them."""
        call = enqueue()
        time.passes(hours=1)
        promise = time.now + KEY_LIFETIME
        script.then(OutcomeUnknown("lost"))
        call = attempt(call)
        time.passes(seconds=60)
        call = attempt(call)
        assert {seen.key for seen in script.seen} == {call.idempotency_key}
        assert call.key_expires_at == promise

    def test_nothing_is_sent_after_the_key_has_expired(
        self, script: Script, time: VirtualTime, settings: Settings
    ) -> None:
        """A call whose key the provider may have forgotten is not sent, though it is due."""
        settings.OUTBOUND_POLICY = {"age_limit": 10**7}
        script.then(OutcomeUnknown("lost"))
        call = attempt(enqueue())
        time.passes(hours=21)
        assert engine.deliver(call.pk) is None
        assert len(script.seen) == 1

    def test_nothing_is_sent_after_the_age_limit(self, script: Script, time: VirtualTime) -> None:
        """A call that waited too long is not sent, though it is due."""
        call = enqueue()
        time.passes(hours=24)
        assert engine.deliver(call.pk) is None
        assert script.seen == []

    def test_a_conclusive_refusal_answers_for_all_attempts(
        self, script: Script, time: VirtualTime
    ) -> None:
        """A refusal of the same key proves that the attempts before had no effect either."""
        script.then(OutcomeUnknown("lost"), PermanentError("declined"))
        call = attempt(enqueue())
        time.passes(seconds=60)
        call = attempt(call)
        assert call.status == S.FAILED
        assert [a.effect_possible for a in attempts(call)] == [False, False]

    @pytest.mark.parametrize("status", sorted(set(CallStatus) - {S.PENDING, S.RETRYING}))
    def test_stale_hints(self, status: CallStatus, script: Script) -> None:
        """A hint about a call that is not waiting does nothing."""
        call = call_in(status, script)
        seen = len(script.seen)
        assert engine.deliver(call.pk) is None
        assert len(script.seen) == seen
        assert reread(call).updated_at == call.updated_at

    def test_a_hint_about_nothing(self, script: Script) -> None:
        """A hint about a call that is not there does nothing."""
        assert engine.deliver(uuid.uuid4()) is None

    @pytest.mark.parametrize("operation,total", [("create", 5.0), ("look", 5.0), ("notify", 15.0)])
    def test_a_wait_shortens_what_can_be_repeated(
        self, script: Script, operation: str, total: float
    ) -> None:
        """Somebody's patience cuts an attempt only where a cut attempt can be made again."""
        engine.deliver(enqueue(operation).pk, wait=5)
        assert script.seen[0].context.timeouts.total == total

    def test_a_wait_leaves_time_to_connect(self, script: Script) -> None:
        """However short the wait, an attempt that is made has the time to connect."""
        engine.deliver(enqueue().pk, wait=0)
        assert script.seen[0].context.timeouts.total == 3

    def test_the_deadline_counts_from_the_claim(
        self, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker that was frozen while it claimed has that much less time to send, and its
        lease ends no later than the database says."""
        moments = iter([1000.0])
        frozen = SimpleNamespace(monotonic=lambda: next(moments, 1014.0), sleep=None)
        monkeypatch.setattr(engine, "time", frozen)
        claimed = claim(enqueue())
        assert (claimed.context.ends, claimed.lease_ends) == (1015.0, 1030.0)

    def test_one_log_line(self, script: Script) -> None:
        """An attempt is one line, with ids, outcome and what comes next."""
        script.then(TransientError("away"))
        call = enqueue(request_id="req-1", payload={"n": 1, "note": "canary"})
        with structlog.testing.capture_logs() as lines:
            attempt(call)
        [line] = [line for line in lines if line["event"] == "attempt"]
        assert line["call_id"] == str(call.pk)
        assert (line["adapter"], line["operation"], line["attempt"]) == ("scripted", "create", 1)
        assert (line["outcome"], line["status"]) == (AttemptOutcome.TRANSIENT, S.RETRYING)
        assert line["next_due"] == reread(call).due_at.isoformat()
        assert line["request_id"] == "req-1"
        assert "canary" not in str(line)

    @pytest.mark.parametrize(
        "reply",
        [
            Reply({"id": "a\x00b"}, "a\x00b", 200, "r\x00\ud800"),
            Reply({"id": "\ud800"}, "\ud800" * 400, 200, "r" * 400),
            Reply({"deep": {"er": [1, {"x": None}]}}, "", None, ""),
        ],
    )
    def test_strange_answers_are_kept(self, script: Script, reply: Reply) -> None:
        """What a provider says can always be stored: an answer is not lost over a character."""

        def answer(context: CallContext) -> Reply:
            context.exchange.reply = {"id": float("nan"), "status": "\x00\ud800", "\x00": 1}
            return reply

        script.then(answer)
        call = attempt(enqueue())
        assert (call.status, call.result) == (S.SUCCEEDED, reply.result)

    def test_strange_errors_are_kept(self, script: Script) -> None:
        """An error's text fits its column, whatever is in it."""
        text = "\x00\ud800 sk_live_canary " * 500
        script.then(PermanentError(text, code=text, provider_request_id=text))
        call = attempt(enqueue())
        assert call.status == S.FAILED
        assert "canary" not in call.error_message + call.error_code


@pytest.mark.django_db
class TestGate:
    """What cannot be sent from here is parked: no attempt is spent."""

    def test_ready(self, script: Script, time: VirtualTime) -> None:
        """A row knows of itself what the database would say, at the moment itself too."""
        now, moment = time(), timedelta(microseconds=1)
        around = (now - moment, now, now + moment)
        calls = [
            OutboundCall(
                adapter="scripted", operation="create", payload={}, idempotency_key=str(number),
                status=status, due_at=due_at, deadline_at=deadline_at, key_expires_at=expires_at,
                hint_at=now, created_at=now, updated_at=now, max_attempts=1,
                lease_token=uuid.uuid4() if status == S.RUNNING else None,
            )
            for number, (status, due_at, deadline_at, expires_at) in enumerate(
                product(S, around, around, (None, *around))
            )
        ]  # fmt: skip
        OutboundCall.objects.bulk_create(calls)
        ready = set(OutboundCall.objects.ready(now))
        assert ready
        assert {call for call in OutboundCall.objects.all() if call.is_ready(now)} == ready

    @pytest.mark.parametrize(
        "adapters,words",
        [
            ({}, "no adapter 'scripted'"),
            (scripted_settings(None), "SCRIPTED_SCRIPT is not set"),
            (scripted_settings(Script(), ADAPTER="tests.nowhere.Nothing"), "cannot import"),
            (scripted_settings(Script(), ADAPTER="tests.outbound.scripted.Script"), "no Adapter"),
            (scripted_settings(Script(), ADAPTER="outbound.adapters.Adapter"), "no operation"),
            (scripted_settings(Script(), POLICY={"jitter": 7}), "'jitter' must be below 1"),
            (scripted_settings(Script(), POLICY=None), "a policy must be a dict"),
        ],
    )
    @pytest.mark.parametrize("status", [S.PENDING, S.RETRYING])
    def test_not_configured(
        self,
        script: Script,
        time: VirtualTime,
        settings: Settings,
        status: CallStatus,
        adapters: dict[str, Any],
        words: str,
    ) -> None:
        """The row says why it waits, and goes on once the configuration is right."""
        call = call_in(status, script)
        time.passes(seconds=60)
        good, settings.OUTBOUND_ADAPTERS = settings.OUTBOUND_ADAPTERS, adapters
        before = call.attempts
        call = attempt(call)
        assert (call.status, call.attempts) == (status, before)
        assert call.due_at == call.hint_at > time.now
        assert words in call.rule
        settings.OUTBOUND_ADAPTERS = good
        assert engine.deliver(call.pk) is None
        time.passes(seconds=120)
        assert attempt(call).status == S.SUCCEEDED

    def test_a_payload_of_another_version(self, script: Script, time: VirtualTime) -> None:
        """A worker that does not know a payload's shape leaves the call to one that does."""
        call = enqueue()
        OutboundCall.objects.filter(pk=call.pk).update(payload={"n": 1, "new": "canary"})
        call = attempt(call)
        assert (call.status, call.attempts, script.seen) == (S.PENDING, 0, [])
        assert "the stored payload does not fit create: new" in call.rule
        assert "canary" not in call.rule

    def test_a_payload_under_a_lost_key(
        self, script: Script, time: VirtualTime, settings: Settings
    ) -> None:
        """Without the key that a payload was encrypted with, the call waits for that key."""
        call, keys = enqueue(), settings.FIELD_ENCRYPTION_KEYS
        settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
        assert engine.deliver(call.pk) is None
        settings.FIELD_ENCRYPTION_KEYS = keys
        call = reread(call)
        assert (call.status, call.attempts, script.seen) == (S.PENDING, 0, [])
        assert "FIELD_ENCRYPTION_KEYS" in call.rule
        time.passes(seconds=120)
        assert attempt(call).status == S.SUCCEEDED

    def test_parking_leaves_a_claimed_call_alone(self, script: Script, time: VirtualTime) -> None:
        """A call that somebody has taken meanwhile is not parked."""
        call = enqueue()
        running = claim(call)
        park(call, until=time.now + timedelta(seconds=60), why="late")
        assert reread(call).status == S.RUNNING
        assert reread(call).due_at == running.call.due_at

    def test_an_address_that_the_client_refuses(
        self, script: Script, settings: Settings, time: VirtualTime
    ) -> None:
        """A wrong address is a failed attempt of which it is known that nothing was sent."""

        def send(context: CallContext) -> Reply:
            registry.adapter_for("scripted").http.send(
                Request("POST", "http://api.example.com/"), context
            )
            raise AssertionError("sent over plain http")

        script.then(send)
        call = attempt(enqueue("notify"))
        assert (call.status, call.error_kind) == (S.RETRYING, "not_sent_here")
        assert "providers are called over https" in call.error_message
        assert [a.effect_possible for a in attempts(call)] == [False]

    def test_a_wrong_setting_after_something_was_sent(self, script: Script) -> None:
        """When a request has left before, the outcome is in doubt."""

        def send(context: CallContext) -> Reply:
            context.exchange.method = "POST"
            raise ImproperlyConfigured("the second address is wrong")

        script.then(send)
        assert attempt(enqueue("notify")).status == S.UNKNOWN


@pytest.mark.django_db(transaction=True)
class TestOneAtATime:
    """A call never has two attempts in flight, and only the owner of the lease writes."""

    def test_claim_race(self, script: Script) -> None:
        """Twenty threads deliver the same call: one attempt is made."""
        call = enqueue()
        plan = engine.gate(call.pk)
        assert plan is not None
        outcomes = at_once(
            20,
            lambda: engine.claim_call(plan, trigger=AttemptTrigger.AUTO, wait=None),
        )
        assert [o for o in outcomes if isinstance(o, Exception)] == []
        [winner] = [o for o in outcomes if o is not None]
        assert isinstance(winner, engine.Claim)
        call = reread(call)
        assert (call.status, call.attempts, call.lease_token) == (S.RUNNING, 1, winner.token)
        assert len(attempts(call)) == 1

    def test_delivery_race(self, script: Script) -> None:
        """Twenty hints about the same call, handled at once: the provider is asked once."""
        call = enqueue()
        outcomes = at_once(20, lambda: engine.deliver(call.pk))
        assert len([o for o in outcomes if isinstance(o, engine.Delivery)]) == 1
        assert outcomes.count(None) == 19
        assert len(script.seen) == 1
        assert len(attempts(call)) == 1

    @pytest.mark.parametrize(
        "answer",
        [Reply({"id": "late"}, "late"), PermanentError("late"), TransientError("late")],
        ids=["success", "refusal", "transient"],
    )
    def test_late_finisher(
        self, script: Script, time: VirtualTime, answer: Reply | DeliveryError
    ) -> None:
        """A worker that wakes up after its lease writes nothing, whatever it has to say."""
        call = enqueue()
        late = claim(call)
        time.passes(seconds=31)
        assert expire_leases() == 1
        call = attempt(call)
        assert (call.status, call.result) == (S.SUCCEEDED, {"id": "obj-1"})
        before = attempts(call)
        with structlog.testing.capture_logs() as lines:
            assert engine.settle(late, answer) is None
        assert [line["outcome"] for line in lines] == ["lease_lost"]
        after = reread(call)
        assert (after.status, after.result, after.updated_at) == (
            call.status, call.result, call.updated_at,
        )  # fmt: skip
        assert [(a.outcome, a.finished_at) for a in attempts(call)] == [
            (a.outcome, a.finished_at) for a in before
        ]
        assert [a.outcome for a in before] == [AttemptOutcome.CRASHED, AttemptOutcome.SUCCEEDED]

    def test_late_finisher_while_the_next_one_runs(self, script: Script, time: VirtualTime) -> None:
        """The first worker cannot end the second one's attempt."""
        call = enqueue()
        late = claim(call)
        time.passes(seconds=31)
        expire_leases()
        second = claim(call)
        assert engine.settle(late, Reply({"id": "late"})) is None
        assert reread(call).lease_token == second.token
        assert [a.outcome for a in attempts(call)] == ["crashed", "running"]
        assert engine.settle(second, Reply({"id": "second"})) is not None
        assert reread(call).result == {"id": "second"}


@contextmanager
def database_away(error: Exception, *, times: int) -> Iterator[Callable[[], int]]:
    """The next `times` updates of a call fail. Yields how many did."""
    failed = 0

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal failed
        if failed < times and sql.startswith("UPDATE") and "outbound_outboundcall" in sql:
            failed += 1
            raise error
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield lambda: failed


@pytest.mark.django_db(transaction=True)
class TestDatabaseAway:
    """A known answer is not thrown away because the database is away for a moment."""

    @pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
    def test_settle_is_tried_again(
        self, script: Script, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """Three failures later the answer is on the row, and nothing was sent twice."""
        monkeypatch.setattr(engine, "PAUSE_SECONDS", 0.01)
        call = enqueue()
        claimed = claim(call)
        outcome = engine.call_provider(claimed)
        with database_away(error, times=3) as failed:
            delivery = engine.settle(claimed, outcome)
        assert failed() == 3
        assert delivery is not None
        assert reread(call).status == S.SUCCEEDED
        assert len(script.seen) == 1
        assert [a.outcome for a in attempts(call)] == ["succeeded"]

    def test_not_for_longer_than_the_lease(
        self, script: Script, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the lease is over the answer is given up: the sweep decides."""
        settings.OUTBOUND_LEASE_SECONDS = 15.1
        monkeypatch.setattr(engine, "PAUSE_SECONDS", 60)
        claimed = claim(enqueue())
        with (
            database_away(OperationalError("gone"), times=10**6),
            pytest.raises(OperationalError),
        ):
            engine.settle(claimed, Reply({"id": "x"}))
        assert reread(claimed.call).status == S.RUNNING

    def test_not_inside_a_transaction(self, script: Script) -> None:
        """A transaction that is broken cannot be mended from within: it is not tried again."""
        claimed = claim(enqueue())
        with (
            database_away(OperationalError("gone"), times=10**6) as failed,
            transaction.atomic(),
            pytest.raises(OperationalError),
        ):
            engine.settle(claimed, Reply({"id": "x"}))
        assert failed() == 1

    def test_a_claim_that_could_not_be_written(self, script: Script) -> None:
        """Without a claim nothing is sent, and no attempt is on record."""
        call = enqueue()
        with database_away(OperationalError("gone"), times=1), pytest.raises(OperationalError):
            engine.deliver(call.pk)
        assert script.seen == []
        assert (reread(call).status, attempts(call)) == (S.PENDING, [])
        assert attempt(call).status == S.SUCCEEDED


@pytest.mark.django_db
class TestCrashes:
    """A worker that dies leaves a trace, and the sweep repairs it."""

    def test_a_bug_of_the_adapter(
        self, script: Script, time: VirtualTime, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A bug leaves the row RUNNING under its lease; afterwards the call goes on."""
        call = enqueue(payload={"n": 1, "note": "canary"})
        script.then(lambda context: Reply(provider_reference=str(1 / 0)))
        with pytest.raises(AdapterBug, match=r"^ZeroDivisionError in scripted\.create$"):
            engine.deliver(call.pk)
        call = reread(call)
        assert (call.status, call.attempts) == (S.RUNNING, 1)
        assert [a.outcome for a in attempts(call)] == ["running"]
        assert expire_leases() == 0
        time.passes(seconds=30)
        assert expire_leases() == 1
        call = reread(call)
        assert (call.status, call.due_at, call.error_kind) == (S.RETRYING, time.now, "crashed")
        assert [a.outcome for a in attempts(call)] == ["crashed"]
        assert attempt(call).status == S.SUCCEEDED

    def test_a_bug_does_not_quote_the_payload(self, script: Script) -> None:
        """What is raised leads to the adapter's line, without the text that may hold data."""
        script.then(ValueError("no such customer: canary"))
        with pytest.raises(AdapterBug) as caught:
            engine.deliver(enqueue().pk)
        text = "".join(traceback.format_exception(caught.value))
        assert "scripted.py" in text
        assert "ValueError in scripted.create" in text
        assert "canary" not in text

    @pytest.mark.parametrize(
        "operation,status,tries",
        [("create", S.UNKNOWN, 3), ("look", S.FAILED, 3), ("notify", S.UNKNOWN, 1)],
    )
    def test_crash_limit(
        self,
        script: Script,
        time: VirtualTime,
        settings: Settings,
        operation: str,
        status: CallStatus,
        tries: int,
    ) -> None:
        """A call that kills every worker is not tried for ever, nor declared failed when it may
        have happened; without a key it is not repeated at all."""
        settings.OUTBOUND_POLICY = {"schedule": [1, 1]}
        settings.OUTBOUND_ADAPTERS = scripted_settings(script, POLICY={"schedule": [1, 1]})
        settings.OUTBOUND_LEASE_SECONDS = 16
        script.then(*(MemoryError("killed") for _ in range(9)))
        call = enqueue(operation, not_before=None)
        OutboundCall.objects.filter(pk=call.pk).update(deadline_at=time.now + timedelta(days=1))
        for _ in range(9):
            call = attempt(call)
            if call.status != S.RUNNING:
                break
            time.passes(seconds=16)
            expire_leases()
        call = reread(call)
        assert (call.status, call.attempts, len(script.seen)) == (status, tries, tries)
        assert {a.outcome for a in attempts(call)} == {"crashed"}

    def test_crashed_reads_had_no_effect(self, script: Script, time: VirtualTime) -> None:
        """A read is never in doubt, not even when its worker died."""
        script.then(MemoryError("killed"))
        call = attempt(enqueue("look"))
        assert [a.effect_possible for a in attempts(call)] == [False]
        time.passes(seconds=30)
        expire_leases()
        script.then(PermanentError("revoked", conclusive=False))
        OutboundCall.objects.filter(pk=call.pk).update(deadline_at=time.now + timedelta(days=1))
        assert attempt(call).status == S.FAILED

    def test_an_expired_key_is_not_repeated(
        self, script: Script, time: VirtualTime, settings: Settings
    ) -> None:
        """When the key's promise has ended meanwhile, repeating is not safe any more."""
        settings.OUTBOUND_POLICY = {"age_limit": 10**7}
        call = call_in(S.RUNNING, script)
        time.passes(hours=20)
        assert expire_leases() == 1
        assert reread(call).status == S.UNKNOWN


@pytest.mark.django_db
def test_every_attempt_has_its_row(script: Script, time: VirtualTime) -> None:
    """The rows of a long story are numbered, and tell it in order."""
    script.then(
        TransientError("away"),
        RateLimited("slow down", retry_after=50),
        OutcomeUnknown("lost"),
    )
    call = enqueue(payload=PAYLOAD)
    for _ in range(4):
        call = attempt(call)
        time.passes(seconds=3600)
    assert [(a.number, a.outcome) for a in attempts(call)] == [
        (1, "transient"), (2, "rate_limited"), (3, "unknown"), (4, "succeeded"),
    ]  # fmt: skip
    assert CallAttempt.objects.open().count() == 0
