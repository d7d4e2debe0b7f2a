"""The description of the API, as OpenAPI 3.1: what ninja finds in the code, and what it cannot
know about headers and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ninja import NinjaAPI

from api.gate import Access
from api.problems import MEDIA_TYPE, title_of

PREFIX = "/api/v1/"
FIRST_ERROR = 400

DESCRIPTION = (
    "Calls to the outside world, kept as rows: nothing is lost, nothing happens twice. A write "
    "stores a call and answers with it; what becomes of it is at its Location."
)

KEY_PARAMETER = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": True,
    "description": "The same key with the same request within 24 hours is done once.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
PREFER_PARAMETER = {
    "in": "header",
    "name": "Prefer",
    "required": False,
    "description": "`wait=N` (at most 20 seconds) waits for the outcome; with `handling=strict` "
    "a call that cannot be sent at once is cancelled instead of postponed.",
    "schema": {"type": "string", "examples": ["wait=10", "wait=10, handling=strict"]},
}


def _header(description: str, sort: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": sort}}


REQUEST_ID = {"X-Request-ID": _header("The caller's, or ours; the same as in our logs.")}
LOCATION = {"Location": _header("Where the call, or the event, stands.")}
WRITTEN = {
    **LOCATION,
    "Idempotent-Replayed": _header("`true` when this request had been made before."),
    "Preference-Applied": _header("What was made of Prefer."),
}
RETRY_AFTER = {"Retry-After": _header("Seconds.", "integer")}
OF_STATUS = {
    401: {"WWW-Authenticate": _header("`Bearer`")},
    405: {"Allow": _header("The methods that there are.")},
    409: RETRY_AFTER,
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}


def describe(api: NinjaAPI) -> dict[str, Any]:
    """The document."""
    found = dict(api.get_openapi_schema(path_prefix=PREFIX))
    found["info"] = {"title": api.title, "version": api.version, "description": DESCRIPTION}
    found["servers"] = [{"url": "/"}]
    for details, access in _operations(api, found["paths"]):
        details["description"] = _with_scopes(details.get("description", ""), access)
        if access.writes:
            details.setdefault("parameters", []).extend([KEY_PARAMETER, PREFER_PARAMETER])
        details["responses"] = {
            str(status): _response(status, response, access)
            for status, response in sorted(details["responses"].items())
        }
    return found


def _operations(api: NinjaAPI, paths: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Access]]:
    """Each operation's description, and what stands in front of it."""
    for _, router in api._routers:  # noqa: SLF001 - ninja has no other list of them
        for path, view in router.path_operations.items():
            for operation in view.operations:
                for method in operation.methods:
                    yield paths[f"{PREFIX.rstrip('/')}{path}"][method.lower()], access_of(operation)


def access_of(operation: Any) -> Access:
    found: Access = operation.auth_param
    return found


def _with_scopes(description: str, access: Access) -> str:
    scopes = ", ".join(f"`{scope}`" for scope in access.scopes)
    return f"{description.strip()}\n\nScopes: {scopes or 'none'}."


def _response(status: int, response: dict[str, Any], access: Access) -> dict[str, Any]:
    """Errors have another media type; headers are nowhere in the code's types."""
    headers = {**REQUEST_ID, **OF_STATUS.get(status, {})}
    content = response.get("content", {})
    if status >= FIRST_ERROR:
        content = {MEDIA_TYPE: content["application/json"]}
    elif access.writes:
        headers |= {**WRITTEN, **RETRY_AFTER}
    elif status == 202:
        headers |= LOCATION
    return {"description": title_of(status), "headers": headers, "content": content}
