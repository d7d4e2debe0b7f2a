"""What a person, or the provider's own event, does to a call, in every status."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from outbound import engine
from outbound.adapters import Reply
from outbound.errors import (
    IllegalMove,
    KeyExpired,
    OutcomeUnknown,
    PermanentError,
    ReasonRequired,
    RetryRefused,
    TransientError,
    UnknownAdapter,
)
from outbound.hints import Hint
from outbound.models import CallNote, OutboundCall
from outbound.services import (
    cancel_call,
    resolve_call,
    retry_call,
    retry_call_as_new,
    settle_from_event,
)
from outbound.states import AttemptOutcome, AttemptTrigger, CallStatus
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, attempts, call_in, enqueue, reread
from tests.outbound.scripted import Script, scripted_settings

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db]

S = CallStatus
EACH = list(CallStatus)


def notes(call: OutboundCall) -> list[tuple[str, str, str]]:
    return list(CallNote.objects.filter(call=call).values_list("actor", "action", "reason"))


@pytest.fixture(autouse=True)
def committed(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> Callable[[Callable[[], Any]], Any]:
    """Do something as if its transaction committed."""

    def run(act: Callable[[], Any]) -> Any:
        with django_capture_on_commit_callbacks(execute=True):
            return act()

    return run


class TestRetry:
    """Send it again, with the same key."""

    @pytest.mark.parametrize("status", EACH)
    def test_every_status(
        self, status: CallStatus, script: Script, announced: list[Hint], committed: Any
    ) -> None:
        """FAILED starts again, UNKNOWN goes on where that is safe; any other is refused and
        nothing happens."""
        call = call_in(status, script)
        announced.clear()
        targets = {S.FAILED: S.PENDING, S.UNKNOWN: S.RETRYING}
        if status in targets:
            retried = committed(lambda: retry_call(call_id=call.pk, actor="ada", reason="fixed"))
            assert reread(call).status == retried.status == targets[status]
            assert notes(call) == [("ada", "retry", "fixed")]
            assert [hint.kwargs for hint in announced] == [{"call_id": str(call.pk)}]
            assert attempt(call).status == S.SUCCEEDED
            assert {seen.key for seen in script.seen} == {call.idempotency_key}
        else:
            with pytest.raises(IllegalMove, match=f"a {status} call cannot be retried"):
                committed(lambda: retry_call(call_id=call.pk))
            assert (reread(call).status, notes(call), announced) == (status, [], [])

    def test_it_starts_afresh(self, script: Script, time: VirtualTime) -> None:
        """A retried call is due now, with a new age limit and a whole schedule, and owes its
        tenant nothing of the past."""
        call = call_in(S.FAILED, script)
        time.passes(hours=19)
        OutboundCall.objects.filter(pk=call.pk).update(
            hook_due_at=time.now, hook_attempts=4, hook_error="x"
        )
        call = retry_call(call_id=call.pk)
        assert (call.due_at, call.finished_at) == (time.now, None)
        assert call.deadline_at == time.now + timedelta(hours=24)
        assert (call.attempts, call.max_attempts) == (1, 10)
        assert (call.hook_due_at, call.hook_attempts, call.hook_error) == (None, 0, "")
        assert call.rule == "retry by the application"

    def test_without_words(self, script: Script) -> None:
        """An application's own retry leaves no note about a person."""
        call = call_in(S.FAILED, script)
        retry_call(call_id=call.pk)
        assert notes(call) == []

    @pytest.mark.parametrize("status", [S.FAILED, S.UNKNOWN])
    def test_expired_key(self, status: CallStatus, script: Script, time: VirtualTime) -> None:
        """When the provider may have forgotten the key, the same key would be a new effect."""
        call = call_in(status, script)
        time.passes(hours=20)
        with pytest.raises(KeyExpired, match="retry as new instead"):
            retry_call(call_id=call.pk)
        assert reread(call).status == status

    @pytest.mark.parametrize("status", [S.SUCCEEDED, S.CANCELLED])
    def test_wrong_status_comes_first(
        self, status: CallStatus, script: Script, time: VirtualTime
    ) -> None:
        """Of a call that cannot be retried at all it is not said to retry it as new."""
        call = call_in(status, script)
        OutboundCall.objects.filter(pk=call.pk).update(key_expires_at=time.now)
        with pytest.raises(IllegalMove):
            retry_call(call_id=call.pk)

    def test_a_key_that_was_never_sent(self, script: Script, time: VirtualTime) -> None:
        """A promise that never began to run does not end."""
        call = enqueue()
        time.passes(hours=24)
        OutboundCall.objects.filter(pk=call.pk).update(status=S.FAILED)
        time.passes(hours=1000)
        assert retry_call(call_id=call.pk).status == S.PENDING

    def test_unknown_without_a_key(self, script: Script) -> None:
        """An unknown outcome at a provider without keys is never repeated with "retry"."""
        call = call_in(S.UNKNOWN, script, "notify")
        with pytest.raises(IllegalMove, match="would do it twice"):
            retry_call(call_id=call.pk)
        assert reread(call).status == S.UNKNOWN

    def test_failed_without_a_key(self, script: Script) -> None:
        """FAILED means that it did not happen: then it may be sent."""
        call = call_in(S.FAILED, script, "notify")
        retry_call(call_id=call.pk)
        assert attempt(call).status == S.SUCCEEDED

    @pytest.mark.parametrize("call_id", [uuid.uuid4(), "x", "", None, "\x00"])
    def test_no_such_call(self, script: Script, call_id: object) -> None:
        """An id of nothing is refused like a wrong status."""
        interventions: list[Callable[[], OutboundCall]] = [
            lambda: retry_call(call_id=call_id),
            lambda: retry_call_as_new(call_id=call_id, reason="x"),
            lambda: cancel_call(call_id=call_id),
            lambda: resolve_call(call_id=call_id, succeeded=True, reason="x"),
        ]
        for intervene in interventions:
            with pytest.raises(IllegalMove, match="there is no call"):
                intervene()

    def test_the_tenant_says_no(
        self, script: Script, hooks: Any, announced: list[Hint], committed: Any
    ) -> None:
        """A hook that refuses undoes the move, the note and its own writes; no hint is sent."""
        call = call_in(S.FAILED, script)
        announced.clear()

        def refuse(revived: OutboundCall) -> None:
            assert revived.status == S.PENDING
            OutboundCall.objects.filter(pk=call.pk).update(reference="written by the hook")
            raise RetryRefused("the order was cancelled")

        hooks("create", revived=refuse)
        for retry in (
            lambda: retry_call(call_id=call.pk, actor="ada", reason="x"),
            lambda: retry_call_as_new(call_id=call.pk, actor="ada", reason="x"),
        ):
            with pytest.raises(RetryRefused, match="the order was cancelled"):
                committed(retry)
        after = reread(call)
        assert (after.status, after.reference, after.idempotency_key) == (
            S.FAILED, "", call.idempotency_key,
        )  # fmt: skip
        assert (notes(call), announced) == ([], [])

    def test_the_tenant_is_told(self, script: Script, hooks: Any) -> None:
        """The hook sees the row as it is now."""
        told: list[tuple[str, int]] = []
        hooks("create", revived=lambda call: told.append((call.status, call.attempts)))
        retry_call(call_id=call_in(S.FAILED, script).pk)
        assert told == [("pending", 1)]


