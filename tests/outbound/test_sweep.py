"""The periodic repair: everything overdue, in bounded batches, and harmless when run twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from pytest_django import Settings

from outbound import sweep as sweeping
from outbound.adapters import Reply
from outbound.engine import plan_for
from outbound.errors import (
    AdapterBug,
    DidNotHappen,
    OutcomeUnknown,
    PermanentError,
    TransientError,
)
from outbound.hints import Hint
from outbound.models import OutboundCall
from outbound.services import resolve_call, retry_call, retry_call_as_new
from outbound.states import CallStatus
from outbound.sweep import (
    announce_calls,
    announce_due,
    announce_lookups,
    end_out_of_time,
    expire_leases,
    forget_announcements,
    look_up,
    run_owed_hooks,
    sweep,
)
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, attempts, call_in, enqueue, reread
from tests.outbound.scripted import Script, scripted_settings
from tests.outbound.threads import at_once

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db]

S = CallStatus
DAY = timedelta(days=1)


class Announced(list[Hint]):
    """Hints, as an announcer takes them."""

    def __call__(self, hint: Hint) -> None:
        self.append(hint)

    @property
    def ids(self) -> list[str]:
        return [hint.kwargs["call_id"] for hint in self]


class TestExpiredLeases:
    """Calls whose worker never reported back. Which of them go on is the policy's."""

    def test_not_before_the_lease_ends(self, script: Script, time: VirtualTime) -> None:
        """A worker has its lease to the end."""
        call = call_in(S.RUNNING, script)
        time.passes(seconds=29)
        assert expire_leases() == 0
        assert reread(call).status == S.RUNNING

    def test_due_at_once(self, script: Script, time: VirtualTime) -> None:
        """It was our crash: the call is due and announced in the same sweep."""
        call = call_in(S.RUNNING, script)
        time.passes(seconds=30)
        hints = Announced()
        assert sweep(announce=hints) == Counter(leases_expired=1, announced=1)
        assert hints.ids == [str(call.pk)]
        call = reread(call)
        assert (call.status, call.due_at, call.lease_token) == (S.RETRYING, time.now, None)
        assert [(a.outcome, a.error_kind) for a in attempts(call)] == [("crashed", "crashed")]

    def test_the_tenant_is_told(self, script: Script, hooks: Any, time: VirtualTime) -> None:
        """A doubt is an outcome."""
        told: list[str] = []
        hooks("notify", settled=lambda call: told.append(call.status))
        call_in(S.RUNNING, script, "notify")
        time.passes(seconds=30)
        expire_leases()
        assert told == ["unknown"]

    def test_bounded(self, script: Script, time: VirtualTime) -> None:
        """No more than asked for, the longest overdue first."""
        calls = []
        for _ in range(3):
            calls.append(call_in(S.RUNNING, script))
            time.passes(seconds=1)
        time.passes(seconds=60)
        assert expire_leases(limit=2) == 2
        assert [reread(call).status for call in calls] == [S.RETRYING, S.RETRYING, S.RUNNING]

    def test_an_adapter_that_is_gone(
        self, script: Script, time: VirtualTime, settings: Settings
    ) -> None:
        """Nobody can say whether repeating is safe: a person has to."""
        call = call_in(S.RUNNING, script)
        time.passes(seconds=30)
        settings.OUTBOUND_ADAPTERS = {}
        assert expire_leases() == 1
        call = reread(call)
        assert call.status == S.UNKNOWN
        assert "no adapter 'scripted'" in call.rule


