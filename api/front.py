"""The API as one thing: its operations, its reader of bodies, and what becomes of errors."""

from __future__ import annotations

from typing import Any

import structlog
from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.operation import Operation
from ninja.parser import Parser

from api.bodies import document_of
from api.endpoints import calls, events, notifications, payments
from api.errors import Problem
from api.problems import database_away, plain, respond, retry_after
from api.rendering import Renderer
from api.schemas import ONE, SEVERAL
from notifications.errors import NobodyToWriteTo, NoProvider
from outbound.errors import (
    CallRefused,
    CircuitOpen,
    DeliveryError,
    FieldError,
    InvalidPayload,
    ReasonRequired,
    TransientError,
)
from webhooks.errors import EventRefused, UnknownEvent

logger = structlog.get_logger(__name__)


class StrictParser(Parser):
    """See api/bodies.py."""

    def parse_body(self, request: HttpRequest) -> Any:
        return document_of(request)


class Front(NinjaAPI):
    """Operations are called what their functions are called."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        name: str = operation.view_func.__name__
        return name


def build() -> NinjaAPI:
    """The API, with all its operations."""
    api = Front(
        title="Holdfast",
        version="1",
        urls_namespace="api",
        docs_url=None,
        openapi_url=None,
        parser=StrictParser(),
        renderer=Renderer(),
    )
    for router in (payments.router, notifications.router, calls.router, events.router):
        api.add_router("", router)
    for error, become in BECOMES.items():
        api.add_exception_handler(error, _answering(become))
    return api


def _answering(become: Any) -> Any:
    def answer(request: HttpRequest, error: Any) -> HttpResponse:
        return respond(become(error))

    return answer


def _itself(error: Problem) -> Problem:
    return error


def _wrong_fields(error: ValidationError) -> Problem:
    fields = [FieldError(_pointer(found["loc"]), found["msg"]) for found in error.errors]
    return Problem(422, "some fields are wrong", code="invalid", errors=fields)


def _pointer(place: tuple[object, ...]) -> str:
    """Into the body, without the steps that ninja puts in front; of a parameter its name."""
    steps = [step for step in place[2 if place[0] == "body" else 1 :] if step not in (ONE, SEVERAL)]
    return "".join("/" + str(s).replace("~", "~0").replace("/", "~1") for s in steps)


def _wrong_payload(error: InvalidPayload) -> Problem:
    return Problem(422, "some fields are wrong", code="invalid", errors=error.errors)


def _no_reason(error: ReasonRequired) -> Problem:
    wrong = FieldError("/reason", str(error))
    return Problem(422, "some fields are wrong", code="invalid", errors=[wrong])


def _conflict(error: Exception) -> Problem:
    return Problem(409, str(error), code=_snake(error))


def _no_provider(error: NoProvider) -> Problem:
    return Problem(503, str(error), code="no_provider")


def _nobody(error: NobodyToWriteTo) -> Problem:
    return Problem(422, str(error), code="suppressed")


def _no_event(error: UnknownEvent) -> Problem:
    return Problem(404, "there is no such event", code="not_found")


def _undelivered(error: DeliveryError) -> Problem:
    """What a read met at the provider."""
    wish = error.retry_after if isinstance(error, TransientError) else None
    again = error.http_status in (429, 503)
    return Problem(
        error.http_status,
        error.message,
        code=error.kind if isinstance(error, CircuitOpen) else error.code or error.kind,
        param=error.param,
        headers=retry_after(wish) if again else {},
    )


def _nonsense(error: SuspiciousOperation) -> Problem:
    """What Django will not read: a thousand parameters, say."""
    return plain(400)


def _database_away(error: Exception) -> Problem:
    logger.warning("database_away", error=type(error).__name__)
    return database_away()


def _unexpected(error: Exception) -> Problem:
    logger.error("request_failed", exc_info=error)
    return plain(500)


def _http_error(error: HttpError) -> Problem:
    """Raised by ninja, around what our reader of bodies raised."""
    return error.__cause__ if isinstance(error.__cause__, Problem) else plain(error.status_code)


def _snake(error: Exception) -> str:
    name = type(error).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


BECOMES: dict[type[Exception], Any] = {
    Problem: _itself,
    ValidationError: _wrong_fields,
    HttpError: _http_error,
    InvalidPayload: _wrong_payload,
    ReasonRequired: _no_reason,
    NoProvider: _no_provider,
    NobodyToWriteTo: _nobody,
    CallRefused: _conflict,
    UnknownEvent: _no_event,
    EventRefused: _conflict,
    DeliveryError: _undelivered,
    SuspiciousOperation: _nonsense,
    OperationalError: _database_away,
    InterfaceError: _database_away,
    Exception: _unexpected,
}


front = build()
