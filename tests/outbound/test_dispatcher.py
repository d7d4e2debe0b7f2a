"""The embedded form's hands: rows to tasks, never too many ahead, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from celery import Celery, signals
from django.db import OperationalError
from pytest_django import Settings

from outbound import dispatcher as module
from outbound import sweep
from outbound.dispatcher import Dispatcher, register_backlog
from outbound.hints import Hint
from outbound.models import OutboundCall
from outbound.states import CallStatus
from tests.house.polling import wait_until
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import call_in, enqueue, reread
from tests.outbound.scripted import Script


class App:
    """A Celery app that keeps what is sent."""

    def __init__(self, **beat: dict[str, Any]) -> None:
        self.conf = SimpleNamespace(beat_schedule=beat)
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.refusal: Exception | None = None

    def send_task(self, name: str, **options: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.sent.append((name, options))

    @property
    def ids(self) -> list[str]:
        return [options["task_id"] for _, options in self.sent]


class Consumer:
    """What says that a worker is ready."""

    def __init__(self, app: App) -> None:
        self.app = app


class Rows:
    """A backlog with so many due rows."""

    def __init__(self, due: int = 0) -> None:
        self.due = due
        self.forgotten = 0
        self.trouble: list[Exception] = []

    def announce_due(self, *, limit: int, announce: Callable[[Hint], None]) -> int:
        if self.trouble:
            raise self.trouble.pop(0)
        count = min(self.due, limit)
        for number in range(count):
            announce(Hint("a.task", "a-queue", {"call_id": str(number)}))
        self.due -= count
        return count

    def forget_announcements(self) -> None:
        self.forgotten += 1


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The only backlog there is."""
    rows = Rows()
    monkeypatch.setattr(module, "_backlogs", [rows])
    return rows


def dispatcher(app: App, *, ahead: int = 4) -> Dispatcher:
    return Dispatcher(cast(Celery, app), ahead=ahead)


