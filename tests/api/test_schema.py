"""The whole description, tried with thousands of requests: nothing that is not declared comes
back, and never a 5xx."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as bounded
from hypothesis import strategies as st
from pytest_django import Settings

from api.pages import document
from api.scopes import Scope
from outbound.states import CallStatus
from payments.services import create_payment
from sandbox.control import Sandbox
from tests.api.conftest import caller
from tests.api.rows import make_call
from tests.notifications.scripted import entry
from tests.outbound.scripted import Script
from tests.webhooks.rows import make_event
from webhooks.states import EventStatus

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

OPERATIONS = [(path, method) for path, methods in document()["paths"].items() for method in methods]
EXAMPLES = 90  # of each operation, and of each sort: 90 x 12 x 2 = 2,160
SENT: dict[str, dict[str, Any]] = {
    "/api/v1/emails": {"to": "ann@example.com", "subject": "Receipt", "text": "Thank you."},
    "/api/v1/bulk-emails": {
        "recipients": [{"address": "ann@example.com"}, {"address": "nobody"}],
        "subject": "Hello",
        "text": "Hello.",
    },
    "/api/v1/sms": {"to": "+15005550006", "body": "Your code is 7."},
    "/api/v1/push": {"token": "token-1", "title": "Hello"},
}


def test_there_are_enough() -> None:
    """At least two thousand requests."""
    assert 2 * EXAMPLES * len(OPERATIONS) >= 2000


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("path, method", OPERATIONS)
def test_an_operation(
    sandbox: Sandbox, settings: Settings, path: str, method: str, mode: str
) -> None:
    """Requests that fit the description, and requests that do not: the answer is always one that
    is described. Ids and currencies are sometimes those that there are."""
    from tests.api import described  # takes seconds, which the fast selection has no use for

    settings.OUTBOUND_ADAPTERS = {**settings.OUTBOUND_ADAPTERS, "scripted": entry(Script())}
    settings.EMAIL_ROUTE = settings.SMS_ROUTE = settings.PUSH_ROUTE = ["scripted"]
    desk = caller("desk", *Scope.values, rate=1_000_000)
    rows = [row for row in there() if all(name in path for name in row)]
    seen: Counter[int] = Counter()

    @seed(1)
    @bounded(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(
        case=described.cases(path, method, mode=mode),
        row=st.sampled_from(rows),
        known=st.booleans(),
    )
    def try_one(case: Any, row: dict[str, str], known: bool) -> None:
        for name, value in row.items():
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = value
        if isinstance(case.body, dict) and "currency" in case.body and known:
            case.body["currency"] = "eur"
        if known and mode == "positive" and path in SENT:  # no generator comes upon an address
            case.body = SENT[path]
        seen[described.send(desk, case)] += 1

    try_one()
    assert sum(seen.values()) >= EXAMPLES
    assert len(seen) > 1, seen


def there() -> list[dict[str, Any]]:
    """Ids of rows in every status, as path parameters; and none."""
    calls = [{"call_id": str(make_call(status=status).pk)} for status in CallStatus.values]
    events = [{"event_id": str(make_event(status=EventStatus(s)).pk)} for s in EventStatus.values]
    payment = create_payment(amount=2000, currency="usd", wait=9)
    return [{}, {"payment_intent": payment.provider_id}, *calls, *events]
