"""A place in RabbitMQ for one test: its URL, and what lies in its queues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from amqp import Channel, Connection
from amqp.exceptions import AMQPError, NotFound
from kombu.utils.url import parse_url

TIMEOUT_SECONDS = 3.0
AWAY = (OSError, AMQPError)  # what a broker raises that is away, frozen or refuses us


class Broker:
    """One virtual host. What it says comes over AMQP, from the broker itself."""

    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self) -> Connection:
        """A connection that gives up on a broker that does not answer within seconds."""
        parts = parse_url(self.url)
        connection = Connection(
            f"{parts['hostname']}:{parts['port'] or 5672}",
            parts["userid"] or "guest",
            parts["password"] or "guest",
            virtual_host=parts["virtual_host"] or "/",
            ssl=parts["transport"] == "amqps",
            connect_timeout=TIMEOUT_SECONDS,
            read_timeout=TIMEOUT_SECONDS,
            write_timeout=TIMEOUT_SECONDS,
        )
        connection.connect()
        return connection

    @contextmanager
    def channel(self) -> Iterator[Channel]:
        with self.connect() as connection:
            yield connection.channel()

    def version(self) -> str:
        """Raises one of AWAY."""
        with self.channel() as channel:
            return str(channel.connection.server_properties["version"])

    def queue_length(self, queue: str) -> int | None:
        """How many messages wait for a consumer; None when there is no such queue."""
        declared = self._look_at(queue)
        return declared[0] if declared else None

    def consumers(self, queue: str) -> int | None:
        """How many consumers it has; None when there is no such queue."""
        declared = self._look_at(queue)
        return declared[1] if declared else None

    def bodies(self, queue: str) -> list[str | bytes]:
        """What the messages say that wait in a queue. They go on waiting."""
        with self.channel() as channel:  # closing it gives them back
            return [message.body for message in iter(lambda: channel.basic_get(queue), None)]

    def purge(self, queue: str) -> int:
        """Throw away what waits in a queue. Returns how many messages that were."""
        with self.channel() as channel:
            return channel.queue_purge(queue) or 0

    def delete(self, queue: str) -> None:
        with self.channel() as channel, suppress(NotFound):
            channel.queue_delete(queue)

    def _look_at(self, queue: str) -> tuple[int, int] | None:
        try:
            with self.channel() as channel:
                declared = channel.queue_declare(queue, passive=True)
        except NotFound:
            return None
        return declared[1:] if declared else None