class TestRetryAsNew:
    """Send it again with another key: to the provider it is another call."""

    @pytest.mark.parametrize("status", EACH)
    def test_every_status(
        self, status: CallStatus, script: Script, announced: list[Hint], committed: Any
    ) -> None:
        """Only what did not happen may be made anew."""
        call = call_in(status, script)
        announced.clear()

        def retry() -> OutboundCall:
            return retry_call_as_new(call_id=call.pk, reason=" new card ", actor="ada")

        if status == S.FAILED:
            retried = committed(retry)
            assert retried.status == S.PENDING
            assert retried.idempotency_key != call.idempotency_key
            assert retried.key_expires_at is None
            assert notes(call) == [("ada", "retry as new", "new card")]
            assert len(announced) == 1
            assert attempt(call).status == S.SUCCEEDED
            assert [seen.key for seen in script.seen] == [
                call.idempotency_key, retried.idempotency_key,
            ]  # fmt: skip
        else:
            with pytest.raises(IllegalMove, match=f"a {status} call cannot be retried"):
                committed(retry)
            after = reread(call)
            assert (after.status, after.idempotency_key) == (status, call.idempotency_key)

    @pytest.mark.parametrize("reason", ["", " ", "\n\t"])
    def test_a_reason_is_required(self, script: Script, reason: str) -> None:
        """Without words nothing is done."""
        call = call_in(S.FAILED, script)
        with pytest.raises(ReasonRequired):
            retry_call_as_new(call_id=call.pk, reason=reason)
        assert reread(call).status == S.FAILED

    def test_an_expired_key_does_not_matter(self, script: Script, time: VirtualTime) -> None:
        """The new key has a promise of its own, from its first attempt on."""
        call = call_in(S.FAILED, script)
        time.passes(hours=100)
        retry_call_as_new(call_id=call.pk, reason="x")
        call = attempt(call)
        assert call.status == S.SUCCEEDED
        assert call.key_expires_at == time.now + timedelta(hours=20)

    def test_the_caller_key_still_finds_it(self, script: Script) -> None:
        """Asking again under the caller's own key still gives this call."""
        call = call_in(S.FAILED, script, idempotency_key="own")
        renewed = retry_call_as_new(call_id=call.pk, reason="x")
        assert renewed.idempotency_key != "own"
        assert enqueue(idempotency_key="own").pk == call.pk

    def test_old_attempts_do_not_count(self, script: Script, time: VirtualTime) -> None:
        """What the old key may have done says nothing about the new one."""
        script.then(OutcomeUnknown("lost"), PermanentError("no"))
        call = attempt(enqueue())
        time.passes(seconds=60)
        call = attempt(call)
        retry_call_as_new(call_id=call.pk, reason="x")
        script.then(PermanentError("revoked", conclusive=False))
        assert attempt(call).status == S.FAILED


