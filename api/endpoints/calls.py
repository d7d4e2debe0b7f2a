"""Calls: how they stand, and another try."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Router, Status

from api.cursors import read_cursor, write_cursor
from api.errors import Problem
from api.gate import Access, author, client_of, demand, owns
from api.queries import filters_of
from api.schemas import Call, CallFilter, CallPage, Explained, Retry, declared
from api.scopes import Scope
from api.writes import address_of, show
from outbound import services
from outbound.services import OutboundCall

router = Router(tags=["calls"])

READS = Access()
WRITES = Access(Scope.CALLS_WRITE)


@router.get("/calls", auth=READS, response=declared(422, ok=CallPage))
def list_calls(request: HttpRequest, wanted: Query[CallFilter]) -> CallPage:
    """Calls, newest first: one's own, and with calls:read all there are."""
    filters = filters_of(request, wanted)
    client = client_of(request)
    if Scope.CALLS_READ not in client.scopes:
        filters["created_by"] = author(client)
    page = services.list_calls(after=read_cursor(wanted.cursor), filters=filters)
    return CallPage(items=[show(request, call) for call in page.rows], next=write_cursor(page.next))


@router.get("/calls/{call_id}", auth=READS, response=declared(404, ok=Call), url_name="get_call")
def get_call(request: HttpRequest, call_id: str) -> Call:
    """A call as it stands now."""
    return show(request, _visible(request, call_id))


@router.post("/calls/{call_id}/retry", auth=WRITES, response=declared(404, 409, 422, accepted=Call))
def retry_call(
    request: HttpRequest, call_id: str, response: HttpResponse, body: Body[Retry | None] = None
) -> Status[Call]:
    """Send a failed call again: with the same key, or as new."""
    call, how = _visible(request, call_id), body or Retry()
    actor, reason = author(client_of(request)), how.reason or ""
    if how.as_new:
        call = services.retry_call_as_new(call_id=call.pk, actor=actor, reason=reason)
    else:
        call = services.retry_call(call_id=call.pk, actor=actor, reason=reason)
    response["Location"] = address_of(call)
    return Status(202, show(request, call))


@router.post("/calls/{call_id}/cancel", auth=WRITES, response=declared(404, 409, 422, ok=Call))
def cancel_call(request: HttpRequest, call_id: str, body: Body[Explained | None] = None) -> Call:
    """Stop a waiting call. Where an earlier attempt may have worked it becomes unknown instead."""
    call = _visible(request, call_id)
    reason = (body.reason if body else None) or ""
    actor = author(client_of(request))
    return show(request, services.cancel_call(call_id=call.pk, actor=actor, reason=reason))


def _visible(request: HttpRequest, call_id: str) -> OutboundCall:
    call, client = services.find_call(call_id), client_of(request)
    if call is None:
        raise Problem(404, "there is no such call", code="not_found")
    if not owns(client, call):
        demand(client, Scope.CALLS_READ)
    return call
