"""One try of an event: effects exactly once, failures kept, leases honoured."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from tests.webhooks.conftest import Clock
from tests.webhooks.deliveries import stripe_body
from tests.webhooks.effects import effects, leave_effect
from tests.webhooks.rows import make_event
from webhooks import engine, sweep
from webhooks.errors import NotYet
from webhooks.handlers import Event, handles
from webhooks.models import WebhookEvent
from webhooks.policy import CRASH_LIMIT, JITTER, SCHEDULE
from webhooks.services import replay_event
from webhooks.signals import event_processed
from webhooks.states import EventStatus

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

TYPE = "charge.refunded"
LEASE_SECONDS = 30

on_type = handles("stripe", TYPE)


def event(**columns: Any) -> WebhookEvent:
    return make_event(event_type=TYPE, **columns)


def process(row: WebhookEvent) -> EventStatus:
    """One try; the status after it."""
    engine.process(str(row.pk))
    row.refresh_from_db()
    return EventStatus(row.status)


def wait_until_due(row: WebhookEvent, virtual: Clock) -> float:
    """Turn the clock to when the row is due. Returns how many seconds that took."""
    seconds = (row.due_at - virtual.now).total_seconds()
    virtual.now = row.due_at
    return seconds


def tries_until_finished(row: WebhookEvent, virtual: Clock) -> list[float]:
    """Try it whenever it is due, until it is finished. Returns the waits between the tries."""
    waits = []
    while process(row) == EventStatus.RETRYING:
        waits.append(wait_until_due(row, virtual))
    return waits


def failing(error: Exception, *, times: int = 10**6) -> Callable[[Event], None]:
    """A handler that leaves its effect and then raises, the first `times` times."""
    runs = 0

    def handler(event: Event) -> None:
        nonlocal runs
        runs += 1
        leave_effect(event)
        if runs <= times:
            raise error

    return handler


def test_effects_and_mark_come_together(virtual: Clock) -> None:
    """The handler has run, and the row says so."""
    on_type(leave_effect)
    row = event()
    assert process(row) == EventStatus.PROCESSED
    assert effects(row.event_id) == 1
    assert (row.attempts, row.processed_at, row.error) == (1, virtual.now, "")
    assert (row.lease_token, row.lease_expires_at) == (None, None)
    assert row.rule == "1 handler"


def test_every_handler_of_the_type_runs_once() -> None:
    """Several functions for one type, none for another, and none twice."""
    seen: list[str] = []
    first = on_type(lambda event: seen.append("first"))
    on_type(first)
    on_type(lambda event: seen.append("second"))
    handles("stripe", "other")(lambda event: seen.append("other"))
    handles("github", TYPE)(lambda event: seen.append("github"))
    assert process(event()) == EventStatus.PROCESSED
    assert seen == ["first", "second"]


def test_a_handler_sees_the_event() -> None:
    """Everything in the envelope, and the row's id."""
    seen: list[Event] = []
    on_type(seen.append)
    body = stripe_body(id="evt_seen", type=TYPE, account="acct_1", data={"object": {"a": "\x00ü"}})
    row = event(event_id="evt_seen", body=body, account="acct_1")
    process(row)
    [given] = seen
    assert (given.id, given.source, given.received_at) == (row.pk, "stripe", row.received_at)
    assert (given.event_id, given.event_type, given.account) == ("evt_seen", TYPE, "acct_1")
    assert given.payload["data"] == {"object": {"a": "\x00ü"}}
    assert given.livemode is False
    assert given.occurred_at is not None


@pytest.mark.parametrize("status", set(EventStatus) - {EventStatus.RECEIVED, EventStatus.RETRYING})
def test_a_stale_hint_does_nothing(status: EventStatus) -> None:
    """Only what waits can be claimed."""
    on_type(leave_effect)
    row = event(status=status)
    assert process(row) == status
    assert (effects(), row.attempts) == (0, 0)


def test_a_doubled_hint_does_nothing() -> None:
    """The second message about one event finds it done."""
    on_type(leave_effect)
    row = event()
    for _ in range(3):
        assert process(row) == EventStatus.PROCESSED
    assert (effects(), row.attempts) == (1, 1)


def test_an_early_hint_does_nothing(virtual: Clock) -> None:
    """Before it is due nobody may take it, from then on anybody may."""
    on_type(leave_effect)
    row = event()
    WebhookEvent.objects.update(due_at=virtual.now)
    virtual.forward(-0.001)
    assert process(row) == EventStatus.RECEIVED
    virtual.forward(0.001)
    assert process(row) == EventStatus.PROCESSED


