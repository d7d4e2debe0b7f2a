"""Replaying all that the list shows: counted first, with a reason, watched and stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from webhooks import replaying
from webhooks.models import Replay, WebhookEvent
from webhooks.states import EventStatus, ReplayStatus

pytestmark = pytest.mark.django_db

EVENTS = reverse("admin:webhooks_webhookevent_changelist")
MATCHING = reverse("admin:webhooks_webhookevent_replay_matching")
REPLAYS = reverse("admin:webhooks_replay_changelist")


@pytest.fixture(autouse=True)
def events() -> list[WebhookEvent]:
    """Three that failed, one of them without a body, and one that was processed."""
    statuses = [EventStatus.FAILED] * 3 + [EventStatus.PROCESSED]
    at = timezone.now() - timedelta(minutes=1)
    return [
        WebhookEvent.objects.create(
            source="stripe",
            event_id=f"evt_{number}",
            event_type="charge.refunded",
            received_at=at,
            updated_at=at,
            due_at=at,
            hint_at=at,
            body=None if number == 0 else b"{}",
            status=status,
        )
        for number, status in enumerate(statuses)
    ]


def log_in(client: Client, *codenames: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    wanted = ("view_webhookevent", *codenames)
    user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
    client.force_login(user)
    return client


def test_from_the_list_to_the_replay(client: Client) -> None:
    """The filtered list leads to a count, the count to a replay, the replay to its page."""
    log_in(client, "add_replay", "view_replay")
    page = client.get(EVENTS, {"status__exact": "failed", "o": "-1"}).content.decode()
    assert f'href="{MATCHING}?status__exact=failed&amp;o=-1"' in page
    asked = client.get(f"{MATCHING}?status__exact=failed&o=-1").content.decode()
    assert "<strong>3</strong> found" in asked
    assert "<strong>2</strong> can be replayed" in asked
    assert not Replay.objects.exists()
    answer = client.post(
        f"{MATCHING}?status__exact=failed", {"reason": "mended", "pace": "7"}, follow=True
    )
    row = Replay.objects.get()
    assert (row.event_status, row.total, row.pace) == ("failed", 3, 7)
    assert (row.reason, row.created_by) == ("mended", "clerk")
    assert answer.redirect_chain[-1][0] == reverse("admin:webhooks_replay_change", args=[row.pk])
    replaying.step(replay_id=row.pk)
    page = client.get(reverse("admin:webhooks_replay_change", args=[row.pk])).content.decode()
    assert "3 of 3" in page
    assert "status failed" in page
    assert client.get(REPLAYS).status_code == 200


@pytest.mark.parametrize("fields", [{}, {"reason": " ", "pace": "5"}])
def test_not_without_a_reason(client: Client, fields: dict[str, str]) -> None:
    log_in(client, "add_replay")
    answer = client.post(f"{MATCHING}?status__exact=failed", {"pace": "5", **fields})
    assert "say why" in answer.content.decode()
    assert not Replay.objects.exists()


@pytest.mark.parametrize(
    "query",
    [
        "",
        "q=",
        "status__exact=received",
        "status__exact=failed&status__exact=processed",
        "status__exact=",
        "source=nobody",
        "account=acct_1",
        "received_at__gte=yesterday",
        "received_at__gte=2026-01-01",
        "q=%00",
        "q=" + "x" * 300,
        "event_type=nothing",
    ],
)
def test_what_cannot_be_chosen_by(client: Client, query: str) -> None:
    """The page says so, and never takes it for something else; a POST starts nothing."""
    log_in(client, "add_replay")
    for answer in (
        client.get(f"{MATCHING}?{query}"),
        client.post(f"{MATCHING}?{query}", {"reason": "x", "pace": "5"}),
    ):
        assert answer.status_code == 200
        assert 'class="errornote"' in answer.content.decode()
    assert not Replay.objects.exists()


@pytest.mark.parametrize("pace", ["", "0", "-1", "x", "1001", "9" * 5000])
def test_a_pace_out_of_bounds(client: Client, pace: str) -> None:
    log_in(client, "add_replay")
    answer = client.post(f"{MATCHING}?source=stripe", {"reason": "x", "pace": pace})
    assert "pace must be" in answer.content.decode()
    assert not Replay.objects.exists()


def test_the_list_filters_of_the_admin_are_understood(client: Client) -> None:
    """Every link beside the list can be replayed."""
    log_in(client, "add_replay")
    listing = client.get(EVENTS)
    for filters in listing.context["cl"].filter_specs:
        for choice in filters.choices(listing.context["cl"]):
            query = choice["query_string"].removeprefix("?")
            if query:
                page = client.get(f"{MATCHING}?{query}").content.decode()
                assert "cannot be chosen" not in page


def test_asking_needs_its_permission(client: Client) -> None:
    """Who may replay one event may not replay all; nor is it offered."""
    log_in(client, "replay_webhookevent")
    assert MATCHING not in client.get(EVENTS).content.decode()
    assert client.get(f"{MATCHING}?source=stripe").status_code == 403
    answer = client.post(f"{MATCHING}?source=stripe", {"reason": "x", "pace": "5"})
    assert answer.status_code == 403
    assert not Replay.objects.exists()


def test_a_post_without_its_token_is_refused() -> None:
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(User.objects.create_superuser("boss"))
    answer = stranger.post(f"{MATCHING}?source=stripe", {"reason": "x", "pace": "5"})
    assert answer.status_code == 403
    assert not Replay.objects.exists()


class TestCancelling:
    @pytest.fixture
    def row(self, client: Client) -> Replay:
        log_in(client, "add_replay", "view_replay", "cancel_replay")
        client.post(f"{MATCHING}?source=stripe", {"reason": "x", "pace": "5"})
        return Replay.objects.get()

    def act(self, client: Client, row: Replay, **fields: str) -> Any:
        return client.post(
            REPLAYS, {"action": "cancel", "_selected_action": [str(row.pk)], **fields}
        )

    def test_it_asks_first(self, client: Client, row: Replay) -> None:
        page = client.get(reverse("admin:webhooks_replay_change", args=[row.pk]))
        assert [action.name for action in page.context["row_actions"]] == ["cancel"]
        assert "stays with them" in self.act(client, row).content.decode()
        row.refresh_from_db()
        assert row.status == ReplayStatus.PENDING

    def test_it_stops(self, client: Client, row: Replay) -> None:
        answer = self.act(client, row, confirmed="1")
        said = [str(message) for message in get_messages(answer.wsgi_request)]
        assert "1 cancelled after 0 of 4 events" in said
        row.refresh_from_db()
        assert (row.status, row.cancelled_by) == (ReplayStatus.CANCELLED, "clerk")
        assert replaying.step(replay_id=row.pk) is None

    def test_it_needs_its_permission(self, client: Client, row: Replay) -> None:
        User.objects.get(username="clerk").user_permissions.remove(
            Permission.objects.get(codename="cancel_replay")
        )
        self.act(client, row, confirmed="1")
        row.refresh_from_db()
        assert row.status == ReplayStatus.PENDING