class TestOutOfTime:
    """Waiting calls that may not be sent any more."""

    @pytest.mark.parametrize(
        "operation,error,status",
        [
            ("create", None, S.FAILED),
            ("create", TransientError("refused"), S.FAILED),
            ("create", OutcomeUnknown("lost"), S.UNKNOWN),
            ("notify", TransientError("refused"), S.FAILED),
            ("look", OutcomeUnknown("lost"), S.FAILED),
        ],
    )
    @pytest.mark.parametrize("gone", [False, True])
    def test_age_limit(
        self,
        script: Script,
        time: VirtualTime,
        settings: Settings,
        operation: str,
        error: Exception | None,
        status: CallStatus,
        gone: bool,
    ) -> None:
        """FAILED where nothing can have happened, UNKNOWN where an attempt may have worked;
        also when the adapter is gone by then."""
        settings.OUTBOUND_POLICY = {"age_limit": 3600}  # less than the key's promise
        call = enqueue(operation)
        if error is not None:
            script.then(error)
            call = attempt(call)
        if gone:
            settings.OUTBOUND_ADAPTERS = {}
        time.now = call.deadline_at - timedelta(seconds=1)
        assert end_out_of_time() == 0
        time.passes(seconds=1)
        assert end_out_of_time() == 1
        call = reread(call)
        assert call.status == status
        assert "the age limit has passed" in call.rule
        assert (call.finished_at is None) == (status == S.UNKNOWN)
        if error is None:
            assert (call.error_kind, call.error_http_status) == ("expired", 504)
        else:
            assert call.error_message == str(error)

    @pytest.mark.parametrize(
        "error,status",
        [(TransientError("refused"), S.FAILED), (OutcomeUnknown("lost"), S.UNKNOWN)],
    )
    def test_key_expiry(
        self, script: Script, time: VirtualTime, error: Exception, status: CallStatus
    ) -> None:
        """When the key's promise has ended, nothing is sent automatically."""
        script.then(error)
        call = attempt(enqueue())
        OutboundCall.objects.filter(pk=call.pk).update(
            due_at=time.now + 2 * DAY, deadline_at=time.now + 9 * DAY
        )
        time.passes(hours=20)
        assert end_out_of_time() == 1
        call = reread(call)
        assert call.status == status
        assert "the idempotency key has expired" in call.rule

    def test_the_tenant_is_told(self, script: Script, hooks: Any, time: VirtualTime) -> None:
        """Giving up is an outcome."""
        told: list[str] = []
        hooks("create", settled=lambda call: told.append(call.status))
        enqueue()
        time.passes(hours=24)
        end_out_of_time()
        assert told == ["failed"]

    @pytest.mark.parametrize("status", sorted(set(CallStatus) - {S.PENDING, S.RETRYING}))
    def test_only_waiting_calls(
        self, script: Script, time: VirtualTime, status: CallStatus
    ) -> None:
        """What is settled, or under way, does not grow old."""
        call = call_in(status, script)
        time.passes(hours=1000)
        assert end_out_of_time() == 0
        assert reread(call).status == status


