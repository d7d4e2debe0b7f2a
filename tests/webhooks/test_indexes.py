"""What runs every few seconds reads an index that does not grow with history."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.models import QuerySet

from webhooks.filters import EventFilter
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

pytestmark = [pytest.mark.django_db, pytest.mark.postgresql]

NOW = datetime(2031, 1, 1, tzinfo=UTC)
FINISHED_ROWS = 5000

Query = Callable[[], "QuerySet[WebhookEvent]"]

QUERIES: dict[str, tuple[Query, str]] = {
    "unannounced": (lambda: WebhookEvent.objects.unannounced(NOW)[:500], "event_due"),
    "expired leases": (
        lambda: WebhookEvent.objects.expired_leases(NOW).order_by("lease_expires_at")[:500],
        "Index",  # this one's, or the statuses': both hold hardly a row
    ),
    "failed": (
        lambda: WebhookEvent.objects.failed().order_by("-received_at")[:50],
        "event_attention",
    ),
    "newest": (lambda: WebhookEvent.objects.order_by("-received_at")[:50], "event_received"),
    "by the provider's id": (
        lambda: WebhookEvent.objects.filter(event_id="evt_77"),
        "event_once",
    ),
    "a delivery's row": (
        lambda: WebhookEvent.objects.filter(
            source="stripe", account__in={""}, event_id__in={"evt_77"}
        ),
        "event_once",
    ),
    "a replay's next events": (
        lambda: (
            EventFilter(source="stripe", status="processed", until=NOW)
            .events()
            .filter(pk__gt=uuid.UUID(int=0))
            .order_by("pk")[:100]
        ),
        "webhooks_webhookevent_pkey",
    ),
    "a replay of what failed": (
        lambda: EventFilter(status="failed", until=NOW).events().order_by("pk")[:100],
        "Index",  # whichever: it holds hardly a row
    ),
}


@pytest.fixture
def history(db: None) -> None:
    """Many finished rows, and statistics that know about them."""
    WebhookEvent.objects.create(
        id=uuid.UUID(int=FINISHED_ROWS),
        source="stripe",
        event_id="evt_0",
        event_type="a",
        status=EventStatus.PROCESSED,
        received_at=NOW,
        updated_at=NOW,
        due_at=NOW,
        hint_at=NOW,
    )
    table = connection.ops.quote_name(WebhookEvent._meta.db_table)
    names = [str(field.column) for field in WebhookEvent._meta.concrete_fields]
    columns = dict(zip(names, names, strict=True)) | {
        "id": "lpad(to_hex(number), 32, '0')::uuid",
        "event_id": "'evt_' || number",
        "received_at": "received_at - number * interval '1 second'",
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
            f"FROM {table}, generate_series(1, {FINISHED_ROWS - 1}) AS number"
        )
        cursor.execute(f"ANALYZE {table}")


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("query,index", QUERIES.values(), ids=QUERIES.keys())
def test_the_index_is_used(query: Query, index: str) -> None:
    """PostgreSQL reads this index, and scans no table."""
    plan = query().explain()
    assert index in plan
    assert "Seq Scan" not in plan
