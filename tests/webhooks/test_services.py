"""The front door: stored once, whatever comes how often, and replayed when somebody asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from outbound.hints import Hint
from tests.webhooks.conftest import Clock
from tests.webhooks.deliveries import OLD_SECRET, SECRET, signature, stripe_body
from tests.webhooks.effects import effects, leave_effect
from tests.webhooks.rows import make_event
from webhooks import engine, services
from webhooks.envelopes import Envelope
from webhooks.errors import (
    BodyGone,
    IllegalMove,
    InvalidSignature,
    MalformedBody,
    MissingSignature,
    UnknownEvent,
    UnknownSource,
    WrongMode,
)
from webhooks.handlers import handles
from webhooks.models import EventNote, WebhookEvent
from webhooks.services import Received
from webhooks.sources import Source
from webhooks.states import FINISHED, EventStatus

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

TASK, QUEUE = "webhooks.process_events", "webhooks-v1"


def deliver(body: bytes, *, secret: str = SECRET, **headers: str) -> Received:
    """One delivery by Stripe, now."""
    return services.receive(
        source="stripe",
        body=body,
        headers={"Stripe-Signature": signature(body, secret=secret)} | headers,
        now=timezone.now(),
    )


def test_what_is_stored(virtual: Clock) -> None:
    """The exact bytes, what was said in them, and how we know that it was the provider."""
    body = stripe_body(id="evt_1", type="a.b", account="acct_1", created=1_700_000_000)
    received = deliver(
        body,
        secret=OLD_SECRET,
        **{"User-Agent": "Stripe/1.0", "Cookie": "x", "content-type": "x/y"},
    )
    row = WebhookEvent.objects.get()
    assert received == Received(events=(row.pk,), duplicate=False)
    assert bytes(row.body or b"") == body
    assert (row.source, row.account, row.event_id, row.event_type) == (
        "stripe", "acct_1", "evt_1", "a.b",
    )  # fmt: skip
    assert row.occurred_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert row.livemode is False
    assert row.headers == {"User-Agent": "Stripe/1.0", "Content-Type": "x/y"}
    assert row.matched_secret.startswith("2-")
    assert row.status == EventStatus.RECEIVED
    assert (row.attempts, row.deliveries_seen) == (0, 1)
    assert row.received_at == row.due_at == virtual.now


def test_the_body_is_unreadable_in_the_database() -> None:
    """Encrypted at rest; neither secret nor signature is stored at all."""
    body = stripe_body(data={"object": {"name": "CANARY"}})
    deliver(body)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {WebhookEvent._meta.db_table}")
        stored = b" ".join(
            bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
            for value in cursor.fetchone()
        )
    assert b"CANARY" not in stored
    assert SECRET.encode() not in stored
    assert signature(body).partition("v1=")[2].encode() not in stored


def test_stored_headers_are_bounded() -> None:
    """Whatever a header holds fits the column."""
    deliver(stripe_body(), **{"User-Agent": "\x00" + "x" * 10_000})
    agent = WebhookEvent.objects.get().headers["User-Agent"]
    assert len(agent) <= 200
    assert "\x00" not in agent


@pytest.mark.parametrize(
    "source,sign,body,refusal",
    [
        ("nobody", None, b"{}", UnknownSource),
        ("closed", None, b"{}", UnknownSource),
        ("stripe", None, b"{}", MissingSignature),
        ("stripe", lambda body: "t=1,v1=00", b"{}", InvalidSignature),
        ("stripe", signature, b"{}", MalformedBody),
        ("stripe", signature, b"[]", MalformedBody),
    ],
)
def test_refusals_store_nothing(
    source: str, sign: Callable[[bytes], str] | None, body: bytes, refusal: type[Exception]
) -> None:
    """A delivery is stored whole or not at all."""
    headers = {"Stripe-Signature": sign(body)} if sign else {}  # fresh
    with pytest.raises(refusal):
        services.receive(source=source, body=body, headers=headers, now=timezone.now())
    assert not WebhookEvent.objects.exists()


def test_the_other_mode_is_refused() -> None:
    """A live event at an address for test events."""
    with pytest.raises(WrongMode):
        deliver(stripe_body(livemode=True))
    assert not WebhookEvent.objects.exists()


@pytest.mark.parametrize("name", ["stripe-signature", "STRIPE-SIGNATURE", "Stripe-Signature"])
def test_header_names_have_no_case(name: str) -> None:
    """As in HTTP."""
    body = stripe_body()
    services.receive(
        source="stripe", body=body, headers={name: signature(body)}, now=timezone.now()
    )
    assert WebhookEvent.objects.count() == 1


def test_freshness_is_judged_by_the_hosts_clock(virtual: Clock) -> None:
    """The database's clock may be years away: it decides when the row is due, and no more."""
    body = stripe_body()
    at = 1_700_000_000
    now = datetime.fromtimestamp(at, UTC)
    headers = {"Stripe-Signature": signature(body, at=at)}
    services.receive(source="stripe", body=body, headers=headers, now=now)
    assert WebhookEvent.objects.get().due_at == virtual.now
    with pytest.raises(InvalidSignature):
        services.receive(source="stripe", body=body, headers=headers, now=now + timedelta(hours=1))


