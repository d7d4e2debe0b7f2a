"""Hints: broker messages that say "row N may be due". Losing one costs a delay, never a row.

A request never waits for the broker, and never fails because of it: ids go through a bounded
in-process queue to a daemon thread that publishes them. When the queue is full or the broker is
away the hint is dropped; the sweep announces the row again.

With the embedded broker there is nobody to publish to from here: the worker's dispatcher reads
the rows instead.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction

logger = structlog.get_logger(__name__)

CAPACITY = 10_000
JOINED = 32  # ids in one message at the most
GATHERED = 8 * JOINED  # hints looked at together at the most
PACE = 0.1  # seconds between two messages that join ids: a message costs more than a row


@dataclass(frozen=True, slots=True)
class Hint:
    """One message: the task's name, the queue it waits in, and ids as arguments. `countdown`:
    whole seconds after which it shall be delivered. `joins`: the task and its one argument, a list
    of ids, that take several hints which wait for the broker together."""

    task: str
    queue: str
    kwargs: dict[str, Any]
    countdown: int | None = None
    joins: tuple[str, str] | None = field(default=None, compare=False)

    @property
    def can_join(self) -> bool:
        return self.joins is not None and self.countdown is None

    def joined(self, other: Hint) -> Hint | None:
        """Both as one; None where they cannot be."""
        alike = (self.queue, self.joins) == (other.queue, other.joins)
        if self.joins is None or not (alike and self.can_join and other.can_join):
            return None
        task, argument = self.joins
        ids = [*self._ids(), *other._ids()]
        return replace(self, task=task, kwargs={argument: ids}) if len(ids) <= JOINED else None

    def _ids(self) -> list[str]:
        (value,) = self.kwargs.values()
        return value if isinstance(value, list) else [value]


def publish(hint: Hint) -> None:
    """Publish now, on this thread. Raises whatever the broker makes of it."""
    current_app.send_task(
        hint.task,
        kwargs=hint.kwargs,
        queue=hint.queue,
        countdown=hint.countdown,
        mandatory=True,
        retry=False,
    )


class HintPublisher:
    """A bounded queue and the daemon thread that empties it, made anew after a fork."""

    def __init__(
        self,
        publish: Callable[[Hint], None],
        *,
        capacity: int = CAPACITY,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._publish = publish
        self._capacity = capacity
        self._pause = pause
        self._lock = threading.Lock()
        self._pid = 0
        self._queue: queue.Queue[Hint] = queue.Queue(capacity)
        self.dropped = 0

    def put(self, hint: Hint) -> bool:
        """Hand over a hint. Never blocks, never raises; False when it had to be dropped."""
        try:
            if self._pid != os.getpid():
                self._start()
            self._queue.put_nowait(hint)
        except (queue.Full, RuntimeError):  # no room, or no thread to be had
            self.dropped += 1
            return False
        return True

    def waiting(self) -> int:
        return self._queue.qsize()

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            self._queue = queue.Queue(self._capacity)
            thread = threading.Thread(
                target=self._run, args=(self._queue,), name="hint-publisher", daemon=True
            )
            thread.start()
            self._pid = os.getpid()

    def _run(self, hints: queue.Queue[Hint]) -> None:
        gathered_at = -math.inf
        while True:
            found = [hints.get()]
            if found[0].can_join:  # the first goes at once, those that follow closely go together
                early = gathered_at + PACE - time.monotonic()
                if early > 0:
                    self._pause(early)
                gathered_at = time.monotonic()
            found += _waiting(hints, limit=GATHERED)
            for hint in _joined(found):
                self._try_to_publish(hint)

    def _try_to_publish(self, hint: Hint) -> None:
        try:
            self._publish(hint)
        except Exception as error:  # noqa: BLE001 - a broker library may raise anything
            self.dropped += 1
            logger.warning(
                "hint_dropped", task=hint.task, queue=hint.queue, error=type(error).__name__
            )


def _waiting(hints: queue.Queue[Hint], *, limit: int) -> list[Hint]:
    """What waits in the queue now."""
    found: list[Hint] = []
    with suppress(queue.Empty):
        while len(found) < limit:
            found.append(hints.get_nowait())
    return found


def _joined(hints: list[Hint]) -> list[Hint]:
    """As few messages as possible, in the order of the first hint of each."""
    messages: list[Hint] = []
    last: dict[object, int] = {}  # where the message stands that others may join
    for hint in hints:
        kind = (hint.queue, hint.joins)
        both = messages[last[kind]].joined(hint) if kind in last else None
        if both is not None:
            messages[last[kind]] = both
            continue
        if hint.can_join:
            last[kind] = len(messages)
        messages.append(hint)
    return messages


_publisher = HintPublisher(publish)


def reaches_workers() -> bool:
    """Whether a message from this process can reach a worker at all."""
    return not settings.EMBEDDED_BROKER


def grace() -> timedelta:
    """How long a message may take before the sweep announces its row again. Nothing in the
    embedded form, where there are no messages from outside the worker."""
    return timedelta(seconds=settings.OUTBOUND_HINT_GRACE_SECONDS if reaches_workers() else 0)


def announce(hint: Hint) -> None:
    """Publish soon, from the daemon thread, if that can reach a worker. Never blocks, never
    raises."""
    if reaches_workers():
        _publisher.put(hint)


def announce_on_commit(hint: Hint) -> None:
    """Announce when the current transaction commits; at once when there is none."""

    def announce_quietly() -> None:
        try:
            announce(hint)
        except Exception:  # the row is committed: whatever happens here is not the caller's loss
            logger.exception("hint_failed", task=hint.task)

    transaction.on_commit(announce_quietly)
