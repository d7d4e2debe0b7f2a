"""Bodies: JSON, strictly. What two readers could understand differently is refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest

from api.errors import Problem
from webhooks.bodies import read_body
from webhooks.errors import BodyTooLarge, UnreadableBody

MAX_BYTES = 1_048_576


def load_body(request: HttpRequest) -> None:
    """Read the body into the request, where `request.body` finds it; the size is bounded before
    anything is read. Raises Problem."""
    try:
        body = read_body(request, limit=MAX_BYTES)
    except (BodyTooLarge, RequestDataTooBig) as error:
        detail = f"a body must not be larger than {MAX_BYTES} bytes"
        raise Problem(413, detail, code="too_large") from error
    except UnreadableBody as error:
        raise Problem(400, str(error), code="unreadable") from error
    request._body = body  # noqa: SLF001 - where Django keeps it; ninja asks for it there
    if body and not _is_json(request):
        detail = "send Content-Type: application/json"
        raise Problem(
            415, detail, code="wrong_content_type", headers={"Accept": "application/json"}
        )


def _is_json(request: HttpRequest) -> bool:
    charset = (request.content_params or {}).get("charset", "utf-8")
    return request.content_type == "application/json" and charset.lower() in ("utf-8", "utf8")


def document_of(request: HttpRequest) -> Any:
    """The document in a body that was loaded, which is read once. Raises Problem."""
    if not hasattr(request, "document"):
        request.document = parse(request.body)  # type: ignore[attr-defined]
    return request.document  # type: ignore[attr-defined]


def parse(body: bytes) -> Any:
    """The document. Raises Problem."""
    try:
        return json.loads(
            body.decode(), parse_constant=_no_constant, object_pairs_hook=_without_repetition
        )
    except (ValueError, RecursionError) as error:
        detail = "the body is not JSON in UTF-8, with each name once"
        raise Problem(400, detail, code="malformed_json") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found
