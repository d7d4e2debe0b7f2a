"""What is new is inserted, what is known is told, in one statement."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbound import clock
from outbound.inserts import BATCH, insert_new
from outbound.models import OutboundCall

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def call(number: int, **columns: Any) -> OutboundCall:
    now = clock.now()
    return OutboundCall(
        **{
            "adapter": "none",
            "operation": "ask",
            "payload": {"number": number, "text": "é\x00\ud800'%s"},
            "idempotency_key": f"key-{number}",
            "max_attempts": 3,
            "due_at": now,
            "hint_at": now,
            "deadline_at": now + timedelta(days=1),
            "created_at": now,
            "updated_at": now,
            **columns,
        }
    )


def test_each_row_has_its_own_values() -> None:
    """The statement is the same from row to row, its values are not: all of them come back as they
    would have been saved, also those that are NULL in one row and not in the next."""
    now = clock.now()
    rows = [
        call(1),
        call(2, reference="o'brien %s", result={"a": [None, 1.5]}, finished_at=now, attempts=7),
        call(3, error_http_status=503, dedupe_key="mine"),
    ]
    for row in rows:
        assert insert_new([row]) == {row.pk}
        assert not row._state.adding
    for row in rows:
        found = OutboundCall.objects.get(pk=row.pk)
        for field in OutboundCall._meta.concrete_fields:
            assert getattr(found, field.attname) == getattr(row, field.attname), field.name


def test_one_statement_a_batch() -> None:
    """One row is one statement, and so are many, up to the size of a batch."""
    with CaptureQueriesContext(connection) as statements:
        insert_new([call(1)])
        insert_new([call(number) for number in range(2, 12)])
    assert len(statements) == 2
    with CaptureQueriesContext(connection) as statements:
        assert len(insert_new([call(number) for number in range(100, 101 + BATCH)])) == BATCH + 1
    assert len(statements) == 2


def test_what_is_known_is_left() -> None:
    """A row against which a unique constraint speaks is not inserted, alone and among others."""
    first, again = call(1), call(1, reference="again")
    assert insert_new([first]) == {first.pk}
    assert insert_new([again]) == set()
    assert again._state.adding
    new = call(2)
    assert insert_new([again, new]) == {new.pk}
    assert OutboundCall.objects.count() == 2
    assert not OutboundCall.objects.filter(reference="again").exists()
