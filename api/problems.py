"""Errors as answers: every one below /api/ is `application/problem+json`."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse

from api.errors import Problem
from api.rendering import json_of
from outbound.request_ids import current_request_id

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5  # when trouble of our own may be over
ERRORS_SHOWN = 20
POINTER_CHARACTERS = 200

# Not HTTPStatus.phrase where that differs between versions of Python.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}

DETAILS = {
    400: "the request could not be read",
    404: "there is nothing at this address",
    405: "this method is not allowed here",
    413: "the body is too large",
    500: "something went wrong here; the request id says which log lines tell what",
}


def title_of(status: int) -> str:
    return TITLES.get(status) or HTTPStatus(status).phrase


def respond(problem: Problem) -> HttpResponse:
    """The answer that a problem is."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": title_of(problem.status),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": current_request_id(),
        **problem.more,
    }
    if problem.param:
        document["param"] = problem.param
    if problem.errors:
        document["errors"] = [
            {"pointer": error.pointer[:POINTER_CHARACTERS], "detail": error.detail}
            for error in problem.errors[:ERRORS_SHOWN]
        ]
    return HttpResponse(
        json_of(document),
        status=problem.status,
        content_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def plain(status: int) -> Problem:
    """The problem that a bare status is: what Django answers before or beside our views."""
    detail = DETAILS.get(status) or title_of(status)
    code = title_of(status).lower().replace(" ", "_").replace("-", "_")
    return Problem(status, detail, code=code)


def come_again(detail: str, *, code: str, status: int = 503, after: float | None = None) -> Problem:
    """Trouble that passes."""
    return Problem(status, detail, code=code, headers=retry_after(after))


def no_place() -> Problem:
    detail = "as many requests as may are waiting for a provider"
    return come_again(detail, code="busy", after=1)


def database_away() -> Problem:
    return come_again("the database is away for a moment", code="unavailable")


def retry_after(seconds: float | None) -> dict[str, str]:
    """The header: whole seconds, at least one."""
    wanted = RETRY_AFTER_SECONDS if seconds is None else seconds
    return {"Retry-After": str(max(1, math.ceil(wanted)))}


def is_problem(response: HttpResponse) -> bool:
    return response.headers.get("Content-Type", "").startswith(MEDIA_TYPE)


def asked_of_api(request: HttpRequest) -> bool:
    path: str = request.path_info
    return path == "/api" or path.startswith("/api/")
