"""The tasks choose only when; the row has it in writing before a message is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import kombu
import kombu.exceptions
import pytest
import structlog
from celery import current_app, signals
from celery.exceptions import Ignore, Retry
from django.db import InterfaceError, OperationalError
from pytest_django import Settings

from outbound import engine, tasks
from outbound.adapters import CallContext, Reply
from outbound.dead_letters import DeadLetter, mark_rows
from outbound.errors import OutcomeUnknown, PermanentError, RateLimited, TransientError
from outbound.hints import Hint
from outbound.leases import periodic_lease
from outbound.models import OutboundCall
from outbound.states import CallStatus
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempts, call_in, enqueue, reread
from tests.outbound.scripted import DONE, Script, scripted_settings
from tests.outbound.threads import at_once

pytestmark = pytest.mark.both_databases

S = CallStatus


@contextmanager
def as_worker(call: OutboundCall) -> Iterator[None]:
    """Let the task believe that a worker took it from a queue."""
    tasks.deliver_call.push_request(
        id="a-task",
        args=[],
        kwargs={"call_id": str(call.pk)},
        retries=0,
        called_directly=False,
        is_eager=False,
        delivery_info={"exchange": "holdfast", "routing_key": "payments-v1"},
    )
    try:
        yield
    finally:
        tasks.deliver_call.pop_request()


def run(call: OutboundCall, **arguments: Any) -> None:
    with as_worker(call):
        tasks.deliver_call.run(call_id=str(call.pk), **arguments)


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """Every message, with what another connection could read on the row just before it left."""
    messages: list[dict[str, Any]] = []

    def spy(sender: str, headers: dict[str, Any], body: Any, **message: Any) -> None:
        call_id = body[1].get("call_id")
        [row] = at_once(1, lambda: OutboundCall.objects.filter(pk=call_id).values().first())
        messages.append({"task": sender, "row": row, **headers, **message, "kwargs": body[1]})

    signals.before_task_publish.connect(spy, weak=False)
    yield messages
    signals.before_task_publish.disconnect(spy)
    current_app.control.purge()


@pytest.mark.django_db(transaction=True)
class TestDeliverCall:
    """One attempt, and a message for the next one."""

    def test_success(self, script: Script, sent: list[Any]) -> None:
        """Nothing more to do."""
        call = enqueue()
        run(call)
        assert (reread(call).status, sent) == (S.SUCCEEDED, [])

    @pytest.mark.parametrize("error", [PermanentError("no"), OutcomeUnknown("lost")])
    def test_the_end(self, script: Script, sent: list[Any], error: Exception) -> None:
        """Where nothing follows by itself there is no message."""
        script.then(error)
        run(enqueue("notify"))
        assert sent == []

    @pytest.mark.parametrize("planned", [0, 0.001, 0.3, 1, 1.5, 7, 299])
    def test_transient(
        self, script: Script, settings: Settings, sent: list[Any], planned: float
    ) -> None:
        """The row has it in writing before the message leaves; its delay is the policy's, rounded
        up to whole seconds, for Celery makes an error of a fraction."""
        settings.OUTBOUND_POLICY = {"schedule": [planned], "jitter": 0}
        script.then(TransientError("away"))
        call = enqueue()
        with pytest.raises(Retry):
            run(call)
        [message] = sent
        assert (message["task"], message["kwargs"]) == (
            "outbound.deliver_call", {"call_id": str(call.pk)},
        )  # fmt: skip
        assert message["routing_key"] == "payments-v1"
        row, call = message["row"], reread(call)
        assert row["status"] == S.RETRYING
        assert row["due_at"] == call.due_at
        assert row["lease_token"] is None
        assert (call.hint_at - call.due_at).total_seconds() == 10
        assert datetime.fromisoformat(message["eta"]) >= call.due_at

    def test_the_provider_says_when(self, script: Script, sent: list[Any]) -> None:
        """The message comes when the provider wants to be asked again, not by Celery's backoff."""
        script.then(RateLimited("429", retry_after=200))
        call = enqueue()
        with pytest.raises(Retry):
            run(call)
        eta = datetime.fromisoformat(sent[0]["eta"])
        assert eta >= reread(call).due_at
        assert (reread(call).due_at - call.due_at).total_seconds() >= 200

    @pytest.mark.parametrize("planned", [300.5, 3600])
    def test_long_waits(
        self, script: Script, settings: Settings, sent: list[Any], planned: float
    ) -> None:
        """Waits of more than five minutes are left to the row and the sweep."""
        settings.OUTBOUND_POLICY = {"schedule": [planned], "jitter": 0}
        script.then(TransientError("away"))
        call = enqueue()
        run(call)
        call = reread(call)
        assert (call.status, sent) == (S.RETRYING, [])
        assert call.hint_at == call.due_at

    @pytest.mark.parametrize(
        "error",
        [kombu.exceptions.OperationalError("gone"), OSError("gone"), RuntimeError("what?")],
    )
    def test_a_publish_that_fails(
        self, script: Script, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A retry that cannot be published ends quietly: the row waits for the sweep, and the
        message is acknowledged, not given up as dead."""

        def fail(*_: Any, **__: Any) -> None:
            raise error

        script.then(TransientError("away"))
        call = enqueue()
        monkeypatch.setattr(kombu.Producer, "publish", fail)
        with structlog.testing.capture_logs() as lines, pytest.raises(Ignore):
            run(call)
        call = reread(call)
        assert call.status == S.RETRYING
        assert call.hint_at >= call.due_at
        assert "retry_hint_lost" in [line["event"] for line in lines]

    @pytest.mark.parametrize("status", [S.RUNNING, S.SUCCEEDED, S.FAILED, S.UNKNOWN, S.CANCELLED])
    def test_stale_hints(self, script: Script, sent: list[Any], status: CallStatus) -> None:
        """A message about a call that does not wait is taken and forgotten."""
        call = call_in(status, script)
        seen = len(script.seen)
        run(call)
        assert (len(script.seen), sent) == (seen, [])

    @pytest.mark.parametrize("error", [OperationalError("locked"), InterfaceError("closed")])
    def test_the_database_is_away(
        self, script: Script, sent: list[Any], error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without the database there is nothing to do here: the sweep finds the row again."""

        def fail(_: str) -> None:
            raise error

        call = enqueue()
        monkeypatch.setattr(engine, "deliver", fail)
        with structlog.testing.capture_logs() as lines:
            run(call)
        assert [line["event"] for line in lines] == ["database_away"]
        assert sent == []

    def test_messages_of_a_newer_version(self, script: Script) -> None:
        """Arguments that this version does not know are tolerated."""
        call = enqueue()
        run(call, trace_id="x", attempt=7)
        assert reread(call).status == S.SUCCEEDED

    def test_called_directly(self, script: Script) -> None:
        """Without a worker the error comes back to the caller."""
        script.then(TransientError("away"))
        with pytest.raises(TransientError, match="away"):
            tasks.deliver_call(call_id=str(enqueue().pk))


@pytest.mark.django_db(transaction=True)
class TestDeliverCalls:
    """One message of several calls that were stored together."""

    @pytest.fixture(autouse=True)
    def unhurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However slow this machine is, nothing is handed over."""
        monkeypatch.setattr(tasks, "HAND_OVER_SECONDS", 3600)

    def run(self, *calls: OutboundCall) -> None:
        task: Any = tasks.deliver_calls
        task.push_request(delivery_info={"routing_key": "payments-v1"})
        try:
            task.run(call_ids=[str(call.pk) for call in calls], novelty=1)
        finally:
            task.pop_request()

    def test_each(self, script: Script, announced: list[Hint]) -> None:
        """Each is attempted, in order; one that does not wait is passed over."""
        done, *calls = [enqueue(payload={"n": number}) for number in range(1, 5)]
        engine.deliver(done.pk)
        announced.clear()
        self.run(done, *calls)
        assert [seen.payload["n"] for seen in script.seen] == [1, 2, 3, 4]
        assert {reread(call).status for call in calls} == {S.SUCCEEDED}
        assert announced == []

    def test_transient(self, script: Script, settings: Settings, announced: list[Hint]) -> None:
        """What is to be tried again gets a message of its own, after whole seconds; the others
        are none the worse."""
        settings.OUTBOUND_POLICY = {"schedule": [2.5], "jitter": 0}
        calls = [enqueue() for _ in range(3)]
        announced.clear()
        script.then(DONE, TransientError("away"), DONE)
        self.run(*calls)
        assert [reread(call).status for call in calls] == [S.SUCCEEDED, S.RETRYING, S.SUCCEEDED]
        again = {"call_id": str(calls[1].pk)}
        assert announced == [Hint("outbound.deliver_call", "payments-v1", again, 3)]

    def test_a_bug(self, script: Script, announced: list[Hint]) -> None:
        """A call that crashes its attempt is left to the sweep, and does not stop the others."""
        calls = [enqueue() for _ in range(3)]
        announced.clear()
        script.then(DONE, ZeroDivisionError(), DONE)
        with structlog.testing.capture_logs() as lines:
            self.run(*calls)
        assert [reread(call).status for call in calls] == [S.SUCCEEDED, S.RUNNING, S.SUCCEEDED]
        [crash] = [line for line in lines if line["event"] == "attempt_crashed"]
        assert crash["call_id"] == str(calls[1].pk)
        assert announced == []

    def test_the_database_is_away(
        self, script: Script, announced: list[Hint], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The rows are left to the sweep."""
        calls = [enqueue() for _ in range(2)]
        announced.clear()

        def fail(_: str) -> None:
            raise OperationalError("locked")

        monkeypatch.setattr(engine, "deliver", fail)
        with structlog.testing.capture_logs() as lines:
            self.run(*calls)
        assert [line["event"] for line in lines] == ["database_away"] * 2
        assert announced == []

    def test_a_slow_one(
        self,
        script: Script,
        announced: list[Hint],
        patience: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Those behind a slow one are given messages of their own while it lasts, each once; this
        task then leaves them alone."""
        monkeypatch.setattr(tasks, "HAND_OVER_SECONDS", 0.1)
        calls = [enqueue() for _ in range(4)]
        announced.clear()

        def slow(_: CallContext) -> Reply:
            while len(announced) < 3:
                time.sleep(0.01)
            return DONE

        script.then(slow)
        with patience(seconds=60):
            self.run(*calls)
        assert announced == [
            Hint("outbound.deliver_call", "payments-v1", {"call_id": str(call.pk)})
            for call in calls[1:]
        ]
        statuses = [reread(call).status for call in calls]
        assert statuses == [S.SUCCEEDED, S.PENDING, S.PENDING, S.PENDING]


def _dead(task: str, **kwargs: Any) -> DeadLetter:
    return DeadLetter("payments-v1", f"outbound.{task}", kwargs, "rejected", 2)


@pytest.mark.django_db
class TestOtherTasks:
    """Lookup, sweep, and the drain of dead letters."""

    def test_resolve_call(self, script: Script) -> None:
        """Looks the call up; unknown arguments are tolerated."""
        call = call_in(S.UNKNOWN, script)
        script.lookups.append(Reply({"id": "found"}))
        tasks.resolve_call(call_id=str(call.pk), novelty=1)
        assert reread(call).status == S.SUCCEEDED

    def test_sweep(self, script: Script, time: VirtualTime) -> None:
        """Sweeps, if nobody else does just now."""
        call = call_in(S.RUNNING, script)
        time.passes(seconds=30)
        with periodic_lease("outbound.sweep", seconds=30):
            tasks.sweep(novelty=1)
            assert reread(call).status == S.RUNNING
        tasks.sweep(novelty=1)
        assert reread(call).status == S.RETRYING

    def test_drain_dead_letters(self, script: Script) -> None:
        """With an in-process broker there is nothing to drain."""
        tasks.drain_dead_letters(novelty=1)

    @pytest.mark.parametrize("task", ["deliver_call", "resolve_call"])
    def test_dead_letters_mark_their_call(self, script: Script, task: str) -> None:
        """The row says why nothing came of its message."""
        call, other = enqueue(), enqueue()
        mark_rows(_dead(task, call_id=str(call.pk)))
        assert reread(call).dead_letter_reason == "given up by payments-v1: rejected (2x)"
        assert reread(other).dead_letter_reason == ""

    def test_dead_letters_mark_all_their_calls(self, script: Script) -> None:
        """Those of a message about several; what is no call is passed over."""
        calls = [enqueue() for _ in range(2)]
        mark_rows(_dead("deliver_calls", call_ids=[1, *(str(call.pk) for call in calls), "x"]))
        assert {reread(call).dead_letter_reason for call in calls} == {
            "given up by payments-v1: rejected (2x)"
        }
        nonsense: list[Any] = [None, "x", {}, [[]]]
        for odd in nonsense:
            mark_rows(_dead("deliver_calls", call_ids=odd))

    def test_names(self) -> None:
        """The names are a contract with messages that are under way."""
        for name in (
            "deliver_call",
            "deliver_calls",
            "resolve_call",
            "sweep",
            "drain_dead_letters",
        ):
            assert current_app.tasks[f"outbound.{name}"].name == f"outbound.{name}"

    def test_options(self) -> None:
        """Late acknowledgement, and no limit of Celery's on the row's own retries."""
        task: Any = current_app.tasks["outbound.deliver_call"]
        assert (task.acks_late, task.max_retries, task.ignore_result) == (True, None, True)
        assert task.autoretry_for == (TransientError,)
        assert all(
            current_app.tasks[f"outbound.{name}"].acks_late for name in ("deliver_calls", "sweep")
        )


@pytest.mark.django_db
def test_attempt_limits_are_the_rows(script: Script, settings: Settings) -> None:
    """Messages that the sweep published count from zero; the row does not."""
    settings.OUTBOUND_ADAPTERS = scripted_settings(script, POLICY={"schedule": [0, 0]})
    script.then(*(TransientError("away") for _ in range(5)))
    call = enqueue()
    for _ in range(5):
        with as_worker(call):
            try:
                tasks.deliver_call.run(call_id=str(call.pk))
            except (Retry, Ignore):
                continue
    current_app.control.purge()
    assert reread(call).status == S.FAILED
    assert len(attempts(call)) == 3