class TestCancel:
    """Stop a waiting call."""

    @pytest.mark.parametrize("status", EACH)
    def test_every_status(self, status: CallStatus, script: Script, time: VirtualTime) -> None:
        """A call that waits is cancelled, any other is not."""
        call = call_in(status, script)
        if status in (S.PENDING, S.RETRYING):
            cancelled = cancel_call(call_id=call.pk, actor="ada", reason="not wanted")
            assert (cancelled.status, cancelled.finished_at) == (S.CANCELLED, time.now)
            assert cancelled.rule == "cancelled by ada"
            assert notes(call) == [("ada", "cancel", "not wanted")]
            assert engine.deliver(call.pk) is None
        else:
            with pytest.raises(IllegalMove, match=f"a {status} call cannot be cancelled"):
                cancel_call(call_id=call.pk)
            assert reread(call).status == status

    @pytest.mark.parametrize(
        "operation,error,status",
        [
            ("create", OutcomeUnknown("lost"), S.UNKNOWN),
            ("create", TransientError("503", effect_possible=True), S.UNKNOWN),
            ("create", TransientError("refused"), S.CANCELLED),
            ("notify", TransientError("refused"), S.CANCELLED),
            ("look", OutcomeUnknown("lost"), S.CANCELLED),
        ],
    )
    def test_an_attempt_may_have_worked(
        self,
        script: Script,
        time: VirtualTime,
        operation: str,
        error: TransientError,
        status: CallStatus,
    ) -> None:
        """CANCELLED would be a guess where an attempt may have worked."""
        script.then(error)
        call = attempt(enqueue(operation))
        call = cancel_call(call_id=call.pk)
        assert call.status == status
        if status == S.UNKNOWN:
            assert "an earlier attempt may have worked" in call.rule
            assert (call.due_at, call.lookups, call.finished_at) == (time.now, 0, None)

    def test_the_tenant_is_told(self, script: Script, hooks: Any) -> None:
        """Cancelling is an outcome."""
        told: list[str] = []
        hooks("create", settled=lambda call: told.append(call.status))
        cancel_call(call_id=enqueue().pk)
        assert told == ["cancelled"]


