"""The address to which providers send: 2xx only after the commit, 4xx for what is theirs to
mend, 503 for all trouble of our own, so that they send again."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from django.conf import settings
from django.db import Error as DatabaseTrouble
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from webhooks import services
from webhooks.addresses import neighbourhood, sender_of
from webhooks.bodies import read_body
from webhooks.errors import CannotVerify, DeliveryRefused
from webhooks.rejects import rejects
from webhooks.sources import Source, enabled_source
from webhooks.throttle import throttle

logger = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 30
RECEIVED = b'{"received": true}'
DUPLICATE = b'{"received": true, "duplicate": true}'


@csrf_exempt
@transaction.non_atomic_requests
def receive(request: HttpRequest, source: str) -> HttpResponse:
    """`/webhooks/<source>`: what is POSTed is verified, stored and committed, and only then is
    it said so."""
    sender: Source | None = None
    try:
        sender = enabled_source(source)
        answer = (
            store(request, sender) if request.method == "POST" else shake_hands(request, sender)
        )
    except DeliveryRefused as refusal:
        status = sender.status_of(refusal) if sender else refusal.http_status
        rejects.note(source, refusal, status=status, meta=request.META)
        answer = problem(status, str(refusal), code=refusal.kind)
        if refusal.retry_after is not None:
            answer["Retry-After"] = str(refusal.retry_after)
    except CannotVerify as error:
        logger.warning("delivery_not_verified", source=source, reason=str(error))
        answer = come_again()
    except DatabaseTrouble as error:
        logger.warning("delivery_not_stored", source=source, error=type(error).__name__)
        answer = come_again()
    except Exception:  # whatever it is: it is ours, and the provider keeps the event meanwhile
        logger.exception("delivery_not_stored", source=source)
        answer = come_again()
    if request.method == "HEAD":
        answer.content = b""
    answer._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - else Django logs every single refusal
    return answer


def store(request: HttpRequest, source: Source) -> HttpResponse:
    sender = neighbourhood(sender_of(request.META))
    throttle.admit(source.name, sender)
    received = services.receive(
        source=source.name,
        body=read_body(request, limit=settings.WEBHOOK_MAX_BYTES),
        headers=request.headers,
        now=timezone.now(),
        url=address_of(request),
        sender=sender,
    )
    if received.reply is not None:
        return HttpResponse(received.reply, content_type="text/plain; charset=utf-8")
    said = DUPLICATE if received.duplicate else RECEIVED
    return HttpResponse(said, content_type="application/json")


def address_of(request: HttpRequest) -> str:
    """The address to which it was sent, as the provider knows it."""
    base = settings.PUBLIC_URL or f"{request.scheme}://{request.get_host()}"
    return base + request.get_full_path()


def shake_hands(request: HttpRequest, source: Source) -> HttpResponse:
    """GET and HEAD are for providers that try an address before they use it."""
    if request.method == "HEAD" and source.probed_by_head:
        return HttpResponse()
    echo = source.handshake(request.GET.dict()) if request.method in ("GET", "HEAD") else None
    if echo is not None:
        return HttpResponse(echo, content_type="text/plain; charset=utf-8")
    answer = problem(405, "events are sent by POST", code="wrong_method")
    answer["Allow"] = "POST"
    return answer


def come_again() -> HttpResponse:
    answer = problem(503, "not stored: send it again later", code="unavailable")
    answer["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def problem(status: int, detail: str, *, code: str) -> HttpResponse:
    """An RFC 9457 problem. https://www.rfc-editor.org/rfc/rfc9457"""
    return JsonResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
        },
        status=status,
        content_type="application/problem+json",
    )
