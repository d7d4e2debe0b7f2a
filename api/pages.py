"""What describes the API: a document for programs, and a page for people."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from api.front import front
from api.openapi import describe


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document. Nothing in it changes while a process lives."""
    return describe(front)


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """For everybody: it says nothing that this source code does not."""
    return JsonResponse(document(), json_dumps_params={"indent": 2})


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """A plain page made of the document; for staff only, unless in DEBUG."""
    return _page(request) if settings.DEBUG else _for_staff(request)


def nothing(request: HttpRequest) -> HttpResponse:
    """At /api/v1, so that nobody is sent on to /api/v1/, where there is nothing either."""
    raise Http404


def _page(request: HttpRequest) -> HttpResponse:
    described = document()
    operations = [
        {"method": method.upper(), "path": path, **_with_names(details)}
        for path, methods in described["paths"].items()
        for method, details in methods.items()
    ]
    models = [
        {"name": name, "fields": _fields(schema), "text": schema.get("description", "")}
        for name, schema in sorted(described["components"]["schemas"].items())
    ]
    return render(
        request,
        "api/docs.html",
        {"info": described["info"], "operations": operations, "models": models},
    )


_for_staff = staff_member_required(_page)


def _with_names(details: dict[str, Any]) -> dict[str, Any]:
    body = details.get("requestBody", {}).get("content", {}).get("application/json", {})
    answers = [
        {"status": status, "title": found["description"], "model": _model_of(found)}
        for status, found in details["responses"].items()
    ]
    return {**details, "body": _sort(body.get("schema", {})), "answers": answers}


def _model_of(response: dict[str, Any]) -> str:
    return next((_sort(kind["schema"]) for kind in response["content"].values()), "")


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "sort": _sort(found),
            "required": name in required,
            "text": found.get("description", ""),
        }
        for name, found in schema.get("properties", {}).items()
    ]


def _sort(schema: dict[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "allOf", "oneOf"):
        if several in schema:
            return " or ".join(_sort(one) for one in schema[several])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_sort(schema.get('items', {}))}"
    bounds = ((word, schema[name]) for name, word in BOUNDS.items() if name in schema)
    return " ".join(
        [str(schema.get("format") or schema.get("type") or ""), *(f"{w} {v}" for w, v in bounds)]
    ).strip()


BOUNDS = {
    "minimum": "from",
    "maximum": "to",
    "minLength": "of at least",
    "maxLength": "of at most",
    "pattern": "like",
}