class TestResolve:
    """A person says what became of an UNKNOWN call."""

    @pytest.mark.parametrize("succeeded", [True, False])
    @pytest.mark.parametrize("status", EACH)
    def test_every_status(
        self, status: CallStatus, succeeded: bool, script: Script, time: VirtualTime
    ) -> None:
        """Only an UNKNOWN call needs a person's word."""
        call = call_in(status, script)
        target = S.SUCCEEDED if succeeded else S.FAILED

        def resolve() -> OutboundCall:
            return resolve_call(
                call_id=call.pk, succeeded=succeeded, actor="ada", reason="seen there",
                provider_reference="obj-5",
            )  # fmt: skip

        if status == S.UNKNOWN:
            resolved = resolve()
            assert (resolved.status, resolved.finished_at) == (target, time.now)
            assert resolved.provider_reference == ("obj-5" if succeeded else "")
            assert notes(call) == [("ada", f"resolve as {target}", "seen there")]
            assert [a.effect_possible for a in attempts(call)] == [succeeded]
        else:
            with pytest.raises(IllegalMove, match=f"a {status} call needs no resolving"):
                resolve()
            assert reread(call).status == status

    @pytest.mark.parametrize("reason", ["", "  "])
    def test_a_reason_is_required(self, script: Script, reason: str) -> None:
        """A word without a source is none."""
        call = call_in(S.UNKNOWN, script)
        with pytest.raises(ReasonRequired):
            resolve_call(call_id=call.pk, succeeded=True, reason=reason)
        assert reread(call).status == S.UNKNOWN

    def test_after_it_did_not_happen(self, script: Script) -> None:
        """What did not happen can be made anew, and be cancelled without a doubt."""
        call = call_in(S.UNKNOWN, script, "notify")
        resolve_call(call_id=call.pk, succeeded=False, reason="not there")
        retry_call(call_id=call.pk)
        assert cancel_call(call_id=call.pk).status == S.CANCELLED

    def test_the_tenant_is_told(self, script: Script, hooks: Any) -> None:
        """First of the doubt, then of its end."""
        told: list[str] = []
        hooks("create", settled=lambda call: told.append(call.status))
        call = call_in(S.UNKNOWN, script)
        resolve_call(call_id=call.pk, succeeded=True, reason="seen")
        assert told == ["unknown", "succeeded"]


def settle(call: OutboundCall, **changes: Any) -> bool:
    arguments: dict[str, Any] = {
        "call_id": call.pk,
        "idempotency_key": call.idempotency_key,
        "result": {"id": "obj-7"},
        "provider_reference": "obj-7",
    }
    return settle_from_event(**{**arguments, **changes})