class TestAnnouncements:
    """Rows that are due and of which no message speaks any more."""

    def test_moves_forward(self, script: Script, time: VirtualTime) -> None:
        """An announced row is not announced again and again, but is when nobody took it."""
        call = enqueue()
        hints = Announced()
        time.passes(seconds=10)
        assert announce_calls(announce=hints) == 1
        assert hints == [Hint("outbound.deliver_call", "payments-v1", {"call_id": str(call.pk)})]
        assert reread(call).hint_at == time.now + timedelta(seconds=60)
        time.passes(seconds=59)
        assert announce_calls(announce=hints) == 0
        time.passes(seconds=1)
        assert announce_calls(announce=hints) == 1

    def test_not_before_the_hint_had_its_chance(
        self, script: Script, time: VirtualTime, announced: list[Hint]
    ) -> None:
        """A fresh row has been announced at its commit already."""
        enqueue()
        time.passes(seconds=9)
        assert announce_calls(announce=Announced()) == 0

    def test_not_before_it_is_due(self, script: Script, time: VirtualTime) -> None:
        """A row that waits for its time is left alone."""
        enqueue(not_before=time.now + DAY)
        time.passes(hours=23)
        assert announce_calls(announce=Announced()) == 0

    @pytest.mark.parametrize("status", sorted(set(CallStatus) - {S.PENDING, S.RETRYING}))
    def test_only_waiting_calls(
        self, script: Script, time: VirtualTime, status: CallStatus
    ) -> None:
        """Nobody is told of a call that does not wait."""
        call_in(status, script)
        time.passes(hours=10)
        assert announce_calls(announce=Announced()) == 0

    def test_bounded(self, script: Script, time: VirtualTime) -> None:
        """In batches, those first that wait longest; the whole queue in the end, each once."""
        calls = []
        for _ in range(5):
            calls.append(str(enqueue().pk))
            time.passes(seconds=1)
        time.passes(seconds=20)
        batches = []
        for _ in range(4):
            hints = Announced()
            announce_calls(limit=2, announce=hints)
            batches.append(hints.ids)
        assert batches == [calls[:2], calls[2:4], calls[4:], []]

    def test_an_adapter_that_is_gone(
        self, script: Script, time: VirtualTime, settings: Settings
    ) -> None:
        """A worker shall park it, and say why on the row."""
        enqueue()
        settings.OUTBOUND_ADAPTERS = {}
        time.passes(seconds=10)
        hints = Announced()
        announce_calls(announce=hints)
        assert [hint.queue for hint in hints] == [settings.CELERY_TASK_DEFAULT_QUEUE]

    def test_a_broker_that_lost_everything(self, script: Script, time: VirtualTime) -> None:
        """When messages lived in a worker that is gone, what was announced is so anew."""
        due, later = enqueue(), enqueue(not_before=time.now + DAY)
        time.passes(seconds=10)
        announce_calls(announce=Announced())
        assert announce_calls(announce=Announced()) == 0
        forget_announcements()
        hints = Announced()
        announce_calls(announce=hints)
        assert hints.ids == [str(due.pk)]
        assert reread(later).hint_at == time.now - timedelta(seconds=10) + DAY

    def test_everything_a_worker_could_do(self, script: Script, time: VirtualTime) -> None:
        """The embedded dispatcher's source: calls first, then look-ups, no more than asked for."""
        unknown, waiting = call_in(S.UNKNOWN, script), enqueue()
        time.passes(seconds=10)
        hints = Announced()
        assert announce_due(limit=1, announce=hints) == 1
        assert announce_due(limit=5, announce=hints) == 1
        assert hints.ids == [str(waiting.pk), str(unknown.pk)]


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once(script: Script) -> None:
    """However many sweeps run at a time, each row is announced by one of them."""
    for _ in range(10):
        enqueue()
    OutboundCall.objects.update(hint_at=OutboundCall.objects.earliest("hint_at").due_at)
    hints = Announced()
    counts = at_once(8, lambda: announce_calls(announce=hints))
    assert sum(count for count in counts if isinstance(count, int)) == 10
    assert len(set(hints.ids)) == len(hints) == 10