def test_a_hint_about_nothing() -> None:
    """An id that is gone is no error; one that is no id is a bug of ours, and raised."""
    assert engine.process(str(uuid.uuid4())) is None
    with pytest.raises(ValueError, match="UUID"):
        engine.process("no id")


def test_nobody_handles_it() -> None:
    """IGNORED, with the reason; that needs no body."""
    row = event(body=None)
    assert process(row) == EventStatus.IGNORED
    assert (row.rule, row.error, row.processed_at) == ("no handler for this type", "", None)


def test_a_failing_handler_leaves_nothing_but_its_error(virtual: Clock) -> None:
    """The tenant's writes are gone, the reason stays, the next try is planned."""
    on_type(failing(LookupError("no such customer")))
    row = event()
    assert process(row) == EventStatus.RETRYING
    assert effects() == 0
    assert row.error == "LookupError: no such customer"
    assert row.lease_token is None
    assert row.due_at > virtual.now
    assert row.rule.startswith("failed; another try in ")


def test_the_schedule_of_a_failing_handler(virtual: Clock) -> None:
    """As many tries as the schedule allows, at its pace, then FAILED."""
    on_type(failing(LookupError("no")))
    row = event()
    waits = tries_until_finished(row, virtual)
    assert row.status == EventStatus.FAILED
    assert row.attempts == len(SCHEDULE) + 1
    assert len(waits) == len(SCHEDULE)
    for wait, planned in zip(waits, SCHEDULE, strict=True):
        assert planned * (1 - JITTER) <= wait <= planned * (1 + JITTER)
    assert effects() == 0
    assert row.rule == f"{len(SCHEDULE) + 1} tries failed"


def test_the_schedule_is_a_setting(virtual: Clock, settings: Settings) -> None:
    """RETRY_SCHEDULE sets the pace of events too."""
    settings.OUTBOUND_POLICY = {"schedule": [1.0]}
    on_type(failing(LookupError("no")))
    row = event()
    [wait] = tries_until_finished(row, virtual)
    assert 0.8 <= wait <= 1.2
    assert (row.status, row.attempts) == (EventStatus.FAILED, 2)


def test_a_handler_that_recovers(virtual: Clock) -> None:
    """Failures before it do not multiply the effect, and the old error goes."""
    on_type(failing(LookupError("no"), times=3))
    row = event()
    tries_until_finished(row, virtual)
    assert (row.status, row.attempts, row.error) == (EventStatus.PROCESSED, 4, "")
    assert effects() == 1


def test_handlers_stand_or_fall_together() -> None:
    """One that fails takes the effects of the others with it."""
    on_type(leave_effect)
    on_type(failing(LookupError("no")))
    on_type(leave_effect)
    assert process(event()) == EventStatus.RETRYING
    assert effects() == 0


