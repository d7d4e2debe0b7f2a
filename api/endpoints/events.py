"""Webhook events: how they stand, and once more."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Body, Query, Router, Status

from api.cursors import read_cursor, write_cursor
from api.errors import Problem
from api.gate import Access, author, client_of
from api.queries import filters_of
from api.schemas import Event, EventFilter, EventPage, Explained, declared
from api.scopes import Scope
from webhooks import services

router = Router(tags=["events"])

READS = Access(Scope.EVENTS_READ)


@router.get("/events", auth=READS, response=declared(422, ok=EventPage))
def list_events(request: HttpRequest, wanted: Query[EventFilter]) -> EventPage:
    """Events, newest first."""
    filters = filters_of(request, wanted)
    page = services.list_events(after=read_cursor(wanted.cursor), filters=filters)
    return EventPage(items=[Event.of(row) for row in page.rows], next=write_cursor(page.next))


@router.get(
    "/events/{event_id}", auth=READS, response=declared(404, ok=Event), url_name="get_event"
)
def get_event(request: HttpRequest, event_id: str) -> Event:
    """An event as it stands now, by our id."""
    event = services.find_event(event_id=event_id)
    if event is None:
        raise Problem(404, "there is no such event", code="not_found")
    return Event.of(event)


@router.post(
    "/events/{event_id}/replay",
    auth=Access(Scope.EVENTS_WRITE),
    response=declared(404, 409, 422, accepted=Event),
)
def replay_event(
    request: HttpRequest,
    event_id: str,
    response: HttpResponse,
    body: Body[Explained | None] = None,
) -> Status[Event]:
    """Handle a finished event once more."""
    reason = (body.reason if body else None) or ""
    event = services.replay_event(
        event_id=event_id, actor=author(client_of(request)), reason=reason
    )
    response["Location"] = reverse("api:get_event", kwargs={"event_id": str(event.pk)})
    return Status(202, Event.of(event))
