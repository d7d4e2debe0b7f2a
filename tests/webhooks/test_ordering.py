"""Events about the same object are handled one at a time, where a source asks for that; all others
never wait for each other."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from outbound.hints import Hint
from tests.webhooks.conftest import STRIPE, Clock
from tests.webhooks.deliveries import signature, stripe_body
from tests.webhooks.effects import effects, leave_effect
from tests.webhooks.rows import make_event
from webhooks import engine, sweep, tasks
from webhooks.errors import NotYet
from webhooks.handlers import Event, handles
from webhooks.models import WebhookEvent
from webhooks.services import receive
from webhooks.sources import source_for
from webhooks.states import EventStatus

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

TYPE = "payment_intent.succeeded"
LONG = 20.0


def ids(hints: list[Hint]) -> list[str]:
    return [event_id for hint in hints for event_id in hint.kwargs["event_ids"]]


def about(name: object, **members: Any) -> bytes:
    return stripe_body(**{"type": TYPE, "data": {"object": {"id": name}}, **members})


def deliver(body: bytes) -> WebhookEvent:
    now = timezone.now()
    received = receive(
        source="stripe", body=body, headers={"Stripe-Signature": signature(body)}, now=now
    )
    return WebhookEvent.objects.get(pk=received.events[0])


@pytest.fixture
def ordered(settings: Settings) -> None:
    options = {**STRIPE["OPTIONS"], "ORDERED": True}
    settings.WEBHOOK_SOURCES = {"stripe": {**STRIPE, "OPTIONS": options}}


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize(
    "name, key",
    [("pi_1", "pi_1"), (None, ""), (7, ""), ("x" * 256, ""), ("a\x00", ""), ({"id": 1}, "")],
)
def test_what_an_event_is_about(name: object, key: str) -> None:
    assert deliver(about(name)).ordering_key == key


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize("data", [None, [], "x", {}, {"object": None}, {"object": ["id"]}])
def test_an_event_about_nothing(data: object) -> None:
    """It is stored, and waits for nobody."""
    assert deliver(stripe_body(type=TYPE, data=data)).ordering_key == ""


def test_a_source_that_does_not_ask() -> None:
    assert deliver(about("pi_1")).ordering_key == ""


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_the_option(value: object) -> None:
    problems = list(type(source_for("stripe")).problems({**STRIPE["OPTIONS"], "ORDERED": value}))
    assert problems == ["ORDERED must be True or False"]


@pytest.mark.django_db(transaction=True)
class TestOneAtATime:
    def test_the_other_waits(self, virtual: Clock, published: list[Hint]) -> None:
        """While one is being handled the other is left alone; afterwards it is announced at once.
        Other objects, other accounts and events about nothing do not care."""
        first, second = (make_event(ordering_key="pi_1") for _ in range(2))
        others = [
            make_event(ordering_key="pi_2"),
            make_event(ordering_key="pi_1", account="acct_2"),
            make_event(ordering_key="pi_1", source="closed"),
            make_event(),
            make_event(),
        ]
        claim = engine.claim_event(first.pk)
        assert claim
        assert engine.claim_event(second.pk) is None
        second.refresh_from_db()
        assert second.status == EventStatus.RECEIVED
        assert second.attempts == 0
        assert second.hint_at == virtual.now + timedelta(seconds=engine.BUSY_SECONDS)
        assert all(engine.claim_event(other.pk) for other in others)
        verdict = engine.handle(claim)
        assert verdict
        engine.announce_next(verdict.row)
        assert ids(published) == [str(second.pk)]
        assert engine.claim_event(second.pk)

    @pytest.mark.usefixtures("virtual")
    def test_the_oldest_comes_next(self, published: list[Hint]) -> None:
        handles("stripe", TYPE)(leave_effect)
        rows = sorted((make_event(ordering_key="pi_1") for _ in range(3)), key=lambda row: row.pk)
        engine.process(str(rows[0].pk))
        assert ids(published) == [str(rows[1].pk)]
        engine.process(str(rows[1].pk))
        assert ids(published) == [str(rows[1].pk), str(rows[2].pk)]
        engine.process(str(rows[2].pk))
        assert len(published) == 2

    def test_one_that_fails_keeps_nobody_out(self, virtual: Clock) -> None:
        """It waits for its next try without the others waiting for it."""

        def fail(event: Event) -> None:
            raise NotYet("too early")

        handles("stripe", "payment_intent.created")(fail)
        handles("stripe", TYPE)(leave_effect)
        early = make_event(ordering_key="pi_1", event_type="payment_intent.created")
        later = make_event(ordering_key="pi_1")
        engine.process(str(early.pk))
        engine.process(str(later.pk))
        assert effects(later.event_id) == 1
        early.refresh_from_db()
        assert early.status == EventStatus.RETRYING

    def test_a_lost_worker(self, virtual: Clock, published: list[Hint]) -> None:
        """When the lease of the one ends, the sweep announces the other."""
        first, second = (make_event(ordering_key="pi_1") for _ in range(2))
        assert engine.claim_event(first.pk)
        assert engine.claim_event(second.pk) is None
        virtual.forward(31)
        sweep.expire_leases()
        assert str(second.pk) in ids(published)

    def test_at_once(self) -> None:
        """Eight threads, sixteen events of one object: never are two being handled."""
        inside, most = 0, 0
        lock = threading.Lock()

        def look(event: Event) -> None:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            leave_effect(event)
            with lock:
                inside -= 1

        handles("stripe", TYPE)(look)
        rows = [make_event(ordering_key="pi_1") for _ in range(16)]
        together = threading.Barrier(8)

        def work(place: int) -> None:
            together.wait(LONG)
            try:
                while WebhookEvent.objects.waiting().exists():
                    for row in rows[place:] + rows[:place]:
                        engine.process(str(row.pk))
            finally:
                connection.close()

        threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG * 3)
        assert [effects(row.event_id) for row in rows] == [1] * 16
        assert most == 1


class TestOneMessage:
    """Many ids in one message: each event stands alone."""

    @pytest.mark.usefixtures("virtual")
    def test_in_the_order_of_the_message(self) -> None:
        seen: list[str] = []
        handles("stripe", TYPE)(lambda event: seen.append(event.event_id))
        rows = [make_event() for _ in range(5)]
        tasks.process_events(event_ids=[str(row.pk) for row in rows])
        assert seen == [row.event_id for row in rows]

    @pytest.mark.usefixtures("virtual")
    def test_a_poisonous_one(self) -> None:
        """One that fails in any way, or is no id at all, delays no neighbour."""

        def poison(event: Event) -> None:
            if json.dumps(event.payload).count("poison"):
                raise ValueError("no")
            leave_effect(event)

        handles("stripe", TYPE)(poison)
        rows = [make_event() for _ in range(3)]
        bad = make_event(event_id="evt_poison")
        unreadable = make_event(body=b"{")
        sent = [rows[0].pk, bad.pk, rows[1].pk, unreadable.pk, "nonsense", rows[2].pk]
        tasks.process_events(event_ids=[str(pk) for pk in sent])
        assert [effects(row.event_id) for row in rows] == [1, 1, 1]
        for row in (bad, unreadable):
            row.refresh_from_db()
            assert row.status == EventStatus.RETRYING
