"""Email, text messages and push notifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Body, Router
from pydantic import BaseModel

from api.gate import Access, author, client_of
from api.idempotency import ask_once
from api.message_schemas import (
    BulkEmail,
    BulkEmailRequest,
    EmailRequest,
    PushRequest,
    RefusedRecipient,
    SmsRequest,
)
from api.rendering import json_of
from api.schemas import Call, declared
from api.scopes import Scope
from api.writes import show, write
from notifications import services
from outbound.errors import FieldError, InvalidPayload
from outbound.services import OutboundCall

router = Router(tags=["notifications"])

WRITES = Access(Scope.NOTIFICATIONS_WRITE, writes=True)
ANSWERS = declared(409, 422, 502, 504, created=Call, accepted=Call)
ADDRESSED = ("to", "cc", "bcc", "reply_to", "sender")
NAMES = {"sender": "from"}

Sender = Callable[[dict[str, Any]], services.Message]


@router.post("/emails", auth=WRITES, response=ANSWERS)
def send_email(request: HttpRequest, body: Body[EmailRequest]) -> HttpResponse:
    """Send one email. Where a provider is out of order the next one of the route is asked, and the
    answer shows the call to that one."""
    return _send(request, body, lambda asked: services.send_email(**asked, **_files(body)))


@router.post("/sms", auth=WRITES, response=ANSWERS)
def send_sms(request: HttpRequest, body: Body[SmsRequest]) -> HttpResponse:
    """Send one text message."""
    return _send(request, body, lambda asked: services.send_sms(**asked))


@router.post("/push", auth=WRITES, response=ANSWERS)
def send_push(request: HttpRequest, body: Body[PushRequest]) -> HttpResponse:
    """Send one notification to one device."""
    return _send(
        request, body, lambda asked: services.send_push(tokens=asked.pop("token"), **asked)
    )


@router.post("/bulk-emails", auth=WRITES, response=declared(409, 422, accepted=BulkEmail))
def send_bulk_email(request: HttpRequest, body: Body[BulkEmailRequest]) -> HttpResponse:
    """Send an email of their own to each recipient, by as few calls as the provider allows. Always
    in the background."""
    asked = {**_asked(request, body, inline=False), **_files(body)}
    refused: list[services.Refused] = []

    def make() -> OutboundCall:
        with pointing_into(body):
            bulk = services.send_bulk_email(**asked)
        refused.extend(bulk.refused)
        return _call_of(bulk.message)

    once = ask_once(request, make, wait=0)
    if once.again:
        refused.extend(
            services.refused_recipients(recipients=asked["recipients"], **_shared(asked))
        )
    message = services.message_of(once.call)
    calls = services.calls_of(message)
    answer = BulkEmail(
        id=message.pk,
        total=len(body.recipients),
        accepted=len(body.recipients) - len(refused),
        refused=[
            RefusedRecipient(place=each.place, pointer=each.pointer, detail=each.detail)
            for each in refused
        ],
        calls=[show(request, call) for call in calls],
    )
    response = HttpResponse(
        json_of(answer.model_dump()), status=202, content_type="application/json"
    )
    if once.again:
        response["Idempotent-Replayed"] = "true"
    return response


def _send(request: HttpRequest, body: BaseModel, send: Sender) -> HttpResponse:
    def make(inline: bool) -> OutboundCall:
        with pointing_into(body):
            return _call_of(send(_asked(request, body, inline=inline)))

    return write(request, make, follow=services.successor_of)


def _call_of(message: services.Message) -> OutboundCall:
    """The call that carries it. Raises NobodyToWriteTo: an answer must be able to name one."""
    call = services.current_call(message)
    if call is None:
        raise services.NobodyToWriteTo("every recipient is suppressed, so nothing was stored")
    return call


def _asked(request: HttpRequest, body: BaseModel, *, inline: bool) -> dict[str, Any]:
    """A request as the services take it."""
    return {
        **body.model_dump(exclude_none=True, exclude={"attachments"}),
        "created_by": author(client_of(request)),
        "inline": inline,
    }


def _files(body: EmailRequest | BulkEmailRequest) -> dict[str, Any]:
    files = [services.Attached(**each.decoded()) for each in body.attachments or ()]
    return {"attachments": files}


def _shared(asked: dict[str, Any]) -> dict[str, Any]:
    """What decides, with the recipients, who of them is refused."""
    return {name: asked.get(name) for name in ("subject", "text", "html", "variables")}


@contextmanager
def pointing_into(body: BaseModel) -> Iterator[None]:
    """Errors point into what was sent, not into what the services make of it."""
    try:
        yield
    except InvalidPayload as error:
        raise InvalidPayload(
            [FieldError(_pointer(each.pointer, body), each.detail) for each in error.errors]
        ) from None


def _pointer(pointer: str, body: BaseModel) -> str:
    name, *steps = pointer.removeprefix("/").split("/")
    if name in ADDRESSED:
        steps = [step for step in steps if step not in ("address", "name")]
        if not isinstance(getattr(body, name, None), list):
            steps = []
    return "/".join(["", NAMES.get(name, name), *steps]) if name else pointer
