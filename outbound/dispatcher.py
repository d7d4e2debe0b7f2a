"""The embedded form's hands: a thread in the worker that reads the rows and feeds the tasks.

With an in-process broker nobody can publish to the worker from outside, and a crash takes the
queue along. Neither matters: the rows are the truth, and this thread asks them several times a
second. It also does what beat does elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from celery import Celery, signals
from django.conf import settings
from django.db import close_old_connections, connection

from outbound import hints
from outbound.hints import Hint

logger = structlog.get_logger(__name__)

POLL_SECONDS = 0.1
PAUSE_SECONDS = 1.0  # after a poll that failed


class Backlog(Protocol):
    """A kind of row that waits to be worked on, and what looks after it. `ROWS`: its name."""

    ROWS: str

    def sweep(self, *, limit: int) -> Mapping[str, int]:
        """Repair what is overdue; counts by sort."""

    def overdue(self) -> Mapping[str, int]:
        """How many rows a sweep would take up, by sort."""

    def announce_due(self, *, limit: int, announce: Callable[[Hint], None]) -> int:
        """Announce at most `limit` due rows; returns how many."""

    def forget_announcements(self) -> None:
        """Let rows be announced anew that were announced to a worker that is gone."""


_backlogs: list[Backlog] = []


def backlogs() -> Sequence[Backlog]:
    """All kinds of rows there are."""
    return tuple(_backlogs)


def register_backlog(backlog: Backlog) -> None:
    """Look after another kind of row. Called from AppConfig.ready."""
    if backlog not in _backlogs:
        _backlogs.append(backlog)


class Dispatcher(threading.Thread):
    """Announces due rows, at most `ahead` of them unfinished, and sends the periodic tasks.

    Rows that wait in memory wait under no lease, but they are announced again after a while:
    so no more are taken than will soon be worked on.
    """

    def __init__(self, app: Celery, *, ahead: int) -> None:
        super().__init__(name="dispatcher", daemon=True)
        self._app = app
        self._ahead = ahead
        self._outstanding: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._next_run: dict[str, float] = {}

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
                pause = POLL_SECONDS
            except Exception:  # the thread must outlive a database that is away for a moment
                logger.exception("dispatcher_failed")
                connection.close()
                pause = PAUSE_SECONDS
            self._stopping.wait(pause)
        connection.close()

    def stop(self) -> None:
        self._stopping.set()

    def poll(self) -> int:
        """One round. Returns how many rows were announced."""
        close_old_connections()
        self._send_periodic()
        announced = 0
        for backlog in _backlogs:
            room = self._ahead - len(self._outstanding)
            if room > 0:
                announced += backlog.announce_due(limit=room, announce=self.send)
        return announced

    def send(self, hint: Hint) -> None:
        """Put one message into the in-process broker, and remember it until it is done."""
        task_id = f"{hint.task}-{time.monotonic_ns()}"
        self._publish(hint.task, task_id=task_id, kwargs=hint.kwargs, queue=hint.queue)

    def _publish(self, task: str, *, task_id: str, **options: Any) -> None:
        with self._lock:
            self._outstanding.add(task_id)
        try:
            self._app.send_task(task, task_id=task_id, **options)
        except BaseException:
            self.done(task_id)
            raise

    def done(self, task_id: str) -> None:
        with self._lock:
            self._outstanding.discard(task_id)

    def _send_periodic(self) -> None:
        now = time.monotonic()
        for name, entry in self._app.conf.beat_schedule.items():
            task_id = f"periodic-{name}"
            if now >= self._next_run.get(name, 0) and task_id not in self._outstanding:
                self._next_run[name] = now + float(entry["schedule"])
                self._publish(entry["task"], task_id=task_id)


_dispatcher: Dispatcher | None = None


@signals.worker_ready.connect
def start(*, sender: Any, **_: Any) -> None:
    """Start the dispatcher when a worker of the embedded form is ready."""
    global _dispatcher
    if hints.reaches_workers():
        return
    for backlog in _backlogs:
        backlog.forget_announcements()
    _dispatcher = Dispatcher(sender.app, ahead=ahead())
    _dispatcher.start()


def ahead() -> int:
    return 2 * int(settings.CELERY_WORKER_CONCURRENCY)


@signals.worker_shutting_down.connect
def stop(**_: Any) -> None:
    if _dispatcher is not None:
        _dispatcher.stop()


@signals.task_postrun.connect
def done(*, task_id: str, **_: Any) -> None:
    if _dispatcher is not None:
        _dispatcher.done(task_id)
