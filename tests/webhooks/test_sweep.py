"""The repair and the tasks: what is due is announced, and a lost message costs a delay at most."""

from __future__ import annotations

import math
import uuid
from datetime import timedelta

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.db import OperationalError
from pytest_django import Settings

from outbound import dispatcher
from outbound.dead_letters import DeadLetter, mark_rows
from outbound.hints import Hint
from outbound.leases import periodic_lease
from tests.webhooks.conftest import Clock
from tests.webhooks.effects import effects, leave_effect
from tests.webhooks.rows import make_event
from webhooks import engine, sweep, tasks
from webhooks.errors import NotYet
from webhooks.handlers import Event, handles
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

TASK, QUEUE = "webhooks.process_events", "webhooks-v1"
TYPE = "payment_intent.succeeded"


def announced(*, limit: int = 100) -> list[str]:
    """The ids that one sweep announces."""
    found: list[str] = []
    count = sweep.announce_due(
        limit=limit, announce=lambda hint: found.extend(hint.kwargs["event_ids"])
    )
    assert count == len(found)
    return found


@pytest.mark.parametrize("status", list(EventStatus))
def test_what_waits_and_is_due_is_announced(status: EventStatus) -> None:
    """And nothing else."""
    row = make_event(status=status)
    waits = status in (EventStatus.RECEIVED, EventStatus.RETRYING)
    assert announced() == ([str(row.pk)] if waits else [])


def test_what_is_due_later_is_announced_later(virtual: Clock) -> None:
    """Neither before it is due, nor while a message about it is on its way."""
    due_at = virtual.now + timedelta(seconds=60)
    row = make_event(due_at=due_at, hint_at=due_at + timedelta(seconds=10))
    for seconds, expected in ((59, []), (1, []), (9, []), (1, [str(row.pk)])):
        virtual.forward(seconds)
        assert announced() == expected


def test_nothing_is_announced_over_and_over(virtual: Clock) -> None:
    """A long queue is announced again after a while, not with every sweep."""
    row = make_event()
    assert announced() == [str(row.pk)]
    virtual.forward(django_settings.OUTBOUND_REANNOUNCE_SECONDS - 1)
    assert announced() == []
    virtual.forward(1)
    assert announced() == [str(row.pk)]


def test_batches_are_bounded_and_the_oldest_come_first(virtual: Clock) -> None:
    """However many are overdue."""
    rows = []
    for _ in range(5):
        rows.append(str(make_event().pk))
        virtual.forward(1)
    assert announced(limit=2) == rows[:2]
    assert announced(limit=2) == rows[2:4]
    assert announced(limit=2) == rows[4:]


def test_announcements_of_a_dead_worker_are_forgotten(virtual: Clock) -> None:
    """What was announced into its memory is announced anew; what is not due stays as it is."""
    due = make_event()
    later = make_event(due_at=virtual.now + timedelta(hours=1))
    announced()
    sweep.forget_announcements()
    assert announced() == [str(due.pk)]
    later.refresh_from_db()
    assert later.due_at > virtual.now


def test_the_dispatcher_feeds_on_events() -> None:
    """In the embedded form the rows are asked, not a broker."""
    assert sweep in dispatcher._backlogs


def test_one_sort_that_fails_does_not_keep_the_other_from_being_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is raised afterwards."""
    make_event()
    hints: list[Hint] = []

    def away(*, limit: int) -> int:
        raise OperationalError

    monkeypatch.setattr(sweep, "expire_leases", away)
    with pytest.raises(ExceptionGroup) as caught:
        sweep.sweep(announce=hints.append)
    assert caught.group_contains(OperationalError)
    assert len(hints) == 1


def test_the_task_sweeps(published: list[Hint]) -> None:
    """Under a lease, so that two schedulers do it once."""
    row = make_event()
    with periodic_lease("webhooks.sweep_events", seconds=30):
        current_app.tasks["webhooks.sweep_events"].apply(kwargs={"new": 1}, throw=True)
        assert published == []
    current_app.tasks["webhooks.sweep_events"].apply(kwargs={"new": 1}, throw=True)
    assert published == [Hint(TASK, QUEUE, {"event_ids": [str(row.pk)]})]


def test_the_queue_exists() -> None:
    """The message can be routed."""
    assert QUEUE in {queue.name for queue in django_settings.CELERY_TASK_QUEUES}
    assert TASK in current_app.tasks


def run(*event_ids: object) -> None:
    """The task, as a worker runs it, with an argument of tomorrow."""
    kwargs = {"event_ids": [str(event_id) for event_id in event_ids], "new": {"a": 1}}
    current_app.tasks[TASK].apply(kwargs=kwargs, throw=True)


def test_one_message_about_many_events(published: list[Hint]) -> None:
    """Each has its own transaction and its own retry: one that fails, one that is gone and one
    that is no id do not touch their neighbours."""
    handles("stripe", TYPE)(leave_effect)

    @handles("stripe", "bad")
    def fails(event: Event) -> None:
        raise LookupError

    good = [make_event() for _ in range(3)]
    bad = make_event(event_type="bad")
    run(good[0].pk, bad.pk, uuid.uuid4(), good[1].pk, "no id", good[2].pk)
    for row in good:
        row.refresh_from_db()
        assert row.status == EventStatus.PROCESSED
    assert effects() == 3
    assert [hint.kwargs for hint in published] == [{"event_ids": [str(bad.pk)]}]


def test_a_database_that_goes_away_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task does not fail: the rows are left to the sweep."""
    rows = [make_event(), make_event()]
    tried: list[str] = []

    def away(event_id: str) -> None:
        tried.append(event_id)
        raise OperationalError

    monkeypatch.setattr(engine, "process", away)
    run(*(row.pk for row in rows))
    assert tried == [str(row.pk) for row in rows]


