"""How receiving is: figures for Prometheus and findings for the doctor, each on purpose."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pytest_django import Settings

from outbound import clock
from tests.webhooks.conftest import Clock
from tests.webhooks.deliveries import OLD_SECRET, SECRET, signature, stripe_body
from tests.webhooks.rows import make_event
from webhooks import reject_rows
from webhooks.models import CatchUp, WebhookEvent
from webhooks.reject_rows import QUIET
from webhooks.services import EventFilter, receive, start_replay
from webhooks.states import FINISHED, EventStatus
from webhooks.vitals import findings, gauges

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

S = EventStatus
DAY = timedelta(days=1)


def figures() -> dict[str, dict[tuple[str, ...], float]]:
    """Each metric with the values of its labels."""
    return {
        metric.name: {tuple(each.labels.values()): each.value for each in metric.samples}
        for metric in gauges()
    }


def found() -> list[str]:
    return [str(finding) for finding in findings()]


@pytest.fixture(autouse=True)
def moment(virtual: Clock) -> Iterator[Clock]:
    return virtual  # type: ignore[return-value]


class TestGauges:
    def test_what_is_not_finished(self, virtual: Clock) -> None:
        for status in S:
            make_event(status=status)
        make_event(source="github")
        virtual.forward(7)
        shown = figures()
        assert shown["holdfast_events"] == {
            ("stripe", "received"): 1, ("stripe", "processing"): 1, ("stripe", "retrying"): 1,
            ("github", "received"): 1,
        }  # fmt: skip
        assert shown["holdfast_events_oldest_due_seconds"] == {("stripe",): 7, ("github",): 7}

    def test_incidents_and_replays(self, virtual: Clock, settings: Settings) -> None:
        settings.WEBHOOK_REJECTS_ALERT = 10
        make_event(status=S.FAILED)
        virtual.forward(1)
        start_replay(events=EventFilter(source="stripe"), reason="x")
        reject_rows.add("stripe", 10)
        reject_rows.add("", 9)
        assert figures()["holdfast_webhook_rejects_incident"] == {("stripe",): 1, ("",): 0}
        assert figures()["holdfast_replays"] == {(): 1}
        virtual.forward(QUIET.total_seconds())
        reject_rows.settle(limit=9)
        assert figures()["holdfast_webhook_rejects_incident"][("stripe",)] == 0


class TestFindings:
    def test_healthy(self) -> None:
        """Events in every state that passes by itself."""
        for status in set(S) - {S.FAILED}:
            make_event(status=status)
        assert found() == []

    def test_late_events(self, virtual: Clock) -> None:
        make_event(), make_event(due_at=virtual.now + DAY)
        virtual.forward(299)
        assert found() == []
        virtual.forward(1)
        [line] = found()
        assert line.startswith("events of stripe: 1 have been due for up to 5 min (do workers")

    @pytest.mark.parametrize("days,lines", [(6, 1), (8, 0)])
    def test_failed_events(self, virtual: Clock, days: int, lines: int) -> None:
        """Not for ever."""
        make_event(status=S.FAILED)
        virtual.forward(days * 86_400)
        assert ["1 have failed within 7 days" in line for line in found() if "failed" in line] == (
            [True] * lines
        )

    def test_a_burst_of_refusals(self, virtual: Clock, settings: Settings) -> None:
        settings.WEBHOOK_REJECTS_ALERT = 10
        reject_rows.add("stripe", 10)
        virtual.forward(60)
        assert found()[0].startswith("source stripe: too many of its deliveries have been refused")

    def test_a_replay_that_nobody_goes_on_with(self, virtual: Clock) -> None:
        make_event(status=S.IGNORED)
        virtual.forward(1)
        row = start_replay(events=EventFilter(source="stripe"), reason="x")
        virtual.forward(300)
        assert found()[0].startswith(f"replay {row.pk}: nobody has gone on with it for 5 min")

    def test_dead_letters(self) -> None:
        for status in (S.RECEIVED, S.PROCESSED):
            make_event(status=status, dead_letter_reason="delivery_limit")
        assert found()[0].startswith("events: messages about 1 unfinished ones were given up")

    def test_a_lost_key(self, settings: Settings) -> None:
        make_event(status=S.PROCESSED)
        make_event(status=S.PROCESSED, body=None, received_at=clock.now() - 2 * DAY)
        settings.FIELD_ENCRYPTION_KEYS = ["A" * 43 + "="]
        assert [line.partition(" (")[0] for line in found()] == [
            "events: the oldest one cannot be decrypted",
            "events: the newest one cannot be decrypted",
        ]

    def test_a_list_that_is_not_read(self, virtual: Clock, settings: Settings) -> None:
        """Where it is read by itself at all."""
        settings.OUTBOUND_ADAPTERS = {"stripe": {}}
        CatchUp.objects.create(
            source="stripe", seen_until=virtual.now - 2 * DAY, updated_at=virtual.now
        )
        settings.CELERY_BEAT_SCHEDULE = {}
        assert found() == []
        settings.CELERY_BEAT_SCHEDULE = {"webhooks-catch-up": {}}
        assert found()[0].startswith(
            "source stripe: its provider's list was last read to its end 2 d ago"
        )


class TestSecrets:
    """A rotation that somebody began: the first secret is the new one."""

    def receive(self, secret: str) -> None:
        body = stripe_body()
        now = clock.now()
        header = signature(body, at=int(now.timestamp()), secret=secret)
        receive(source="stripe", body=body, headers={"Stripe-Signature": header}, now=now)
        WebhookEvent.objects.update(status=S.PROCESSED)

    @pytest.mark.parametrize(
        "used,says",
        [
            ([], None),
            ([SECRET, OLD_SECRET], None),
            ([OLD_SECRET], "only the old secret is still used"),
            ([SECRET], "the old secret is no longer used"),
        ],
    )
    def test_which_are_used(self, used: list[str], says: str | None) -> None:
        for secret in used:
            self.receive(secret)
        lines = found()
        assert len(lines) == (says is not None)
        assert all(line.startswith(f"source stripe: {says}") for line in lines)
        assert "STRIPE_WEBHOOK_SECRETS" in "".join(lines) or not says
        assert not {SECRET, OLD_SECRET} & set("".join(lines).split())

    def test_before_the_new_one_was_put_in_front(
        self, sources: dict[str, Any], settings: Settings
    ) -> None:
        """What came then was proven by the same secret, which had another place."""
        options = {**sources["stripe"]["OPTIONS"], "SECRETS": [OLD_SECRET]}
        before = {"stripe": {**sources["stripe"], "OPTIONS": options}}
        both = dict(sources)
        settings.WEBHOOK_SOURCES = before
        self.receive(OLD_SECRET)
        settings.WEBHOOK_SOURCES = both
        assert "only the old secret is still used" in found()[0]
        self.receive(SECRET)
        assert found() == []

    def test_within_a_week(self, virtual: Clock) -> None:
        """What was used before then is not used."""
        self.receive(OLD_SECRET)
        virtual.forward(4 * 86_400)
        self.receive(SECRET)
        assert found() == []
        virtual.forward(4 * 86_400)
        assert ["no longer used" in line for line in found()] == [True]

    def test_one_secret_is_no_rotation(self, sources: dict[str, Any], settings: Settings) -> None:
        self.receive(SECRET)
        one = {
            **sources["stripe"],
            "OPTIONS": {**sources["stripe"]["OPTIONS"], "SECRETS": [SECRET]},
        }
        settings.WEBHOOK_SOURCES = {"stripe": one}
        assert found() == []

    def test_what_was_listed_says_nothing(self) -> None:
        """We asked for it ourselves: no secret was used."""
        make_event(status=S.PROCESSED, matched_secret="listed")
        assert found() == []


def test_a_source_that_fell_silent(virtual: Clock) -> None:
    """Something in one week, nothing in the next; after that it is no news."""
    make_event(status=S.PROCESSED)
    for days, lines in ((6.9, 0), (0.2, 1), (6.8, 1), (0.2, 0)):
        virtual.forward(days * 86_400)
        assert ["no event has come for 7 days" in line for line in found()] == [True] * lines


def test_every_finished_status_is_left_out() -> None:
    """History is no figure of the moment."""
    for status in FINISHED:
        make_event(status=status, event_id=uuid.uuid4().hex)
    assert figures()["holdfast_events"] == {}
