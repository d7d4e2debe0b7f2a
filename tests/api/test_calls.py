"""Calls and events over HTTP: one, many, and another try."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from pytest_django import Settings

from outbound import clock
from outbound.models import OutboundCall
from outbound.states import CallStatus
from tests.api.conftest import Caller, document, pointers, problem
from tests.api.rows import make_call
from tests.webhooks.rows import make_event
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

pytestmark = pytest.mark.django_db

NO_IDS = ["x", "0", "%00", "%F0%9F", "é", "..", "00000000-0000-0000-0000-000000000000", "a" * 5000]
EVENT_MEMBERS = {
    "id", "source", "account", "event_id", "event_type", "status", "attempts", "deliveries_seen",
    "error", "received_at", "processed_at",
}  # fmt: skip


@pytest.mark.parametrize("name", NO_IDS)
@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/calls/{}"),
        ("POST", "/calls/{}/retry"),
        ("POST", "/calls/{}/cancel"),
        ("GET", "/events/{}"),
        ("POST", "/events/{}/replay"),
    ],
)
def test_ids_that_are_none(desk: Caller, method: str, path: str, name: str) -> None:
    """404, a problem like all others."""
    problem(desk.send(method, path.format(name)), 404)


@pytest.mark.parametrize("status", CallStatus.values)
def test_retrying(desk: Caller, status: str) -> None:
    """202 for a failed call or one of unknown outcome, with the same key; 409 otherwise."""
    call = make_call(status=status)
    answer = desk.post(f"/calls/{call.pk}/retry")
    if status not in ("failed", "unknown"):
        assert problem(answer, 409)["code"] == "illegal_move"
        return
    assert document(answer, 202)["status"] == ("pending" if status == "failed" else "retrying")
    assert answer["Location"] == f"/api/v1/calls/{call.pk}"
    assert OutboundCall.objects.get().idempotency_key == call.idempotency_key


def test_retrying_as_new(desk: Caller) -> None:
    """With a new key, and only with a reason."""
    call = make_call(status=CallStatus.FAILED)
    path = f"/calls/{call.pk}/retry"
    assert pointers(problem(desk.post(path, {"as_new": True}), 422)) == ["/reason"]
    assert pointers(problem(desk.post(path, {"as_new": True, "reason": " "}), 422)) == ["/reason"]
    document(desk.post(path, {"as_new": True, "reason": "the card works now"}), 202)
    row = OutboundCall.objects.get()
    assert row.idempotency_key != call.idempotency_key
    assert row.notes.get().reason == "the card works now"


def test_retrying_with_a_forgotten_key(desk: Caller) -> None:
    """409: the same key would be a new effect."""
    call = make_call(status=CallStatus.FAILED, key_expires_at=clock.now())
    assert problem(desk.post(f"/calls/{call.pk}/retry"), 409)["code"] == "key_expired"


@pytest.mark.parametrize("status", CallStatus.values)
def test_cancelling(desk: Caller, status: str) -> None:
    """200 for a waiting call, 409 otherwise."""
    call = make_call(status=status)
    answer = desk.post(f"/calls/{call.pk}/cancel", {"reason": "not wanted any more"})
    if status in ("pending", "retrying"):
        assert document(answer, 200)["status"] == "cancelled"
    else:
        assert problem(answer, 409)["code"] == "illegal_move"


@pytest.mark.parametrize("status", EventStatus.values)
def test_replaying(desk: Caller, status: str) -> None:
    """202 for a finished event, 409 otherwise."""
    event = make_event(status=EventStatus(status), error="went wrong")
    answer = desk.post(f"/events/{event.pk}/replay", {"reason": "fixed"})
    if status in ("processed", "ignored", "failed"):
        assert document(answer, 202)["status"] == "received"
        assert answer["Location"] == f"/api/v1/events/{event.pk}"
    else:
        assert problem(answer, 409)["code"] == "illegal_move"


def test_replaying_what_is_gone(desk: Caller) -> None:
    """409: there is nothing left to replay."""
    event = make_event(status=EventStatus.FAILED, body=None)
    assert problem(desk.post(f"/events/{event.pk}/replay"), 409)["code"] == "body_gone"


def test_an_event(desk: Caller) -> None:
    """By our id, with what is to be known about it and without what it said."""
    event = make_event(event_id="evt_1", status=EventStatus.FAILED, error="no such payment")
    found = document(desk.get(f"/events/{event.pk}"), 200)
    assert found.keys() == EVENT_MEMBERS
    assert (found["event_id"], found["error"], found["status"]) == (
        "evt_1", "no such payment", "failed",
    )  # fmt: skip
    make_event(event_id="evt_2")
    items = document(desk.get("/events?source=stripe&event_id=evt_1&status=failed"), 200)["items"]
    assert items == [found]


def test_what_a_provider_answered_can_hold_anything(desk: Caller) -> None:
    """Half a character that no encoding has is answered as it came, and is no 500."""
    call = make_call(result={"a": "\ud800", "b": [1.5, None, {"c": True}]}, reference="x")
    found: dict[str, Any] = document(desk.get(f"/calls/{call.pk}"), 200)
    assert found["result"] == {"a": "\ud800", "b": [1.5, None, {"c": True}]}
    assert document(desk.get("/calls"), 200)["items"] == [found]


def test_what_cannot_be_decrypted(desk: Caller, settings: Settings) -> None:
    """A payload or a body whose key is lost is not needed to look at its row, nor to cancel it."""
    call, event = make_call(created_by="api:desk"), make_event()
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert document(desk.get(f"/calls/{call.pk}"), 200)["status"] == "pending"
    assert document(desk.get("/calls"), 200)["items"][0]["id"] == str(call.pk)
    assert document(desk.post(f"/calls/{call.pk}/cancel"), 200)["status"] == "cancelled"
    assert document(desk.get(f"/events/{event.pk}"), 200)["status"] == "received"
    assert document(desk.get("/events"), 200)["items"][0]["id"] == str(event.pk)


def test_events_keep_their_rows(desk: Caller) -> None:
    """Reading changes nothing."""
    event = make_event()
    before = WebhookEvent.objects.values().get()
    desk.get(f"/events/{event.pk}")
    desk.get("/events")
    assert WebhookEvent.objects.values().get() == before
