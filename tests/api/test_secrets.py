"""What callers send stays between them, the provider and the encryption: marked secrets and
personal data are in no log line, no column and no problem."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from pytest_django import Settings

from tests.api.conftest import PAYMENT, Caller, document, problem
from tests.api.doors import POSTS, fields_of, filled
from tests.api.wired import provider
from tests.outbound import wire

pytestmark = pytest.mark.django_db(transaction=True)

# Written in two halves, so that a traceback that shows this file's lines does not count.
MARK = "budge" + "rigar"
CUSTOMER = {
    "email": f"{MARK}@example.com",
    "name": f"Ada {MARK}",
    "description": f"likes {MARK}s",
    "metadata": {"note": MARK},
}
QUOTES = {"type": "card_error", "message": f"No, {MARK}@example.com. No {MARK}s"}
ECHO = {"id": "cus_1", "object": "customer", **CUSTOMER}


@pytest.mark.parametrize(
    "behaviour, status",
    [
        (wire.answers(wire.reply(json.dumps(ECHO).encode())), 201),
        (wire.answers(wire.reply(json.dumps({"error": QUOTES}).encode(), status="402 No")), 400),
        (wire.resets(), 202),
    ],
    ids=["done", "refused", "lost"],
)
@pytest.mark.both_databases
def test_a_write(
    shop: Caller,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    behaviour: wire.Behaviour,
    status: int,
) -> None:
    """Whatever comes of it: only the client hears its own words again, in `result`."""
    caplog.set_level(logging.DEBUG)
    with provider(settings, behaviour):
        answer = shop.write("/customers", CUSTOMER, prefer="wait=9")
    assert answer.status_code == status
    told = json.loads(answer.content)
    if status == 201:
        assert told.pop("result") == ECHO
    seen = [json.dumps(told), caplog.text, repr([r.__dict__ for r in caplog.records]), rows()]
    for text in seen:
        assert MARK not in text
        assert shop.key.partition(".")[2] not in text


def rows() -> str:
    """All that is stored in the clear."""
    found: list[Any] = []
    with connection.cursor() as cursor:
        for model in (m for name in ("api", "outbound", "payments") for m in models(name)):
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")
            found += cursor.fetchall()
    return repr([[bytes(c) if isinstance(c, memoryview) else c for c in row] for row in found])


def models(app: str) -> Any:
    return apps.get_app_config(app).get_models()


@pytest.mark.parametrize("path", POSTS)
def test_refusals_quote_no_value(desk: Caller, caplog: pytest.LogCaptureFixture, path: str) -> None:
    """They name the field, and not what stood in it; nor the key that came along."""
    caplog.set_level(logging.DEBUG)
    wrong = {name: {"a": [MARK]} for name in fields_of(path)}
    texts = dict.fromkeys(fields_of(path), f"{MARK}\x00")
    answers = [
        desk.write(filled(path), wrong),
        desk.write(filled(path), texts),
        desk.write(filled(path), raw=f'{{"{MARK}'.encode()),
        desk.write(filled(path), f"{MARK}"),
        desk.write(filled(path), content_type=f"text/{MARK}", raw=b"x"),
        desk.post(filled(path), {}, idempotency_key=f"{MARK} "),
        desk.send("POST", filled(path), {}, Authorization=f"Bearer {MARK}"),
    ]
    for answer in answers:
        assert MARK not in answer.content.decode(), answer.content
        assert desk.key.partition(".")[2] not in answer.content.decode()
    assert MARK not in caplog.text
    assert {problem(answer, answer.status_code)["status"] for answer in answers} >= {401, 415, 422}


def test_filters_are_not_quoted(desk: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a query, which may hold whom somebody looks for."""
    caplog.set_level(logging.DEBUG)
    for query in (f"reference={MARK}&status=x", f"status={MARK}", f"cursor={MARK}"):
        assert MARK not in desk.get(f"/calls?{query}").content.decode()
    document(desk.get(f"/calls?reference={MARK}"), 200)
    desk.write(f"/payment-intents?{MARK}={MARK}", PAYMENT)
    assert MARK not in caplog.text
