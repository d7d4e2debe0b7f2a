"""A write, from the key to the answer: 201 when it worked while the caller waited, 202 when it goes
on in the background, a problem when it finally failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from api.errors import Problem
from api.gate import client_of, owns
from api.idempotency import Asked, answered, ask_once, free
from api.places import place
from api.preferences import Preference, read_preference
from api.problems import no_place, respond, retry_after
from api.rendering import json_of
from api.schemas import Call
from api.scopes import Scope
from outbound import clock
from outbound.errors import CircuitOpen, RateLimited
from outbound.services import OutboundCall, deliver_now
from outbound.states import WAITING, CallStatus

PARKED = ("circuit_open", "rate_limited")


def _same(call: OutboundCall) -> OutboundCall:
    return call


def write(
    request: HttpRequest,
    make: Callable[[bool], OutboundCall | None],
    *,
    follow: Callable[[OutboundCall], OutboundCall] = _same,
) -> HttpResponse:
    """Store a call once, make its first attempt where that is wished, and answer. `make`: stores
    it, given whether the first attempt is made here. `follow`: the call that has taken a call's
    place by now, if any has."""
    wish = read_preference(request.headers.get("Prefer", ""))
    with place(wanted=wish.wait > 0) as inline:

        def store() -> OutboundCall:
            if wish.strict and not inline:  # it would be sent later, and that is not wished
                raise no_place()
            return _stored(make(inline))

        asked = ask_once(request, store, wait=wish.wait if inline else 0)
        if asked.again:
            return _replayed(request, asked, follow(asked.call))
        if not inline:
            return _answer(request, asked.call, 202)
        call = _deliver(asked, wish, follow)
    status = _status_of(call)
    answered(asked, status)
    response = _answer(request, call, status)
    response["Preference-Applied"] = str(wish)
    return response


def _stored(call: OutboundCall | None) -> OutboundCall:
    if call is None:
        raise RuntimeError("a row was stored without its call")
    return call


def _deliver(
    asked: Asked, wish: Preference, follow: Callable[[OutboundCall], OutboundCall]
) -> OutboundCall:
    """The call after its first attempt; where another one takes its place, after that one's, within
    the same wait. Raises Problem when it was to be sent now or never."""
    ends = time.monotonic() + wish.wait
    call = asked.call
    left: float = wish.wait
    strictly = {"strict": True} if wish.strict else {}
    try:
        while True:
            call = deliver_now(call=call, wait=left, **strictly)
            following = follow(call)
            left = ends - time.monotonic()
            if following.pk == call.pk or left <= 0:
                return following
            call = following
    except (CircuitOpen, RateLimited) as error:
        free(asked)
        raise Problem(
            error.http_status,
            f"not sent, and cancelled: {error.message}",
            code=error.kind,
            headers={
                **retry_after(error.retry_after),
                "Location": address_of(call),
                "Preference-Applied": str(wish),
            },
        ) from error


def _status_of(call: OutboundCall) -> int:
    if call.status == CallStatus.SUCCEEDED:
        return 201
    if call.status == CallStatus.FAILED:
        return call.error_http_status or 502
    return 202


def _replayed(request: HttpRequest, asked: Asked, call: OutboundCall) -> HttpResponse:
    """The call as it stands now, with the first status. An error is only repeated while it is
    still true: a call that has been retried since is not said to have failed."""
    status = asked.row.first_status
    if status is None or (status >= 400 and call.status != CallStatus.FAILED):
        status = _status_of(call)
    response = _answer(request, call, status)
    response["Idempotent-Replayed"] = "true"
    return response


def _answer(request: HttpRequest, call: OutboundCall, status: int) -> HttpResponse:
    shown = show(request, call)
    if status >= 400:
        response = respond(
            Problem(
                status,
                call.error_message or "the call failed",
                code=call.error_code or call.error_kind or "failed",
                param=call.error_param,
                more={"call": shown.model_dump()},
            )
        )
    else:
        response = HttpResponse(
            json_of(shown.model_dump()), status=status, content_type="application/json"
        )
    response["Location"] = address_of(call)
    if call.status in WAITING and call.error_kind in PARKED:
        seconds = (call.due_at - clock.now()).total_seconds()
        for name, value in retry_after(seconds).items():
            response[name] = value
    return response


def show(request: HttpRequest, call: OutboundCall) -> Call:
    """The call, as far as the client may see it."""
    client = client_of(request)
    seen = owns(client, call) or Scope.CALLS_PAYLOAD in client.scopes
    return Call.of(call, with_result=seen)


def address_of(call: OutboundCall) -> str:
    return f"{_calls()}{call.pk}"


@cache
def _calls() -> str:
    """Where calls are: with each answer `reverse` would find out anew."""
    return reverse("api:get_call", kwargs={"call_id": "-"}).removesuffix("-")
