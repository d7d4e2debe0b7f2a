"""Telling the tenant: in the settling transaction, in a savepoint, until it has passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import structlog
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection, transaction

from outbound import engine, settlement
from outbound.errors import OutcomeUnknown, PermanentError, TransientError
from outbound.models import CallNote, OutboundCall
from outbound.services import retry_call
from outbound.settlement import on_revived, on_settled, revived_hooks, settled_hooks
from outbound.signals import call_settled
from outbound.states import CallStatus
from outbound.sweep import run_owed_hooks
from outbound.transactions import atomic
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, attempts, call_in, enqueue, reread
from tests.outbound.scripted import Script

pytestmark = pytest.mark.both_databases

S = CallStatus


def write(call: OutboundCall) -> None:
    """A tenant's effect: one row for each time it was told."""
    CallNote.objects.create(call=call, at=call.updated_at, action="told", reason=call.status)


def told(call: OutboundCall) -> list[str]:
    return list(CallNote.objects.filter(call=call).values_list("reason", flat=True))


@pytest.mark.django_db(transaction=True)
class TestHooks:
    """A hook's effects and the outcome are one commit."""

    @pytest.mark.parametrize(
        "operation,answer,status",
        [
            ("create", None, S.SUCCEEDED),
            ("create", PermanentError("no"), S.FAILED),
            ("notify", OutcomeUnknown("lost"), S.UNKNOWN),
        ],
    )
    def test_outcomes(
        self,
        script: Script,
        hooks: Any,
        operation: str,
        answer: Exception | None,
        status: CallStatus,
    ) -> None:
        """The hook sees the settled row, with its result or its error."""
        seen: list[tuple[Any, ...]] = []

        def hook(call: OutboundCall) -> None:
            seen.append((call.status, call.result, call.error_message, call.attempts))
            write(call)

        hooks(operation, settled=hook)
        if answer is not None:
            script.then(answer)
        call = attempt(enqueue(operation))
        result = {"id": "obj-1"} if status == S.SUCCEEDED else None
        assert seen == [(status, result, str(answer or ""), 1)]
        assert told(call) == [status]

    @pytest.mark.parametrize("error", [TransientError("away"), KeyError("a bug")])
    def test_no_outcome(self, script: Script, hooks: Any, error: Exception) -> None:
        """While a call goes on, or its worker died, there is nothing to tell."""
        hooks("create", settled=write)
        script.then(error)
        assert told(attempt(enqueue())) == []

    def test_only_its_own_operation(self, script: Script, hooks: Any) -> None:
        """A hook hears of the operation it was registered for."""
        hooks("charge", settled=write)
        assert told(attempt(enqueue("create"))) == []

    def test_several_hooks(self, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hooks of one operation pass together or not at all."""
        fail = [True]

        def failing(call: OutboundCall) -> None:
            if fail[0]:
                raise ValueError("not yet")

        monkeypatch.setitem(settlement._settled, ("scripted", "create"), [write, failing])
        call = attempt(enqueue())
        assert (call.status, told(call)) == (S.SUCCEEDED, [])
        fail[0] = False
        OutboundCall.objects.update(hook_due_at=call.updated_at)
        assert run_owed_hooks() == 1
        assert told(call) == [S.SUCCEEDED]


def operational(call: OutboundCall) -> None:
    raise OperationalError("no such table: orders")


def broken_query(call: OutboundCall) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM a_table_that_is_not_there")


def swallowed(call: OutboundCall) -> None:
    """On PostgreSQL this leaves the savepoint unusable."""
    try:
        CallNote.objects.create(pk=CallNote.objects.latest("at").pk, call=call, at=call.updated_at)
    except IntegrityError:
        CallNote.objects.filter(call=call).count()


def recursive(call: OutboundCall) -> None:
    recursive(call)


FAILING: list[Callable[[OutboundCall], None]] = [operational, broken_query, swallowed, recursive]


@pytest.mark.django_db(transaction=True)
class TestFailingHooks:
    """A hook that fails undoes itself, and nothing else."""

    @pytest.mark.parametrize("failing", FAILING)
    def test_the_call_stays_settled(
        self,
        script: Script,
        hooks: Any,
        time: VirtualTime,
        failing: Callable[[OutboundCall], None],
    ) -> None:
        """Whatever a hook raises, the outcome is written once and nothing is sent again."""

        def hook(call: OutboundCall) -> None:
            write(call)
            failing(call)
            if failing is swallowed and connection.vendor == "sqlite":
                raise ValueError("SQLite has nothing against it")

        hooks("create", settled=hook)
        call = attempt(enqueue())
        assert (call.status, call.result) == (S.SUCCEEDED, {"id": "obj-1"})
        assert [a.outcome for a in attempts(call)] == ["succeeded"]
        assert told(call) == []
        assert call.hook_due_at == time.now + timedelta(seconds=5)
        assert (call.hook_attempts, bool(call.hook_error)) == (1, True)
        time.passes(hours=1)
        assert engine.deliver(call.pk) is None
        assert len(script.seen) == 1

    def test_until_it_passes(self, script: Script, hooks: Any, time: VirtualTime) -> None:
        """The sweep runs it again, ever more rarely, and then never more."""
        runs: list[float] = []
        begun = time.now

        def hook(call: OutboundCall) -> None:
            runs.append((time.now - begun).total_seconds())
            write(call)
            if len(runs) < 8:
                raise ValueError("not yet")

        hooks("create", settled=hook)
        call = attempt(enqueue())
        while (call := reread(call)).hook_due_at is not None:
            time.now = call.hook_due_at - timedelta(seconds=1)
            assert run_owed_hooks() == 0
            time.passes(seconds=1)
            run_owed_hooks()
        waits = [after - before for before, after in pairwise(runs)]
        assert waits == [5, 30, 120, 600, 3600, 3600, 3600]
        assert (call.hook_error, told(call)) == ("", [S.SUCCEEDED])
        time.passes(hours=100)
        assert run_owed_hooks() == 0
        assert len(runs) == 8

    def test_the_error_is_shown(self, script: Script, hooks: Any) -> None:
        """The row says what was wrong, without secrets."""

        def hook(call: OutboundCall) -> None:
            raise ValueError("cannot reach ada@example.com with sk_live_1")

        hooks("create", settled=hook)
        with structlog.testing.capture_logs() as lines:
            call = attempt(enqueue())
        assert call.hook_error == "ValueError: cannot reach [hidden] with [hidden]"
        assert "hook_failed" in [line["event"] for line in lines]

    def test_one_that_fails_does_not_hold_up_others(
        self, script: Script, hooks: Any, time: VirtualTime
    ) -> None:
        """Each call's hook stands alone in the sweep."""
        fail = [True]

        def hook(call: OutboundCall) -> None:
            if fail[0] or call.reference == "bad":
                raise ValueError("no")
            write(call)

        hooks("create", settled=hook)
        calls = [attempt(enqueue(reference=reference)) for reference in ("bad", "good")]
        fail[0] = False
        time.passes(seconds=5)
        assert run_owed_hooks() == 1
        assert [told(call) for call in calls] == [[], [S.SUCCEEDED]]

    def test_a_retry_forgets_what_was_owed(
        self, script: Script, hooks: Any, time: VirtualTime
    ) -> None:
        """A call that goes on owes nobody an outcome that is past."""
        fail = [True]

        def hook(call: OutboundCall) -> None:
            if fail[0]:
                raise ValueError("no")
            write(call)

        hooks("create", settled=hook)
        call = call_in(S.FAILED, script)
        retry_call(call_id=call.pk)
        fail[0] = False
        time.passes(hours=1)
        assert run_owed_hooks() == 0
        assert told(attempt(call)) == [S.SUCCEEDED]

    @pytest.mark.postgresql
    def test_the_database_went_away_under_a_hook(
        self, script: Script, hooks: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A lost connection is not the hook's failure: the whole settling is tried again."""
        monkeypatch.setattr(engine, "PAUSE_SECONDS", 0.01)
        lost = [True]

        def hook(call: OutboundCall) -> None:
            if lost[0]:
                lost[0] = False
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            write(call)

        hooks("create", settled=hook)
        call = attempt(enqueue())
        assert (call.status, told(call)) == (S.SUCCEEDED, [S.SUCCEEDED])
        assert (call.hook_due_at, call.hook_attempts) == (None, 0)
        assert len(script.seen) == 1


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The statuses that the signal spoke of, each after its commit."""
    statuses: list[str] = []

    def receive(*, call: OutboundCall, **_: Any) -> None:
        assert not connection.in_atomic_block
        statuses.append(call.status)

    call_settled.connect(receive, weak=False, dispatch_uid="test")
    yield statuses
    call_settled.disconnect(dispatch_uid="test")


@pytest.mark.django_db(transaction=True)
class TestSignal:
    """For code that only wants to know."""

    def test_after_the_commit(self, script: Script, heard: list[str]) -> None:
        """The signal comes when the outcome is committed."""
        attempt(enqueue())
        script.then(TransientError("away"))
        attempt(enqueue())
        call_in(S.CANCELLED, script)
        assert heard == [S.SUCCEEDED, S.CANCELLED]

    def test_not_for_a_rollback(self, script: Script, heard: list[str]) -> None:
        """What was rolled back is not spoken of."""
        with transaction.atomic():
            call_in(S.CANCELLED, script)
            transaction.set_rollback(True)
        assert heard == []

    def test_a_receiver_that_fails(self, script: Script, heard: list[str]) -> None:
        """A receiver's trouble is its own."""

        def fail(**_: Any) -> None:
            raise ValueError("no")

        call_settled.connect(fail, weak=False, dispatch_uid="failing")
        try:
            with structlog.testing.capture_logs() as lines:
                call = attempt(enqueue())
        finally:
            call_settled.disconnect(dispatch_uid="failing")
        assert call.status == S.SUCCEEDED
        assert "signal_receiver_failed" in [line["event"] for line in lines]


def test_registering_twice() -> None:
    """A module that is imported twice tells its tenant once; registering returns the function."""

    def hook(call: OutboundCall) -> None:
        raise TypeError("never run")

    for register, registered in ((on_settled, settled_hooks), (on_revived, revived_hooks)):
        assert registered("nobody", "nothing") == []
        assert register("test", "registering")(hook) is hook
        assert register("test", "registering")(hook) is hook
        assert registered("test", "registering") == [hook]
        registered("test", "registering").clear()


@pytest.mark.django_db
def test_a_hook_may_try_what_is_refused(script: Script, hooks: Any) -> None:
    """A service of ours that fails inside a hook undoes what it has done, and the hook goes on."""

    @atomic
    def service(name: str, error: Exception | None = None) -> None:
        Group.objects.create(name=name)
        if error is not None:
            raise error

    def hook(call: OutboundCall) -> None:
        service("before")
        with suppress(KeyError):
            service("lost", KeyError())
        service("after")

    hooks("create", settled=hook)
    call = attempt(enqueue())
    assert (call.status, call.hook_error) == (S.SUCCEEDED, "")
    assert set(Group.objects.values_list("name", flat=True)) == {"before", "after"}
