"""The whole description, tried with thousands of requests: nothing that is not declared comes
back, and never a 5xx."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.pages import document
from api.scopes import Scope
from integrations_project.wsgi import application
from outbound.states import CallStatus
from payments.services import create_payment
from sandbox.control import Sandbox
from tests.api.conftest import Caller, caller
from tests.api.rows import make_call
from tests.webhooks.rows import make_event
from webhooks.states import EventStatus

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

OPERATIONS = [(path, method) for path, methods in document()["paths"].items() for method in methods]
EXAMPLES = 90  # of each operation, and of each sort: 90 x 12 x 2 = 2,160
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

schema = schemathesis.openapi.from_dict(document())
schema.app = application


def test_there_are_enough() -> None:
    """At least two thousand requests."""
    assert 2 * EXAMPLES * len(OPERATIONS) >= 2000


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path, method", OPERATIONS)
def test_an_operation(sandbox: Sandbox, path: str, method: str, mode: GenerationMode) -> None:
    """Requests that fit the description, and requests that do not: the answer is always one that
    is described. Ids and currencies are sometimes those that there are."""
    desk = caller("desk", *Scope.values, rate=1_000_000)
    rows = [row for row in there() if all(name in path for name in row)]
    seen: Counter[int] = Counter()
    operation = schema[path][method.upper()]

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        row=st.sampled_from(rows),
        known=st.booleans(),
    )
    def try_one(case: Case[Any], row: dict[str, str], known: bool) -> None:
        for name, value in row.items():
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = value
        if isinstance(case.body, dict) and "currency" in case.body and known:
            case.body["currency"] = "eur"
        seen[send(desk, case)] += 1

    try_one()
    assert sum(seen.values()) >= EXAMPLES
    assert len(seen) > 1, seen


def send(desk: Caller, case: Case[Any]) -> int:
    response = case.call(
        headers={**dict(case.headers or {}), "Authorization": f"Bearer {desk.key}"}
    )
    case.validate_response(response, checks=CHECKS)
    return int(response.status_code)


def there() -> list[dict[str, Any]]:
    """Ids of rows in every status, as path parameters; and none."""
    calls = [{"call_id": str(make_call(status=status).pk)} for status in CallStatus.values]
    events = [{"event_id": str(make_event(status=EventStatus(s)).pk)} for s in EventStatus.values]
    payment = create_payment(amount=2000, currency="usd", wait=9)
    return [{}, {"payment_intent": payment.provider_id}, *calls, *events]