def test_what_a_failed_handler_wanted_after_the_commit_is_not_done(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """Hints and the like of effects that were undone are dropped with them."""
    done: list[str] = []

    @on_type
    def handler(event: Event) -> None:
        transaction.on_commit(lambda: done.append("said"))
        raise LookupError

    with django_capture_on_commit_callbacks(execute=True):
        process(event())
    assert done == []


def test_a_handler_that_breaks_its_transaction(virtual: Clock) -> None:
    """A database error that the handler swallowed does not end as PROCESSED."""
    row = event()

    @on_type
    def handler(event: Event) -> None:
        leave_effect(event)
        with suppress(ZeroDivisionError), transaction.atomic(savepoint=False):
            raise ZeroDivisionError
        leave_effect(event)

    assert process(row) == EventStatus.RETRYING
    assert effects() == 0


def test_the_error_is_fit_to_be_shown() -> None:
    """No secret, no address, no control character, and no more than fits."""
    secrets = "whsec_abc123 sk_live_abc123 me@example.org \x00\ud800"
    on_type(failing(ValueError(f"{secrets} {'x' * 5000}")))
    row = event()
    process(row)
    assert row.error.startswith("ValueError: ")
    assert len(row.error) <= 500
    assert not any(word in row.error for word in ("whsec_abc", "sk_live_abc", "example.org"))


BROKEN_ROWS: dict[str, dict[str, Any]] = {
    "the body is gone": {"body": None},
    "the body is another event's": {"event_id": "evt_other", "body": stripe_body(type=TYPE)},
    "the body is no JSON": {"event_id": "evt_1", "body": b"not JSON"},
    "the source is gone": {"source": "gone"},
}


@pytest.mark.parametrize("columns", BROKEN_ROWS.values(), ids=BROKEN_ROWS.keys())
def test_a_row_that_cannot_be_opened(columns: dict[str, Any]) -> None:
    """It is a failure like any other: kept, and tried again."""
    on_type(leave_effect)
    handles("gone", TYPE)(leave_effect)
    row = make_event(**{"event_type": TYPE, "event_id": "evt_broken"} | columns)
    assert process(row) == EventStatus.RETRYING
    assert row.error
    assert effects() == 0


def test_a_body_that_no_key_opens(settings: Settings) -> None:
    """A lost encryption key fails the try, not the worker; with the key back it works."""
    on_type(leave_effect)
    row = event()
    with connection.cursor() as cursor:
        table = WebhookEvent._meta.db_table
        cursor.execute(f"UPDATE {table} SET body = %s", [b"gAAAAA not a token"])
    assert process_unread(row) == EventStatus.RETRYING
    WebhookEvent.objects.update(
        body=stripe_body(id=row.event_id, type=TYPE), due_at=row.received_at
    )
    assert process_unread(row) == EventStatus.PROCESSED


def process_unread(row: WebhookEvent) -> EventStatus:
    """One try of a row whose body must not be read here."""
    engine.process(str(row.pk))
    return EventStatus(WebhookEvent.objects.values_list("status", flat=True).get(pk=row.pk))


def test_too_early_for_long(virtual: Clock) -> None:
    """Tried a few times within two minutes, then IGNORED with a note: never FAILED."""
    on_type(failing(NotYet("payment pi_1")))
    row = event()
    waits = tries_until_finished(row, virtual)
    assert row.status == EventStatus.IGNORED
    assert 3 <= row.attempts <= 6
    assert 60 <= sum(waits) <= 120
    assert effects() == 0
    assert row.rule == "not known here: payment pi_1"
    [note] = row.notes.all()
    assert (note.action, note.reason, note.at) == ("not known", row.rule, virtual.now)


def test_too_early_at_first(virtual: Clock) -> None:
    """Once the object is known, the event takes effect, once."""
    on_type(failing(NotYet("payment pi_1"), times=2))
    row = event()
    assert process(row) == EventStatus.RETRYING
    assert row.error == "not yet: payment pi_1"
    wait_until_due(row, virtual)
    tries_until_finished(row, virtual)
    assert (row.status, row.error, row.rule) == (EventStatus.PROCESSED, "", "1 handler")
    assert effects() == 1
    assert not row.notes.exists()


def test_too_early_is_no_failure(virtual: Clock) -> None:
    """A handler may fail in between: each is counted by itself, and none eats up the other."""
    errors = [NotYet("a"), LookupError("b")] * 4

    @on_type
    def handler(event: Event) -> None:
        if errors:
            raise errors.pop(0)

    row = event()
    tries_until_finished(row, virtual)
    assert (row.status, row.attempts) == (EventStatus.PROCESSED, 9)
    assert (row.misses, row.failures) == (4, 4)


def test_too_early_for_one_of_several(virtual: Clock) -> None:
    """While there are tries left all wait for it; at the end the others are done without it."""
    on_type(leave_effect)
    on_type(failing(NotYet("payment pi_1")))
    row = event()
    assert process(row) == EventStatus.RETRYING
    assert effects() == 0
    wait_until_due(row, virtual)
    tries_until_finished(row, virtual)
    assert row.status == EventStatus.PROCESSED
    assert row.rule == "1 handler; not known here: payment pi_1"
    assert effects() == 1
    assert row.notes.count() == 1


def test_a_lost_worker(virtual: Clock) -> None:
    """Its lease ends, the sweep frees the row, and somebody else does it at once."""
    on_type(leave_effect)
    row = event()
    assert engine.claim_event(row.pk)
    virtual.forward(LEASE_SECONDS - 0.001)
    assert sweep.expire_leases() == 0
    virtual.forward(0.001)
    assert sweep.expire_leases() == 1
    row.refresh_from_db()
    assert (row.status, row.due_at) == (EventStatus.RETRYING, virtual.now)
    assert (row.error, row.crashes) == ("the worker never reported back", 1)
    assert process(row) == EventStatus.PROCESSED
    assert (effects(), row.attempts) == (1, 2)


def test_an_event_that_kills_its_worker(virtual: Clock) -> None:
    """It is tried later and later, and given up after a number of crashes."""
    row = event()
    for crash in range(1, CRASH_LIMIT + 1):
        virtual.now = max(virtual.now, row.due_at)
        assert engine.claim_event(row.pk), crash
        virtual.forward(LEASE_SECONDS)
        sweep.expire_leases()
        row.refresh_from_db()
        if crash in (1, CRASH_LIMIT):
            continue
        assert row.due_at > virtual.now
    assert row.status == EventStatus.FAILED
    assert row.rule == f"the worker was lost {CRASH_LIMIT} times"


def test_a_late_finisher_does_nothing(virtual: Clock) -> None:
    """A worker that was frozen before its handlers ran wakes up and finds its lease lost."""
    on_type(leave_effect)
    row = event()
    frozen = engine.claim_event(row.pk)
    assert frozen
    virtual.forward(LEASE_SECONDS)
    sweep.expire_leases()
    assert engine.handle(frozen) is None
    assert process(row) == EventStatus.PROCESSED
    assert engine.handle(frozen) is None
    assert effects() == 1


def test_a_late_failure_is_not_written(virtual: Clock) -> None:
    """Whoever lost the lease may not say how it ended."""
    on_type(leave_effect)
    row = event()
    frozen = engine.claim_event(row.pk)
    assert frozen
    virtual.forward(LEASE_SECONDS)
    sweep.expire_leases()
    process(row)
    assert engine.record_failure(frozen, LookupError("late")) is None
    assert engine.record_miss(frozen, NotYet("late")) is None
    row.refresh_from_db()
    assert (row.status, row.error, row.failures) == (EventStatus.PROCESSED, "", 0)


def test_an_event_moved_under_its_handler(virtual: Clock) -> None:
    """Effects never outlive the lease under which they were made."""
    row = event()

    @on_type
    def handler(event: Event) -> None:
        leave_effect(event)
        WebhookEvent.objects.filter(pk=row.pk).update(lease_token=uuid.uuid4())

    process(row)
    assert effects() == 0
    assert row.status != EventStatus.PROCESSED


def test_the_database_goes_away_under_a_handler(virtual: Clock) -> None:
    """Its effects are gone, and the event is tried again."""
    on_type(failing(OperationalError("server closed the connection"), times=1))
    row = event()
    assert process(row) == EventStatus.RETRYING
    wait_until_due(row, virtual)
    assert process(row) == EventStatus.PROCESSED
    assert effects() == 1


def test_the_database_stays_away(virtual: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """When not even the failure can be written, the lease ends and the sweep goes on."""
    on_type(failing(OperationalError("away"), times=1))
    row = event()

    def away(*args: object) -> None:
        raise OperationalError("still away")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "record_failure", away)
        with pytest.raises(OperationalError):
            engine.process(str(row.pk))
    row.refresh_from_db()
    assert (row.status, effects()) == (EventStatus.PROCESSING, 0)
    virtual.forward(LEASE_SECONDS)
    sweep.expire_leases()
    assert process(row) == EventStatus.PROCESSED
    assert effects() == 1


@pytest.mark.parametrize("errors", [[], [NotYet("x")] * 5, [LookupError("x")] * 9])
def test_a_replay_starts_anew(virtual: Clock, errors: list[Exception]) -> None:
    """A finished event is handled again, with all its tries."""

    @on_type
    def handler(event: Event) -> None:
        leave_effect(event)
        if errors:
            raise errors.pop(0)

    row = event()
    tries_until_finished(row, virtual)
    before, tries = effects(), row.attempts
    replay_event(event_id=row.pk, actor="anna")
    row.refresh_from_db()
    assert (row.failures, row.misses, row.crashes, row.processed_at) == (0, 0, 0, None)
    assert process(row) == EventStatus.PROCESSED
    assert effects() == before + 1
    assert row.attempts == tries + 1


def test_the_signal_comes_after_the_commit(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """Receivers see the row as committed; one that fails harms nobody."""
    on_type(leave_effect)
    seen: list[tuple[str, int]] = []

    def fails(**_: object) -> None:
        raise LookupError

    def sees(event: WebhookEvent, **_: object) -> None:
        seen.append((event.status, effects()))

    event_processed.connect(fails)
    event_processed.connect(sees)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            process(event())
            assert seen == []
            process(make_event(event_type="ignored"))
    finally:
        event_processed.disconnect(fails)
        event_processed.disconnect(sees)
    assert seen == [("processed", 1)]
