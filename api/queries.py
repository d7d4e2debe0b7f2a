"""Query parameters, as strict as bodies are."""

from __future__ import annotations

from django.http import HttpRequest
from pydantic import BaseModel

from api.errors import Problem
from outbound.errors import FieldError


def filters_of(request: HttpRequest, wanted: BaseModel) -> dict[str, str]:
    """What is asked for, but for the cursor. Raises Problem for a parameter that is unknown, or
    there twice: who misspells a filter must not get everything."""
    known = type(wanted).model_fields
    errors = [
        FieldError(f"/{name}", "is no parameter" if name not in known else "is there twice")
        for name, values in request.GET.lists()
        if name not in known or len(values) > 1
    ]
    if errors:
        raise Problem(422, "the query has wrong parameters", code="invalid", errors=errors)
    return wanted.model_dump(exclude_none=True, exclude={"cursor"})