@pytest.mark.parametrize("failures,message", [(0, True), (2, True), (4, False), (8, False)])
def test_a_retry_is_announced_by_a_message_in_time(
    published: list[Hint], virtual: Clock, failures: int, message: bool
) -> None:
    """Up to five minutes ahead; a longer wait is left to the row and the sweep."""

    @handles("stripe", TYPE)
    def fails(event: Event) -> None:
        raise LookupError

    row = make_event(failures=failures)
    run(row.pk)
    row.refresh_from_db()
    wait = math.ceil((row.due_at - virtual.now).total_seconds())
    expected = [Hint(TASK, QUEUE, {"event_ids": [str(row.pk)]}, wait)] if message else []
    assert published == expected
    if message:
        grace = timedelta(seconds=django_settings.OUTBOUND_HINT_GRACE_SECONDS)
        assert row.hint_at == row.due_at + grace
    elif row.status == EventStatus.RETRYING:
        assert row.hint_at == row.due_at


def test_too_early_is_announced_too(published: list[Hint]) -> None:
    """The tries within two minutes are prompt."""

    @handles("stripe", TYPE)
    def too_early(event: Event) -> None:
        raise NotYet("x")

    row = make_event()
    run(row.pk)
    [hint] = published
    assert hint.kwargs == {"event_ids": [str(row.pk)]}
    assert hint.countdown in (2, 3)


def test_without_a_broker_the_dispatcher_reads_the_row(settings: Settings, virtual: Clock) -> None:
    """No grace for a message that nobody sends."""
    settings.EMBEDDED_BROKER = True

    @handles("stripe", TYPE)
    def fails(event: Event) -> None:
        raise LookupError

    row = make_event()
    run(row.pk)
    row.refresh_from_db()
    assert row.hint_at == row.due_at
    virtual.now = row.due_at
    assert announced() == [str(row.pk)]


def test_a_crash_that_is_swept_is_announced_by_the_same_sweep(virtual: Clock) -> None:
    """It was our fault: no waiting."""
    row = make_event()
    engine.claim_event(row.pk)
    virtual.forward(django_settings.OUTBOUND_LEASE_SECONDS)
    hints: list[Hint] = []
    done = sweep.sweep(announce=hints.append)
    assert done == {"leases_expired": 1, "bursts_settled": 0, "announced": 1}
    assert hints == [Hint(TASK, QUEUE, {"event_ids": [str(row.pk)]})]


def test_a_given_up_message_is_noted_on_its_rows(virtual: Clock) -> None:
    """A suspicion for people to see; the row goes on as before."""
    rows = [make_event(), make_event(status=EventStatus.PROCESSED)]
    untouched = make_event()
    ids = [str(row.pk) for row in rows]
    letter = DeadLetter(
        queue=QUEUE,
        task=TASK,
        kwargs={"event_ids": [*ids, "no id", None, 7, str(uuid.uuid4())]},
        reason="delivery_limit",
        count=21,
    )
    mark_rows(letter)
    for row, status in zip(rows, (EventStatus.RECEIVED, EventStatus.PROCESSED), strict=True):
        row.refresh_from_db()
        assert "delivery_limit" in row.dead_letter_reason
        assert row.status == status
    untouched.refresh_from_db()
    assert untouched.dead_letter_reason == ""
    assert ids[0] in announced()


@pytest.mark.parametrize("kwargs", [{}, {"event_ids": None}, {"event_ids": "x"}, {"event_ids": {}}])
def test_a_given_up_message_that_makes_no_sense(kwargs: dict[str, object]) -> None:
    """Its content is not trusted."""
    make_event()
    letter = DeadLetter(queue=QUEUE, task=TASK, kwargs=kwargs, reason="rejected", count=1)
    tasks.mark_events(letter)
    assert WebhookEvent.objects.get().dead_letter_reason == ""
