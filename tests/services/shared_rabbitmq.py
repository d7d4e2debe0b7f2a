"""A RabbitMQ that may be somebody else's, for tests that break nothing."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

from amqp import Connection
from amqp.exceptions import ResourceLocked
from django.conf import settings

from outbound.topology import dead, dead_letter_name, work
from tests.services.broker import AWAY, Broker
from tests.services.missing import ServiceMissing

LOCAL = "amqp://guest:guest@127.0.0.1:5672//"
LOCK = "holdfast-tests"


class SharedBroker(Broker):
    """A broker for tests that break nothing, perhaps somebody else's. We keep to the queues of the
    project, one test session at a time, and remove them around each test."""

    def __init__(self, url: str, *, origin: str) -> None:
        super().__init__(url)
        self.origin = origin
        try:
            self._version = self.version()
            self._lock = self._take_lock()
        except AWAY as error:
            raise ServiceMissing(_in_words(error)) from error

    def __str__(self) -> str:
        return f"RabbitMQ {self._version} {self.origin}"

    def in_use(self) -> bool:
        """Whether removing the project's queues would harm somebody."""
        return any(self.queue_length(name) or self.consumers(name) for name in our_queues())

    def clean(self) -> None:
        """Remove what the project declares, but for the delay queues, which any Celery shares."""
        for name in our_queues():
            self.delete(name)
        with self.channel() as channel:
            for exchange in (work, dead):
                channel.exchange_delete(exchange.name)

    def close(self) -> None:
        """Let another session use it."""
        with suppress(*AWAY):  # it may have been killed meanwhile
            self._lock.close()

    def _take_lock(self) -> Connection:
        """An exclusive queue belongs to one connection, and goes when that ends."""
        lock = self.connect()
        try:
            lock.channel().queue_declare(LOCK, exclusive=True)
        except ResourceLocked:
            lock.close()
            raise ServiceMissing("another test session uses it") from None
        return lock


def our_queues() -> list[str]:
    names = [queue.name for queue in settings.CELERY_TASK_QUEUES]
    return [*names, *map(dead_letter_name, names)]


def find_rabbitmq(named: str | None) -> SharedBroker:
    """The broker that TEST_BROKER_URL names, else one at the standard local port if nobody's
    queues would be touched.

    Raises ServiceMissing, also when the named one is of no use: it was asked for.
    """
    if named:
        place = _place(named)
        try:
            broker = SharedBroker(named, origin=f"at {place} (TEST_BROKER_URL)")
        except ServiceMissing as missing:
            raise ServiceMissing(f"TEST_BROKER_URL ({place}): {missing}") from None
        broker.clean()
        return broker
    try:
        broker = SharedBroker(LOCAL, origin="at 127.0.0.1:5672")
    except ServiceMissing as missing:
        raise ServiceMissing(f"127.0.0.1:5672: {missing}") from None
    if broker.in_use():
        broker.close()
        raise ServiceMissing(
            "127.0.0.1:5672: this project's queues there are in use, perhaps by a running stack"
        )
    return broker


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5672}"


def _in_words(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
