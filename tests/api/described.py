"""Requests made from the API's own description, and what must hold of the answers."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.pages import document
from integrations_project.wsgi import application
from tests.api.conftest import Caller

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

schema = schemathesis.openapi.from_dict(document())
schema.app = application


def cases(path: str, method: str, *, mode: str) -> SearchStrategy[Case[Any]]:
    """Requests that fit the description ("positive"), or that do not ("negative")."""
    operation = schema[path][method.upper()]
    strategy: SearchStrategy[Case[Any]] = operation.as_strategy(
        generation_mode=GenerationMode(mode)
    )
    return strategy


def send(sender: Caller, case: Case[Any]) -> int:
    """The status of the answer, which is one that is described."""
    response = case.call(
        headers={**dict(case.headers or {}), "Authorization": f"Bearer {sender.key}"}
    )
    case.validate_response(response, checks=CHECKS)
    return int(response.status_code)
