"""Exchanges and queues, and how they come to be on the broker.

Every working queue is a quorum queue behind one topic exchange, with a limit on deliveries and a
dead-letter queue that no worker consumes. A queue's arguments cannot be changed once it exists:
to change one here, raise the version in its name.
https://www.rabbitmq.com/docs/quorum-queues
"""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

DELIVERY_LIMIT = 20  # a crash of the process is charged to every message it held

work = Exchange("holdfast", type="topic", durable=True)
dead = Exchange("holdfast.dead", type="direct", durable=True)


def queues(names: Iterable[str], *, in_memory: bool = False) -> list[Queue]:
    """The queues that workers consume. `in_memory`: for a broker inside the worker's process,
    which has neither quorums nor dead letters. Raises ValueError for a name with a dot, which
    the delay exchanges would also deliver to the queue named after the dot."""
    return [_queue(name, in_memory=in_memory) for name in names]


def _queue(name: str, *, in_memory: bool) -> Queue:
    if not name or "." in name:
        raise ValueError(f"a queue's name is its routing key and holds no dot: {name!r}")
    arguments = None if in_memory else _arguments(name)
    return Queue(name, work, routing_key=name, durable=True, queue_arguments=arguments)


def _arguments(name: str) -> dict[str, object]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": dead.name,
        "x-dead-letter-routing-key": dead_letter_name(name),
        # at-least-once needs reject-publish: https://www.rabbitmq.com/docs/quorum-queues
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def dead_letter_name(name: str) -> str:
    """The dead-letter queue that belongs to a queue."""
    return f"{name}.dlq"


def dead_letter_queues(names: Iterable[str]) -> list[Queue]:
    """Where the given queues' dead letters wait. Never to be put into `task_queues`: a worker
    would consume them."""
    return [
        Queue(
            dead_letter_name(name),
            dead,
            routing_key=dead_letter_name(name),
            durable=True,
            queue_arguments={"x-queue-type": "quorum"},
        )
        for name in names
    ]


def is_real(connection: Connection) -> bool:
    """Whether messages leave this process."""
    return bool(connection.transport.driver_type == "amqp")


def plan(app: Celery) -> list[str]:
    """What `declare` declares, one line each."""
    working = list(app.amqp.queues.values())
    return [
        f"exchange {work.name} ({work.type})",
        f"exchange {dead.name} ({dead.type})",
        *(f"queue {queue.name}" for queue in dead_letter_queues(q.name for q in working)),
        *(f"queue {queue.name}" for queue in working),
        "exchanges and queues celery_delayed_0 to celery_delayed_27",
    ]


def declare(app: Celery) -> bool:
    """Make everything be there that the app publishes to or consumes from; safe to repeat.

    Returns False when the broker is inside this process and there is nothing to declare. Raises
    what kombu raises when the broker is away, or when a queue of that name has other arguments.
    """
    working = list(app.amqp.queues.values())
    with app.connection_for_write() as connection:
        if not is_real(connection):
            return False
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=1)
        with connection.channel() as channel:
            # before their sources: an at-least-once dead letter waits where its target is missing
            for queue in (*dead_letter_queues(q.name for q in working), *working):
                queue.bind(channel).declare()
        declare_native_delayed_delivery_exchanges_and_queues(
            connection, app.conf.broker_native_delayed_delivery_queue_type
        )
        for queue in working:
            bind_queue_to_native_delayed_delivery_exchange(connection, queue)
    return True