class TestPoll:
    """One round."""

    def test_at_most_so_many_ahead(self, rows: Rows) -> None:
        """No more rows are announced than will soon be worked on; a finished task makes room."""
        app, rows.due = App(), 10
        dispatching = dispatcher(app, ahead=4)
        assert dispatching.poll() == 4
        assert dispatching.poll() == 0
        dispatching.done(app.ids[0])
        dispatching.done(app.ids[1])
        dispatching.done("somebody else's task")
        assert dispatching.poll() == 2
        assert (len(app.sent), rows.due) == (6, 4)
        assert len(set(app.ids)) == 6

    def test_messages(self, rows: Rows) -> None:
        """Each goes to its queue, with its ids."""
        app, rows.due = App(), 1
        dispatcher(app).poll()
        [(name, options)] = app.sent
        assert (name, options["queue"], options["kwargs"]) == (
            "a.task", "a-queue", {"call_id": "0"},
        )  # fmt: skip

    def test_a_message_that_could_not_be_sent(self, rows: Rows) -> None:
        """It takes no room for ever."""
        app, rows.due = App(), 20
        dispatching = dispatcher(app, ahead=2)
        for _ in range(5):
            app.refusal = OSError("no")
            with pytest.raises(OSError, match="no"):
                dispatching.poll()
        app.refusal = None
        assert dispatching.poll() == 2

    def test_backlogs_share_the_room(self, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        """All kinds of rows together are bounded."""
        other = Rows(due=10)
        rows.due = 3
        monkeypatch.setattr(module, "_backlogs", [rows, other])
        assert dispatcher(App(), ahead=4).poll() == 4
        assert (rows.due, other.due) == (0, 9)

    def test_periodic_tasks(self, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each is sent when its time has come, and not while the last one is unfinished."""
        moment = [100.0]
        monkeypatch.setattr("outbound.dispatcher.time.monotonic", lambda: moment[0])
        app = App(fast={"task": "t.fast", "schedule": 5}, slow={"task": "t.slow", "schedule": 60})
        dispatching = dispatcher(app)

        def poll_at(seconds: float) -> list[str]:
            moment[0] = 100 + seconds
            app.sent.clear()
            dispatching.poll()
            return [name for name, _ in app.sent]

        assert poll_at(0) == ["t.fast", "t.slow"]
        for task_id in app.ids:
            dispatching.done(task_id)
        assert poll_at(4.9) == []
        assert poll_at(5) == ["t.fast"]
        assert poll_at(20) == []
        dispatching.done("periodic-fast")
        assert poll_at(20) == ["t.fast"]
        assert poll_at(60) == ["t.slow"]

    def test_registering_twice(self, rows: Rows) -> None:
        """A backlog is fed once."""
        register_backlog(cast(module.Backlog, rows))
        assert len(module._backlogs) == 1


@pytest.mark.django_db(transaction=True)
class TestThread:
    """The loop."""

    def test_survives_a_database_error(self, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        """A poll that fails is logged, and the next one is made; it ends when it is told to."""
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
        rows.trouble = [OperationalError("gone"), KeyError("a bug")]
        app, rows.due = App(), 1
        dispatching = dispatcher(app)
        with structlog.testing.capture_logs() as lines:
            dispatching.start()
            wait_until(lambda: app.sent)
            dispatching.stop()
            dispatching.join(20)
        assert not dispatching.is_alive()
        assert dispatching.daemon
        assert [line["event"] for line in lines] == ["dispatcher_failed"] * 2


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """An app whose worker gets ready, without the rest of the worker."""
    monkeypatch.setattr(module, "_dispatcher", None)
    yield App()
    if module._dispatcher is not None:
        module._dispatcher.stop()
        module._dispatcher.join(20)


@pytest.mark.django_db(transaction=True)
class TestSignals:
    """It lives and dies with the worker."""

    def test_embedded(self, rows: Rows, started: App, settings: Settings) -> None:
        """It starts when the worker is ready, forgets what an earlier worker was told, counts
        what is done, and stops with the worker."""
        settings.EMBEDDED_BROKER = True
        settings.CELERY_WORKER_CONCURRENCY = 3
        rows.due = 20
        signals.worker_ready.send(sender=Consumer(started))
        assert rows.forgotten == 1
        running = module._dispatcher
        assert running is not None
        wait_until(lambda: len(started.sent) == 6)
        signals.task_postrun.send(sender=None, task_id=started.ids[0])
        wait_until(lambda: len(started.sent) == 7)
        signals.worker_shutting_down.send(sender=None)
        running.join(20)
        assert not running.is_alive()

    def test_with_a_broker(self, rows: Rows, started: App, settings: Settings) -> None:
        """With a broker of its own nobody polls."""
        settings.EMBEDDED_BROKER = False
        signals.worker_ready.send(sender=Consumer(started))
        assert module._dispatcher is None
        assert rows.forgotten == 0
        signals.task_postrun.send(sender=None, task_id="x")
        signals.worker_shutting_down.send(sender=None)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_calls(
    script: Script, time: VirtualTime, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls' own backlog: due rows and look-ups, each once, and again after a new start."""
    settings.EMBEDDED_BROKER = True
    monkeypatch.setattr(module, "_backlogs", [sweep])
    waiting, unknown = enqueue(), call_in(CallStatus.UNKNOWN, script)
    app = App()
    dispatching = dispatcher(app, ahead=10)
    assert dispatching.poll() == 2
    assert dispatching.poll() == 0
    assert [(name, options["kwargs"]["call_id"]) for name, options in app.sent] == [
        ("outbound.deliver_call", str(waiting.pk)),
        ("outbound.resolve_call", str(unknown.pk)),
    ]
    assert reread(waiting).hint_at > time.now
    sweep.forget_announcements()
    assert dispatching.poll() == 1
    assert OutboundCall.objects.count() == 2