@pytest.mark.parametrize("status", set(EventStatus) - {EventStatus.FAILED})
def test_a_duplicate_is_only_counted(status: EventStatus, published: list[Hint]) -> None:
    """Whatever became of the first delivery, the second changes nothing and announces nothing."""
    row = make_event(event_id="evt_1", status=status, error="e", rule="r", failures=2)
    before: dict[str, Any] = dict(WebhookEvent.objects.values().get())
    received = deliver(stripe_body(id="evt_1"))
    assert received == Received(events=(row.pk,), duplicate=True)
    after: dict[str, Any] = dict(WebhookEvent.objects.values().get())
    assert after.pop("deliveries_seen") == before.pop("deliveries_seen") + 1
    assert after == before
    assert published == []


def test_a_duplicate_of_a_failed_event_re_arms_it(
    virtual: Clock,
    published: list[Hint],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """It is handled anew with all its tries, from the bytes that have just come."""
    handles("stripe", "payment_intent.succeeded")(leave_effect)
    row = make_event(
        event_id="evt_1", status=EventStatus.FAILED, error="e", failures=9, crashes=3, body=None
    )
    virtual.forward(86400)
    with django_capture_on_commit_callbacks(execute=True):
        received = deliver(stripe_body(id="evt_1"))
    assert received == Received(events=(row.pk,), duplicate=True)
    row.refresh_from_db()
    assert row.status == EventStatus.RECEIVED
    assert (row.failures, row.crashes, row.deliveries_seen) == (0, 0, 2)
    assert row.due_at == virtual.now
    assert row.matched_secret
    assert published == [Hint(TASK, QUEUE, {"event_ids": [str(row.pk)]})]
    engine.process(str(row.pk))
    row.refresh_from_db()
    assert (row.status, effects("evt_1")) == (EventStatus.PROCESSED, 1)


def test_two_duplicates_of_a_failed_event(published: list[Hint]) -> None:
    """The second one saw it FAILED too, but the first has re-armed it and it is done by now: it
    is not handled once more."""
    row = make_event(event_id="evt_1", status=EventStatus.FAILED)

    def overtaken(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE"):
            execute(
                f"UPDATE {WebhookEvent._meta.db_table} SET status = %s WHERE status = %s",
                [EventStatus.PROCESSED.value, EventStatus.FAILED.value],
                False,
                context,
            )
        return execute(sql, params, many, context)

    with connection.execute_wrapper(overtaken):
        assert deliver(stripe_body(id="evt_1")).duplicate
    row.refresh_from_db()
    assert row.status == EventStatus.PROCESSED
    assert published == []


def test_a_duplicate_of_an_event_in_other_words() -> None:
    """The id decides: the first bytes stay."""
    first = stripe_body(id="evt_1", type="a")
    deliver(first)
    assert deliver(stripe_body(id="evt_1", type="b")).duplicate
    row = WebhookEvent.objects.get()
    assert (row.event_type, bytes(row.body or b"")) == ("a", first)


def test_the_same_id_of_another_account_is_another_event() -> None:
    """Ids are unique within an account."""
    for account in ("", "acct_1", "acct_2"):
        assert not deliver(stripe_body(id="evt_1", account=account)).duplicate
    assert WebhookEvent.objects.count() == 3


def test_a_hint_after_the_commit(
    published: list[Hint], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    """One message with our id, after the row is there for everybody."""
    with django_capture_on_commit_callbacks(execute=True):
        [pk] = deliver(stripe_body()).events
        assert published == []
    assert published == [Hint(TASK, QUEUE, {"event_ids": [str(pk)]})]


def test_no_hint_without_a_commit(
    published: list[Hint], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    """A row that was rolled back is not spoken of."""
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        deliver(stripe_body())
        transaction.set_rollback(True)
    assert published == []
    assert not WebhookEvent.objects.exists()


class BatchSource(Source):
    """A provider that sends many events in one body, as some do."""

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        return self.label_of(self.secrets[0])

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        return [
            Envelope(event_id=item["id"], event_type="batch", payload=item, account=item["of"])
            for item in json.loads(body)
        ]

    def admit(self, envelope: Envelope) -> None:
        if envelope.account == "stranger":
            raise MalformedBody("not ours")


@pytest.fixture
def batch(settings: Settings) -> None:
    settings.WEBHOOK_SOURCES = {
        "batch": {
            "SOURCE": "tests.webhooks.test_services.BatchSource",
            "OPTIONS": {"SECRETS": ["s"]},
        }
    }


def deliver_batch(*ids: str) -> Received:
    """Ids as `account/id`."""
    items = [{"id": name, "of": of} for of, _, name in (text.rpartition("/") for text in ids)]
    return services.receive(
        source="batch", body=json.dumps(items).encode(), headers={}, now=timezone.now()
    )


@pytest.mark.usefixtures("batch")
class TestBatches:
    """A body with several events: one row each."""

    def test_every_event_has_a_row_and_a_payload_of_its_own(self) -> None:
        """Each is handled by itself, and sees its own part of the body."""
        seen: list[Any] = []
        handles("batch", "batch")(lambda event: seen.append(event.payload))
        received = deliver_batch("1", "2", "a/1", "3")
        assert len(received.events) == 4
        for pk in received.events:
            engine.process(str(pk))
        assert sorted((item["of"], item["id"]) for item in seen) == [
            ("", "1"), ("", "2"), ("", "3"), ("a", "1"),
        ]  # fmt: skip

    def test_partly_known(self) -> None:
        """What is new is stored; only when all is known it is a duplicate."""
        assert not deliver_batch("1", "2").duplicate
        assert not deliver_batch("2", "3").duplicate
        assert deliver_batch("1", "3").duplicate
        seen = WebhookEvent.objects.order_by("event_id").values_list("deliveries_seen", flat=True)
        assert list(seen) == [2, 2, 2]

    def test_accounts_are_not_mixed_up(self) -> None:
        """Neither of two known ids of different accounts makes a third pair known."""
        deliver_batch("a/1", "b/2")
        received = deliver_batch("a/2", "b/1")
        assert (len(received.events), received.duplicate) == (2, False)
        assert WebhookEvent.objects.count() == 4

    def test_the_same_event_twice_in_one_body(self) -> None:
        """One row."""
        assert len(deliver_batch("1", "1").events) == 1

    def test_nothing_in_it(self) -> None:
        """An empty list is no duplicate of anything."""
        assert deliver_batch() == Received(events=(), duplicate=False)

    def test_one_that_is_refused_refuses_all(self) -> None:
        """The body is one delivery."""
        with pytest.raises(MalformedBody):
            deliver_batch("1", "stranger/2")
        assert not WebhookEvent.objects.exists()


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_replay(
    status: EventStatus,
    virtual: Clock,
    published: list[Hint],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """What is finished can be handled once more; it is noted who wanted that, and why."""
    handles("stripe", "payment_intent.succeeded")(leave_effect)
    row = make_event(status=status, failures=9, misses=4, crashes=1)
    virtual.forward(60)
    with django_capture_on_commit_callbacks(execute=True):
        replayed = services.replay_event(event_id=str(row.pk), actor="anna", reason=" fixed ")
    assert (replayed.status, replayed.due_at) == (EventStatus.RECEIVED, virtual.now)
    assert replayed.rule == "replay by anna"
    [note] = row.notes.all()
    assert (note.actor, note.action, note.reason) == ("anna", "replay", "fixed")
    assert note.at == virtual.now
    assert published == [Hint(TASK, QUEUE, {"event_ids": [str(row.pk)]})]
    engine.process(str(row.pk))
    assert effects() == 1


def test_a_replay_and_its_note_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is replayed without it being said who wanted that."""
    row = make_event(status=EventStatus.FAILED)

    def fail(**_: object) -> None:
        raise OperationalError

    monkeypatch.setattr(EventNote.objects, "create", fail)
    with pytest.raises(OperationalError):
        services.replay_event(event_id=row.pk, actor="anna")
    row.refresh_from_db()
    assert row.status == EventStatus.FAILED


@pytest.mark.parametrize("status", set(EventStatus) - FINISHED)
def test_what_is_not_finished_cannot_be_replayed(status: EventStatus) -> None:
    """It is on its way already. Nothing changes, and nothing is noted."""
    row = make_event(status=status)
    before = WebhookEvent.objects.values().get()
    with pytest.raises(IllegalMove, match=status):
        services.replay_event(event_id=row.pk)
    assert WebhookEvent.objects.values().get() == before
    assert not row.notes.exists()


def test_an_event_without_a_body_cannot_be_replayed() -> None:
    """Past its retention there is nothing left to hand over."""
    row = make_event(status=EventStatus.FAILED, body=None)
    with pytest.raises(BodyGone):
        services.replay_event(event_id=row.pk)
    row.refresh_from_db()
    assert row.status == EventStatus.FAILED


@pytest.mark.parametrize("event_id", ["", "no id", None, 7, "01890000-0000-7000-8000-000000000000"])
def test_an_unknown_event(event_id: object) -> None:
    """It is said, not guessed."""
    assert services.find_event(event_id=event_id) is None
    with pytest.raises(UnknownEvent):
        services.replay_event(event_id=event_id)


def test_an_event_is_found_by_its_id() -> None:
    """As text or as it is."""
    row = make_event()
    assert services.find_event(event_id=row.pk) == row
    assert services.find_event(event_id=str(row.pk)) == row


def test_a_delivery_after_a_replay_is_still_a_duplicate() -> None:
    """A replay is a second handling of the same row, not a second row."""
    deliver(stripe_body(id="evt_1"))
    row = WebhookEvent.objects.get()
    engine.process(str(row.pk))
    services.replay_event(event_id=row.pk)
    assert deliver(stripe_body(id="evt_1")).duplicate
    row.refresh_from_db()
    assert row.status == EventStatus.RECEIVED
    assert WebhookEvent.objects.count() == 1
