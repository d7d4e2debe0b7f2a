"""Dead letters: messages that the broker or a worker gave up. Suspects, not verdicts.

Draining them marks the rows they speak of and takes the messages away: people retry rows, not
messages, and the sweep looks after rows without being told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import structlog
from celery import Celery
from django.db import InterfaceError, OperationalError
from kombu import Connection
from kombu.message import Message

from outbound.redaction import sanitise
from outbound.topology import dead_letter_queues, is_real

logger = structlog.get_logger(__name__)

LONGEST_BODY = 65_536
EXPIRED = "expired"  # periodic work that nobody took in time: there has been a next time since


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a message said, and why it ended here.

    `task` and `kwargs` are what the publisher wrote: look ids up, trust nothing. `reason` is the
    broker's word: rejected, expired, maxlen or delivery_limit; `count` how often it happened.
    """

    queue: str
    task: str
    kwargs: dict[str, Any]
    reason: str
    count: int


class Unreadable(ValueError):
    """The message is not one of ours."""


Mark = Callable[[DeadLetter], None]
_marks: dict[str, Mark] = {}


def on_dead_letter(task: str) -> Callable[[Mark], Mark]:
    """Let a function mark the rows that a dead message of this task speaks of."""

    def register(mark: Mark) -> Mark:
        _marks[task] = mark
        return mark

    return register


def mark_rows(letter: DeadLetter) -> None:
    """Do what the letter's task has registered; nothing where it has not.

    Raises database trouble, so that the message is kept. Any other failure is logged: its message
    would fail again for ever, and hold up those behind it.
    """
    mark = _marks.get(letter.task)
    if mark is None:
        return
    try:
        mark(letter)
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # whatever stood in the message, the row is swept all the same
        logger.exception("dead_letter_not_marked", task=letter.task, queue=letter.queue)


def drain(app: Celery, *, limit: int, mark: Mark) -> int:
    """Take up to `limit` dead letters, call `mark` with each, and then acknowledge it.

    Returns how many were taken. What cannot be read is logged and acknowledged too, without
    `mark`; so is what merely expired. When `mark` raises, its message stays on the broker and the
    error goes on to the caller. Raises what kombu raises when the broker is away.
    """
    names = [queue.name for queue in app.amqp.queues.values()]
    taken = 0
    with app.connection_for_write() as connection:
        if not is_real(connection):
            return 0
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=1)
        for name in names:
            taken += _drain_queue(connection, name, limit=limit - taken, mark=mark)
    return taken


def _drain_queue(connection: Connection, name: str, *, limit: int, mark: Mark) -> int:
    taken = 0
    # Closing the channel gives back the message whose `mark` failed.
    with cast(Any, connection.channel()) as channel:
        (queue,) = dead_letter_queues([name])
        bound = queue.bind(channel)
        bound.declare()
        while taken < limit and (raw := channel.basic_get(bound.name)) is not None:
            message = channel.message_to_python(raw)
            _take(message, name, mark)
            message.ack()
            taken += 1
    return taken


def _take(message: Message, queue: str, mark: Mark) -> None:
    try:
        letter = read(message.headers, message.body, queue=queue)
    except Unreadable as error:
        logger.warning("dead_letter_unreadable", queue=queue, size=_size(message), why=str(error))
        return
    if letter.reason == EXPIRED:
        return
    logger.warning(
        "dead_letter",
        queue=queue,
        task=sanitise(letter.task, limit=100),
        reason=sanitise(letter.reason, limit=100),
        count=letter.count,
    )
    mark(letter)


def _size(message: Message) -> int:
    return len(message.body) if isinstance(message.body, bytes | str) else 0


def read(headers: object, body: object, *, queue: str) -> DeadLetter:
    """A dead letter out of a message as Celery wrote it. Raises Unreadable.

    https://docs.celeryq.dev/en/stable/internals/protocol.html
    """
    if not isinstance(headers, Mapping) or not isinstance(headers.get("task"), str):
        raise Unreadable("it names no task")
    if not isinstance(body, bytes | str) or len(body) > LONGEST_BODY:
        raise Unreadable("its body is too long, or none")
    try:
        parts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("its body is no JSON") from error
    kwargs = parts[1] if isinstance(parts, list) and len(parts) > 1 else None
    if not isinstance(kwargs, dict):
        raise Unreadable("it holds no named arguments")
    death = _death(headers.get("x-death"), queue)
    count = death.get("count")
    return DeadLetter(
        queue=queue,
        task=headers["task"],
        kwargs=kwargs,
        reason=str(death.get("reason", "unknown")),
        count=count if isinstance(count, int) else 1,
    )


def _death(deaths: object, queue: str) -> Mapping[str, Any]:
    """The entry about our queue: after a delay the first one speaks of the delay's queue."""
    entries = deaths if isinstance(deaths, list) else []
    return next(
        (entry for entry in entries if isinstance(entry, Mapping) and entry.get("queue") == queue),
        {},
    )