class TestSettleFromEvent:
    """The provider's own word that a call worked."""

    @pytest.mark.parametrize("status", EACH)
    def test_every_status(self, status: CallStatus, script: Script, time: VirtualTime) -> None:
        """A call whose outcome is open is settled; any other is left alone."""
        call = call_in(status, script)
        before = reread(call)
        settled = settle(call)
        after = reread(call)
        assert settled == (status in (S.RUNNING, S.UNKNOWN))
        if settled:
            assert (after.status, after.finished_at) == (S.SUCCEEDED, time.now)
            assert (after.result, after.provider_reference) == ({"id": "obj-7"}, "obj-7")
            assert (after.error_kind, after.error_message, after.lease_token) == ("", "", None)
        else:
            assert (after.status, after.result, after.updated_at) == (
                status, before.result, before.updated_at,
            )  # fmt: skip

    def test_running(self, script: Script) -> None:
        """The attempt under way is superseded, and when it reports back it changes nothing."""
        call = enqueue()
        plan = engine.gate(call.pk)
        assert plan is not None
        claim = engine.claim_call(plan, trigger=AttemptTrigger.AUTO, wait=None)
        assert claim is not None
        assert settle(call)
        assert [a.outcome for a in attempts(call)] == [AttemptOutcome.SUPERSEDED]
        assert engine.settle(claim, Reply({"id": "late"})) is None
        assert engine.settle(claim, PermanentError("late")) is None
        assert reread(call).result == {"id": "obj-7"}

    @pytest.mark.parametrize("key", ["", "other", "\x00"])
    def test_another_key(self, script: Script, key: str) -> None:
        """An object that another key made says nothing about this call."""
        call = call_in(S.UNKNOWN, script)
        assert not settle(call, idempotency_key=key)
        assert reread(call).status == S.UNKNOWN

    def test_the_key_before_retry_as_new(self, script: Script) -> None:
        """Nor does one that the call's own older key made."""
        call = call_in(S.FAILED, script)
        retry_call_as_new(call_id=call.pk, reason="x")
        script.then(KeyError("a crash"))
        attempt(call)
        assert not settle(call)
        assert settle(reread(call))

    @pytest.mark.parametrize("call_id", [uuid.uuid4(), "", "x", None, 7, "\x00"])
    def test_no_such_call(self, script: Script, call_id: object) -> None:
        """An event about somebody else's object is no mistake."""
        assert not settle(enqueue(), call_id=call_id)

    def test_the_tenant_is_told_once(self, script: Script, hooks: Any) -> None:
        """A second event about the same call does nothing."""
        told: list[str] = []
        hooks("create", settled=lambda call: told.append(call.status))
        call = call_in(S.UNKNOWN, script)
        assert settle(call)
        assert not settle(call)
        assert told == ["unknown", "succeeded"]

    def test_strange_references(self, script: Script) -> None:
        """What the provider says is made to fit."""
        call = call_in(S.UNKNOWN, script)
        assert settle(call, provider_reference="\x00" * 300)
        assert len(reread(call).provider_reference) == 255


@pytest.mark.parametrize("adapters", [{}, scripted_settings(None, ADAPTER="nowhere.Gone")])
def test_an_adapter_that_is_gone(
    adapters: dict[str, Any], script: Script, settings: Settings
) -> None:
    """Sending needs the adapter, and says so; what a person knows or does not want does not."""
    failed, unknown, waiting = (
        call_in(status, script) for status in (S.FAILED, S.UNKNOWN, S.RETRYING)
    )
    settings.OUTBOUND_ADAPTERS = adapters
    with pytest.raises((UnknownAdapter, ImproperlyConfigured)):
        retry_call(call_id=failed.pk)
    assert reread(failed).status == S.FAILED
    assert resolve_call(call_id=unknown.pk, succeeded=True, reason="x").status == S.SUCCEEDED
    assert cancel_call(call_id=waiting.pk).status == S.CANCELLED


def test_a_payload_under_a_lost_key(script: Script, settings: Settings) -> None:
    """A call that nobody can read any more can still be cancelled, or settled by a person."""
    unknown, waiting = (call_in(status, script) for status in (S.UNKNOWN, S.RETRYING))
    keys, settings.FIELD_ENCRYPTION_KEYS = (
        settings.FIELD_ENCRYPTION_KEYS,
        [Fernet.generate_key().decode()],
    )
    resolve_call(call_id=unknown.pk, succeeded=False, reason="x")
    cancel_call(call_id=waiting.pk)
    settings.FIELD_ENCRYPTION_KEYS = keys
    assert (reread(unknown).status, reread(waiting).status) == (S.FAILED, S.CANCELLED)


@pytest.mark.parametrize("text", ["\x00", "\ud800", "x" * 2000])
def test_strange_words(script: Script, text: str) -> None:
    """Whatever a person's name and reason are, they are kept as far as they fit."""
    retry_call(call_id=call_in(S.FAILED, script).pk, actor=text, reason=text)
    retry_call_as_new(call_id=call_in(S.FAILED, script).pk, actor=text, reason=text)
    cancel_call(call_id=enqueue().pk, actor=text, reason=text)
    unknown = call_in(S.UNKNOWN, script)
    resolve_call(
        call_id=unknown.pk, succeeded=True, actor=text, reason=text, provider_reference=text
    )
    assert CallNote.objects.count() == 4
