"""Hints never hold up a request, and losing one costs a delay, never a row."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from celery import signals
from django.db import transaction
from pytest_django import Settings

from outbound import hints
from outbound.hints import Hint, HintPublisher, announce, announce_on_commit
from outbound.ids import uuid7
from outbound.models import OutboundCall
from outbound.parking import deliver_hint
from outbound.services import enqueue_call
from tests.house.polling import wait_until
from tests.outbound.rows import PAYLOAD
from tests.outbound.scripted import Script

LONG = 30.0


def hint(number: int) -> Hint:
    return Hint("outbound.deliver_call", "payments-v1", {"call_id": str(number)})


def listed(number: int, *, countdown: int | None = None) -> Hint:
    return Hint(
        "webhooks.process",
        "webhooks-v1",
        {"ids": [str(number)]},
        countdown,
        ("webhooks.process", "ids"),
    )


class Broker:
    """What a publisher publishes to: it can be frozen, or refuse."""

    def __init__(self) -> None:
        self.published: list[Hint] = []
        self.refusals: list[BaseException] = []
        self.arrived = threading.Semaphore(0)
        self.thawed = threading.Event()
        self.thawed.set()

    def __call__(self, hint: Hint) -> None:
        self.arrived.release()
        assert self.thawed.wait(LONG)
        if self.refusals:
            raise self.refusals.pop(0)
        self.published.append(hint)


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.thawed.set()


class TestPublisher:
    """A bounded queue, and the thread that empties it."""

    def test_in_order(self, broker: Broker) -> None:
        """What was put in comes out, in order, on another thread."""
        publisher = HintPublisher(broker)
        for number in range(100):
            assert publisher.put(hint(number))
        wait_until(lambda: len(broker.published) == 100)
        assert broker.published == [hint(number) for number in range(100)]
        assert (publisher.dropped, publisher.waiting()) == (0, 0)

    def test_joined(self, broker: Broker) -> None:
        """What waits for the broker at the same time goes in one message, in order, as far as it
        is alike, whatever stands between; each message has a bound."""
        broker.thawed.clear()
        publisher = HintPublisher(broker, pause=lambda seconds: None)
        assert publisher.put(listed(0))
        assert broker.arrived.acquire(timeout=LONG)
        others = [hint(1), listed(2, countdown=3), listed(3, countdown=3), hint(4)]
        for each in [*map(listed, range(1, 4)), *others, *map(listed, range(4, 54))]:
            assert publisher.put(each)
        broker.thawed.set()
        wait_until(lambda: len(broker.published) == 7)
        first, *joined = [list(map(int, each.kwargs.get("ids", []))) for each in broker.published]
        assert first == [0]
        assert joined == [[*range(1, 33)], [], [2], [3], [], [*range(33, 54)]]

    def test_calls_join(self, script: Script, settings: Settings, broker: Broker) -> None:
        """Calls that wait together are told of in one message of another task; those of another
        queue are not among them, and do not come between."""
        broker.thawed.clear()
        publisher = HintPublisher(broker, pause=lambda seconds: None)
        payments, mail = (
            OutboundCall(adapter=adapter, id=uuid7()) for adapter in ("scripted", "unknown")
        )
        assert publisher.put(hint(0))
        assert broker.arrived.acquire(timeout=LONG)
        for call in (payments, mail, payments, mail):
            assert publisher.put(deliver_hint(call))
        assert publisher.put(deliver_hint(payments, countdown=1))
        broker.thawed.set()
        wait_until(lambda: len(broker.published) == 4)
        told = [(each.task, each.queue, each.kwargs) for each in broker.published[1:]]
        paid, sent = str(payments.pk), str(mail.pk)
        assert told == [
            ("outbound.deliver_calls", "payments-v1", {"call_ids": [paid, paid]}),
            ("outbound.deliver_calls", settings.MAINTENANCE_QUEUE, {"call_ids": [sent, sent]}),
            ("outbound.deliver_call", "payments-v1", {"call_id": paid}),
        ]

    def test_at_their_pace(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first one goes at once. Those that follow closely wait for each other, and go
        together, though the broker would keep up with each."""
        paused, over = threading.Semaphore(0), threading.Event()

        def pause(seconds: float) -> None:
            assert 0 < seconds <= LONG
            paused.release()
            assert over.wait(LONG)

        monkeypatch.setattr(hints, "PACE", LONG)
        publisher = HintPublisher(broker, pause=pause)
        assert publisher.put(listed(0))
        wait_until(lambda: broker.published == [listed(0)])
        assert publisher.put(listed(1))
        assert paused.acquire(timeout=LONG)
        for number in range(2, 6):
            assert publisher.put(listed(number))
        over.set()
        wait_until(lambda: len(broker.published) == 2)
        assert broker.published[1].kwargs == {"ids": ["1", "2", "3", "4", "5"]}

    def test_what_cannot_be_joined(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hints that go one by one are not held back."""
        monkeypatch.setattr(hints, "PACE", LONG)
        publisher = HintPublisher(broker)
        for number in range(3):
            assert publisher.put(hint(number))
        wait_until(lambda: len(broker.published) == 3)

    def test_a_frozen_broker(self, broker: Broker) -> None:
        """While one hint hangs in the broker, others wait, and beyond the bound are dropped;
        nobody who puts one in is held up. Afterwards what waited is sent."""
        broker.thawed.clear()
        publisher = HintPublisher(broker, capacity=5)
        assert publisher.put(hint(0))
        assert broker.arrived.acquire(timeout=LONG)
        taken = [publisher.put(hint(number)) for number in range(1, 10)]
        assert taken == [True] * 5 + [False] * 4
        assert (publisher.dropped, publisher.waiting()) == (4, 5)
        broker.thawed.set()
        wait_until(lambda: len(broker.published) == 6)
        assert publisher.put(hint(10))
        wait_until(lambda: broker.published[-1] == hint(10))

    def test_a_broker_that_refuses(self, broker: Broker) -> None:
        """Whatever the broker's library raises, the thread lives on, and it is said."""
        broker.refusals = [OSError("gone"), KeyError("what?"), TimeoutError("slow")]
        publisher = HintPublisher(broker)
        with structlog.testing.capture_logs() as lines:
            for number in range(5):
                publisher.put(hint(number))
            wait_until(lambda: len(broker.published) == 2)
        assert broker.published == [hint(3), hint(4)]
        assert publisher.dropped == 3
        assert [line["error"] for line in lines] == ["OSError", "KeyError", "TimeoutError"]

    def test_no_thread_to_be_had(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system gives no thread the hint is dropped, and the next one tries again."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        publisher = HintPublisher(broker)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert not publisher.put(hint(0))
        assert publisher.dropped == 1
        assert publisher.put(hint(1))
        wait_until(lambda: broker.published == [hint(1)])

    def test_many_threads(self, broker: Broker) -> None:
        """Threads that begin at once share one publishing thread, and nothing is lost."""
        publisher = HintPublisher(broker)
        together = threading.Barrier(16)

        def put() -> None:
            together.wait(LONG)
            for number in range(50):
                assert publisher.put(hint(number))

        threads = [threading.Thread(target=put) for _ in range(16)]
        before = {t for t in threading.enumerate() if t.name == "hint-publisher"}
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(broker.published) == 800)
        started = {t for t in threading.enumerate() if t.name == "hint-publisher"} - before
        assert len(started) == 1
        assert all(thread.daemon for thread in started)

    def test_after_a_fork(self, broker: Broker) -> None:
        """A child process has a queue and a thread of its own: the parent's hints are not sent
        twice, and its own are sent."""
        broker.thawed.clear()
        reading, writing = os.pipe()
        parent, told = os.getpid(), threading.Event()

        def publish(hint: Hint) -> None:
            if os.getpid() == parent:
                broker(hint)
            else:
                os.write(writing, hint.kwargs["call_id"].encode() + b" ")
                told.set()

        publisher = HintPublisher(publish)
        for number in range(3):
            publisher.put(hint(number))
        assert broker.arrived.acquire(timeout=LONG)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
            child = os.fork()
        if child == 0:
            publisher.put(hint(77))
            os._exit(0 if told.wait(LONG) else 1)
        assert os.waitpid(child, 0)[1] == 0
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read().split() == [b"77"]
        broker.thawed.set()
        wait_until(lambda: len(broker.published) == 3)


class TestAnnouncing:
    """The doors through which the engine speaks of its rows."""

    def test_embedded(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no message reaches a worker none is sent."""
        put: list[Hint] = []
        monkeypatch.setattr(hints._publisher, "put", put.append)
        settings.EMBEDDED_BROKER = True
        announce(hint(1))
        assert put == []
        settings.EMBEDDED_BROKER = False
        announce(hint(1))
        assert put == [hint(1)]

    @pytest.mark.both_databases
    @pytest.mark.django_db(transaction=True)
    def test_nothing_goes_wrong_after_the_commit(
        self, script: Script, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever happens to the hint, the caller's commit stands, and the hooks after it run."""

        def fail(_: Hint) -> bool:
            raise MemoryError("no room")

        settings.EMBEDDED_BROKER = False
        monkeypatch.setattr(hints._publisher, "put", fail)
        later: list[str] = []
        with structlog.testing.capture_logs() as lines, transaction.atomic():
            call = enqueue_call(adapter="scripted", operation="create", payload=PAYLOAD)
            transaction.on_commit(lambda: later.append("ran"))
        call.refresh_from_db()
        assert later == ["ran"]
        assert [line["event"] for line in lines] == ["hint_failed"]

    @pytest.mark.django_db(transaction=True)
    def test_with_a_transaction_and_without(self, announced: list[Hint]) -> None:
        """At the commit, or at once when there is nothing to commit."""
        announce_on_commit(hint(1))
        assert announced == [hint(1)]
        with transaction.atomic():
            announce_on_commit(hint(2))
            assert announced == [hint(1)]
        assert announced == [hint(1), hint(2)]


class TestMessage:
    """What goes over the wire."""

    @pytest.fixture
    def sent(self) -> Iterator[list[dict[str, Any]]]:
        """Every message that Celery is about to publish."""
        messages: list[dict[str, Any]] = []

        def spy(**message: Any) -> None:
            messages.append(message)

        signals.before_task_publish.connect(spy, weak=False)
        yield messages
        signals.before_task_publish.disconnect(spy)

    def test_ids_and_nothing_else(self, sent: list[dict[str, Any]]) -> None:
        """Task, queue and id; asked back when no queue takes it; not retried by Celery."""
        hints.publish(hint(7))
        [message] = sent
        assert message["sender"] == "outbound.deliver_call"
        assert message["body"][:2] == ((), {"call_id": "7"})
        assert message["routing_key"] == "payments-v1"
        assert message["headers"]["eta"] is None

    def test_later(self, sent: list[dict[str, Any]]) -> None:
        """A hint may be delivered later."""
        hints.publish(Hint("outbound.deliver_call", "payments-v1", {"call_id": "7"}, countdown=5))
        assert sent[0]["headers"]["eta"] is not None

    def test_from_any_thread(self, sent: list[dict[str, Any]]) -> None:
        """The publishing thread uses the project's app, with its queues."""
        thread = threading.Thread(target=hints.publish, args=(hint(8),))
        thread.start()
        thread.join()
        assert sent[0]["exchange"] == "holdfast"