class TestLookups:
    """UNKNOWN calls are looked up where the adapter can, ever more rarely."""

    def test_schedule(self, script: Script, time: VirtualTime) -> None:
        """At once, then after 10 s, a minute, and so on; never more than one at a time."""
        call = call_in(S.UNKNOWN, script)
        hints, begun, moments = Announced(), time.now, []
        for _ in range(6):
            assert announce_lookups(announce=hints) == 1
            assert announce_lookups(announce=hints) == 0
            moments.append((time.now - begun).total_seconds())
            time.now = reread(call).due_at
        assert moments == [0, 10, 70, 370, 2170, 9370]
        assert set(hints.ids) == {str(call.pk)}
        assert {(hint.task, hint.queue) for hint in hints} == {
            ("outbound.resolve_call", "payments-v1")
        }

    def test_begins_anew(self, script: Script, time: VirtualTime) -> None:
        """A call that becomes UNKNOWN again is looked up at once again."""
        call = call_in(S.UNKNOWN, script)
        time.passes(hours=1)
        announce_lookups(announce=Announced())
        assert reread(call).lookups == 1
        retry_call(call_id=call.pk)
        script.then(PermanentError("401", conclusive=False))
        call = attempt(call)
        assert (call.status, call.lookups, call.due_at) == (S.UNKNOWN, 0, time.now)

    @pytest.mark.parametrize(
        "adapters",
        [{}, scripted_settings(None, ADAPTER="tests.outbound.scripted.DeafAdapter")],
    )
    def test_an_adapter_that_cannot(
        self, script: Script, time: VirtualTime, settings: Settings, adapters: dict[str, Any]
    ) -> None:
        """A call that nobody can look up waits for a person, and does not crowd the queue."""
        call = call_in(S.UNKNOWN, script, "notify")
        settings.OUTBOUND_ADAPTERS = adapters
        assert announce_lookups(announce=Announced()) == 0
        assert reread(call).due_at >= time.now + DAY
        assert reread(call).lookups == 0

    def test_found(self, script: Script, time: VirtualTime, hooks: Any) -> None:
        """What is found at the provider has happened: the tenant is told."""
        told: list[Any] = []
        hooks("create", settled=lambda call: told.append((call.status, call.result)))
        call = call_in(S.UNKNOWN, script)
        script.lookups.append(Reply({"id": "found"}, "found"))
        assert look_up(str(call.pk))
        call = reread(call)
        assert (call.status, call.result, call.provider_reference) == (
            S.SUCCEEDED, {"id": "found"}, "found",
        )  # fmt: skip
        assert (call.finished_at, call.error_kind) == (time.now, "")
        assert told == [(S.UNKNOWN, None), (S.SUCCEEDED, {"id": "found"})]

    def test_proof_of_failure(self, script: Script, time: VirtualTime, hooks: Any) -> None:
        """What the provider shows to have failed is FAILED, and can be retried as new. The
        tenant is told."""
        told: list[str] = []
        hooks("create", settled=lambda call: told.append(call.status))
        call = call_in(S.UNKNOWN, script)
        script.lookups.append(DidNotHappen("declined", code="card_declined", http_status=400))
        assert look_up(str(call.pk))
        call = reread(call)
        assert (call.status, call.error_kind, call.error_code, call.finished_at) == (
            S.FAILED, "did_not_happen", "card_declined", time.now,
        )  # fmt: skip
        assert not call.tries.filter(effect_possible=True).exists()
        assert told[-1] == S.FAILED

    @pytest.mark.parametrize(
        "answer",
        [None, TransientError("away"), PermanentError("no"), ImproperlyConfigured("no key")],
    )
    def test_not_found(self, script: Script, answer: Any) -> None:
        """While nobody can say, it stays UNKNOWN."""
        call = call_in(S.UNKNOWN, script)
        script.lookups.append(answer)
        assert not look_up(str(call.pk))
        assert reread(call).status == S.UNKNOWN

    def test_a_bug(self, script: Script) -> None:
        """A bug in a look-up leads to its line, without the text."""
        call = call_in(S.UNKNOWN, script)
        script.lookups.append(ValueError("canary"))
        with pytest.raises(AdapterBug, match=r"^ValueError in scripted\.create$"):
            look_up(str(call.pk))
        assert reread(call).status == S.UNKNOWN

    @pytest.mark.parametrize("status", sorted(set(CallStatus) - {S.UNKNOWN}))
    def test_stale_hints(self, script: Script, status: CallStatus) -> None:
        """A call whose outcome is known is not looked up."""
        call = call_in(status, script)
        script.lookups.append(Reply({"id": "found"}))
        assert not look_up(str(call.pk))
        assert len(script.lookups) == 1

    @pytest.mark.parametrize("meanwhile", ["resolved", "made anew"])
    def test_settled_meanwhile(
        self, script: Script, meanwhile: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An answer about a call that somebody has decided, or about its old key, is dropped."""
        call = call_in(S.UNKNOWN, script)

        def answer() -> Reply:
            resolve_call(call_id=call.pk, succeeded=False, reason="not there")
            if meanwhile == "made anew":
                retry_call_as_new(call_id=call.pk, reason="x")
            return Reply({"id": "found"})

        monkeypatch.setattr(script, "look_up", answer)
        assert not look_up(str(call.pk))
        assert reread(call).status == (S.FAILED if meanwhile == "resolved" else S.PENDING)

    def test_tried_again_meanwhile(self, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        """Proof that nothing has happened is none for an attempt made after the look."""
        call = call_in(S.UNKNOWN, script)

        def answer() -> Reply:
            retry_call(call_id=call.pk)
            script.then(PermanentError("half done", effect_possible=True))
            assert attempt(call).status == S.UNKNOWN
            raise DidNotHappen("declined")

        monkeypatch.setattr(script, "look_up", answer)
        assert not look_up(str(call.pk))
        assert reread(call).status == S.UNKNOWN


class TestAll:
    """The sweep as it is run."""

    def test_every_sort(self, script: Script, time: VirtualTime, hooks: Any) -> None:
        """Each sort of overdue row is counted, and a second sweep finds nothing."""
        fail = [True]

        def hook(call: OutboundCall) -> None:
            if fail[0]:
                raise ValueError("no")

        hooks("charge", settled=hook)
        attempt(enqueue("charge"))
        fail[0] = False
        enqueue("create")  # too old by then
        time.passes(hours=24)
        call_in(S.UNKNOWN, script)
        call_in(S.RUNNING, script)
        enqueue("create")
        time.passes(seconds=30)
        assert sweep(announce=Announced()) == Counter(
            leases_expired=1, out_of_time=1, hooks_run=1, lookups_announced=1, announced=2
        )
        assert not any(sweep(announce=Announced()).values())

    def test_embedded(self, script: Script, time: VirtualTime, settings: Settings) -> None:
        """In the embedded form the dispatcher announces, and the sweep does not compete."""
        settings.EMBEDDED_BROKER = True
        call = enqueue()
        time.passes(seconds=100)
        assert not any(sweep().values())
        assert reread(call).hint_at < time.now

    def test_with_a_broker(self, script: Script, time: VirtualTime, announced: list[Hint]) -> None:
        """With a broker of its own the sweep hands its hints to the publisher."""
        enqueue()
        announced.clear()
        time.passes(seconds=10)
        sweep()
        assert len(announced) == 1

    def test_one_sort_that_fails(
        self, script: Script, time: VirtualTime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The others are done all the same, and what failed is raised in the end."""

        def fail(**_: Any) -> int:
            raise OperationalError("locked")

        monkeypatch.setattr(sweeping, "expire_leases", fail)
        call = enqueue()
        time.passes(seconds=10)
        hints = Announced()
        with pytest.raises(ExceptionGroup) as caught:
            sweep(announce=hints)
        assert [type(error) for error in caught.value.exceptions] == [OperationalError]
        assert hints.ids == [str(call.pk)]

    def test_a_row_that_cannot_be_read(
        self, script: Script, time: VirtualTime, settings: Settings, hooks: Any
    ) -> None:
        """Rows whose key is lost are repaired as far as can be, and hold up nobody."""
        told: list[Any] = []
        hooks("create", settled=lambda call: told.append(call.payload))
        good = [call_in(S.RUNNING, script), enqueue("create")]
        keys = settings.FIELD_ENCRYPTION_KEYS
        other = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
        settings.FIELD_ENCRYPTION_KEYS = other
        bad = [call_in(S.RUNNING, script), enqueue("create")]
        settings.FIELD_ENCRYPTION_KEYS = keys
        time.passes(hours=24)
        sweep(announce=Announced())
        for running, waiting in (good, bad):
            rows = OutboundCall.objects.defer("payload", "result")
            assert rows.get(pk=running.pk).status == S.UNKNOWN
            assert rows.get(pk=waiting.pk).status == S.FAILED
        assert len(told) == 2
        owed = OutboundCall.objects.filter(hook_due_at__isnull=False)
        assert set(owed.values_list("pk", flat=True)) == {call.pk for call in bad}
        settings.FIELD_ENCRYPTION_KEYS = [*keys, *other]
        time.passes(seconds=5)
        assert run_owed_hooks() == 2

    def test_a_row_that_cannot_be_repaired(
        self, script: Script, time: VirtualTime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One row's trouble is logged with its id, and the next one is repaired."""
        bad, good = call_in(S.RUNNING, script), call_in(S.RUNNING, script)
        real = plan_for

        def trouble(call: OutboundCall) -> Any:
            if call.pk == bad.pk:
                raise RuntimeError("what nobody foresaw")
            return real(call)

        monkeypatch.setattr(sweeping, "plan_for", trouble)
        time.passes(seconds=30)
        with structlog.testing.capture_logs() as lines:
            assert expire_leases() == 1
        assert (reread(bad).status, reread(good).status) == (S.RUNNING, S.RETRYING)
        assert str(bad.pk) in [line.get("call_id") for line in lines if "failed" in line["event"]]
