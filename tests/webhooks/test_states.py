"""Transitions of an event: every pair, in the rows and in the database's own rules."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from tests.webhooks.rows import make_event
from webhooks.errors import IllegalMove
from webhooks.models import WebhookEvent
from webhooks.states import FINISHED, WAITING, EventStatus, sources_of

NOW = datetime(2031, 1, 1, tzinfo=UTC)
LEGAL = {
    ("received", "processing"),
    ("processing", "processed"),
    ("processing", "ignored"),
    ("processing", "retrying"),
    ("processing", "failed"),
    ("retrying", "processing"),
    ("processed", "received"),
    ("ignored", "received"),
    ("failed", "received"),
}
PAIRS = list(itertools.product(EventStatus, EventStatus))


@pytest.mark.both_databases
@pytest.mark.django_db
@pytest.mark.parametrize("source,target", PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_every_pair(source: EventStatus, target: EventStatus) -> None:
    """A row moves along a legal pair, and along no other."""
    event = make_event(status=source)
    lease: dict[str, Any] = {
        "lease_token": uuid.uuid4() if target == EventStatus.PROCESSING else None
    }
    if (source, target) in LEGAL:
        rows = WebhookEvent.objects.filter(pk=event.pk)
        assert rows.move_to(target, sources={source}, now=NOW, **lease) == 1
        assert rows.get().status == target
        assert rows.get().updated_at == NOW
    else:
        with pytest.raises(IllegalMove):
            WebhookEvent.objects.filter(pk=event.pk).move_to(
                target, sources={source}, now=NOW, **lease
            )
        # Without named sources it is a move that finds no row.
        assert WebhookEvent.objects.filter(pk=event.pk).move_to(target, now=NOW, **lease) == 0
        event.refresh_from_db()
        assert event.status == source
    assert make_event(status=source).can_move_to(target) is ((source, target) in LEGAL)


def test_every_status_can_be_reached_and_left() -> None:
    """No dead end: what is finished can be replayed, what waits can be handled."""
    for status in EventStatus:
        assert sources_of(status)
    assert WAITING | FINISHED | {EventStatus.PROCESSING} == set(EventStatus)
    assert not WAITING & FINISHED


@pytest.mark.both_databases
@pytest.mark.django_db
def test_the_database_knows_the_statuses() -> None:
    """A status that nobody has heard of cannot be written, not even around the rules."""
    event = make_event()
    with pytest.raises(IntegrityError), transaction.atomic():
        WebhookEvent.objects.filter(pk=event.pk).update(status="lost")


@pytest.mark.both_databases
@pytest.mark.django_db
@pytest.mark.parametrize("status", list(EventStatus))
def test_a_lease_belongs_to_processing_and_to_nothing_else(status: EventStatus) -> None:
    """PROCESSING without a lease, or another status with one, cannot be written."""
    event = make_event(status=status)
    token = None if status == EventStatus.PROCESSING else uuid.uuid4()
    with pytest.raises(IntegrityError), transaction.atomic():
        WebhookEvent.objects.filter(pk=event.pk).update(lease_token=token)


@pytest.mark.both_databases
@pytest.mark.django_db
def test_the_database_keeps_an_event_once() -> None:
    """Unique by source, account and the provider's id; other accounts and sources are others."""
    make_event(source="stripe", account="acct_1", event_id="evt_1")
    make_event(source="stripe", account="acct_2", event_id="evt_1")
    make_event(source="github", account="acct_1", event_id="evt_1")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_event(source="stripe", account="acct_1", event_id="evt_1")
