"""Many hands at once: one row, one effect, and nobody waits who need not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from django.db import connection, transaction
from django.utils import timezone

from outbound import clock
from tests.webhooks.deliveries import signature, stripe_body
from tests.webhooks.effects import effects, leave_effect
from tests.webhooks.rows import make_event
from webhooks import engine, services, sweep
from webhooks.errors import IllegalMove
from webhooks.handlers import Event, handles
from webhooks.models import WebhookEvent
from webhooks.services import Received
from webhooks.states import EventStatus

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

DELIVERIES = 20
SECONDS = 30.0
TYPE = "payment_intent.succeeded"

T = TypeVar("T")


def at_once(call: Callable[[], T], *, times: int) -> list[T]:
    """The answers of many threads that start together."""
    barrier = threading.Barrier(times)

    def run() -> T:
        barrier.wait(SECONDS)
        return in_own_connection(call)

    with ThreadPoolExecutor(times) as pool:
        return [future.result() for future in [pool.submit(run) for _ in range(times)]]


def in_own_connection(call: Callable[[], T]) -> T:
    """Call, and give back the thread's database connection."""
    try:
        return call()
    finally:
        connection.close()


@contextmanager
def meanwhile(call: Callable[[], T]) -> Iterator[Future[T]]:
    """Another thread calls while the block runs; its answer is awaited at the end."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(in_own_connection, call)
        try:
            yield future
        finally:
            future.exception(SECONDS)


def deliver(body: bytes) -> Received:
    headers = {"Stripe-Signature": signature(body)}
    return services.receive(source="stripe", body=body, headers=headers, now=timezone.now())


def test_equal_deliveries_at_once() -> None:
    """Twenty of them: one row, one of them is the first, and all are acknowledged."""
    body = stripe_body(id="evt_1")
    answers = at_once(lambda: deliver(body), times=DELIVERIES)
    row = WebhookEvent.objects.get()
    assert {answer.events for answer in answers} == {(row.pk,)}
    assert [answer.duplicate for answer in answers].count(False) == 1
    assert 1 <= row.deliveries_seen <= DELIVERIES


def test_duplicates_of_a_failed_event_at_once() -> None:
    """It is armed once, and handled once."""
    handles("stripe", TYPE)(leave_effect)
    row = make_event(event_id="evt_1", status=EventStatus.FAILED, attempts=9)
    body = stripe_body(id="evt_1")
    answers = at_once(lambda: deliver(body), times=8)
    assert all(answer.duplicate for answer in answers)
    at_once(lambda: engine.process(str(row.pk)), times=8)
    row.refresh_from_db()
    assert (row.status, row.attempts, effects()) == (EventStatus.PROCESSED, 10, 1)


def test_equal_hints_at_once() -> None:
    """One worker takes the event, the others find nothing to do."""
    handles("stripe", TYPE)(leave_effect)
    row = make_event()
    verdicts = at_once(lambda: engine.process(str(row.pk)), times=8)
    assert [verdict is None for verdict in verdicts].count(False) == 1
    row.refresh_from_db()
    assert (row.status, row.attempts, effects()) == (EventStatus.PROCESSED, 1, 1)


def test_replays_at_once() -> None:
    """One is carried out, the others are told that it is not finished."""
    row = make_event(status=EventStatus.PROCESSED)

    def replay() -> bool:
        try:
            services.replay_event(event_id=row.pk, actor="anna")
        except IllegalMove:
            return False
        return True

    assert at_once(replay, times=8).count(True) == 1
    assert row.notes.count() == 1


def test_sweeps_at_once() -> None:
    """Two schedulers do no harm: each event is announced by one of them."""
    ids = {str(make_event().pk) for _ in range(20)}
    lists = at_once(announcements, times=4)
    assert sorted(event_id for found in lists for event_id in found) == sorted(ids)


def announcements() -> list[str]:
    found: list[str] = []
    sweep.announce_due(announce=lambda hint: found.extend(hint.kwargs["event_ids"]))
    return found


def test_what_a_handler_wanted_after_the_commit_fails() -> None:
    """The event is done: nothing that comes after the commit makes it happen again."""
    row = make_event()

    @handles("stripe", TYPE)
    def handler(event: Event) -> None:
        leave_effect(event)
        transaction.on_commit(fail)

    def fail() -> None:
        raise LookupError

    for _ in range(2):
        engine.process(str(row.pk))
    row.refresh_from_db()
    assert (row.status, row.attempts, row.error) == (EventStatus.PROCESSED, 1, "")
    assert effects() == 1


class SlowHandler:
    """A handler that is at work until it is let go."""

    def __init__(self) -> None:
        self.at_work = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, event: Event) -> None:
        leave_effect(event)
        self.at_work.set()
        assert self.let_go.wait(SECONDS)


@pytest.fixture
def slow() -> Iterator[SlowHandler]:
    handler = SlowHandler()
    handles("stripe", TYPE)(handler)
    yield handler
    handler.let_go.set()


@pytest.mark.postgresql
def test_a_duplicate_does_not_wait_for_the_handler(slow: SlowHandler) -> None:
    """It is acknowledged while the first is still being processed, and does nothing to it."""
    row = make_event(event_id="evt_1")
    with meanwhile(lambda: engine.process(str(row.pk))):
        assert slow.at_work.wait(SECONDS)
        answer = deliver(stripe_body(id="evt_1"))
        assert WebhookEvent.objects.get().status == EventStatus.PROCESSING
        slow.let_go.set()
    assert answer.duplicate
    row.refresh_from_db()
    assert (row.status, row.attempts, effects()) == (EventStatus.PROCESSED, 1, 1)


@pytest.mark.postgresql
def test_a_slow_handler_is_not_started_twice(slow: SlowHandler) -> None:
    """Its lease has run out, but it is alive and holds the row: the sweep leaves it alone."""
    row = make_event()
    with meanwhile(lambda: engine.process(str(row.pk))):
        assert slow.at_work.wait(SECONDS)
        with clock.use(in_an_hour):
            assert sweep.expire_leases() == 0
            assert engine.process(str(row.pk)) is None
        slow.let_go.set()
    row.refresh_from_db()
    assert (row.status, row.attempts, effects()) == (EventStatus.PROCESSED, 1, 1)


@pytest.mark.postgresql
def test_a_worker_that_wakes_up_while_another_is_at_work(slow: SlowHandler) -> None:
    """It has lost its lease: it neither waits for the other one nor repeats it."""
    row = make_event()
    frozen = engine.claim_event(row.pk)
    assert frozen
    with clock.use(in_an_hour):
        sweep.expire_leases()
    WebhookEvent.objects.update(due_at=timezone.now())
    with meanwhile(lambda: engine.process(str(row.pk))):
        assert slow.at_work.wait(SECONDS)
        assert engine.handle(frozen) is None
        slow.let_go.set()
    row.refresh_from_db()
    assert (row.status, row.attempts, effects()) == (EventStatus.PROCESSED, 2, 1)


def in_an_hour() -> datetime:
    return timezone.now() + timedelta(hours=1)
