"""Lists of calls and of events: filters, pages, and what is read for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from api.scopes import Scope
from outbound import clock
from outbound.models import OutboundCall
from outbound.states import CallStatus
from tests.api.conftest import Caller, caller, document, pointers, problem
from tests.api.rows import make_call
from tests.webhooks.rows import make_event
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

pytestmark = pytest.mark.django_db

CALLS = {
    "status=failed": 1,
    "adapter=stripe": 3,
    "adapter=Stripe": 0,
    "reference=order-1": 2,
    "provider_reference=pi_1": 1,
    "reference=order-1&status=failed": 1,
    "reference=pi_1": 0,
    "reference=order+1": 0,
    "reference=order%2D1&adapter=stripe&status=pending&provider_reference=pi_1": 1,
}
EVENTS = {
    "source=stripe": 3,
    "source=Stripe": 0,
    "event_id=evt_1": 1,
    "status=failed": 1,
    "source=stripe&event_id=evt_2&status=received": 1,
    "source=github&event_id=evt_2": 0,
}


@pytest.mark.both_databases
def test_filters(desk: Caller) -> None:
    """Calls by status, adapter, our own name, and the provider's; events by source, the
    provider's id, and status."""
    make_call(status=CallStatus.FAILED, reference="order-1")
    make_call(provider_reference="pi_1", reference="order-1")
    make_call()
    make_event(event_id="evt_1", status=EventStatus.FAILED)
    make_event(event_id="evt_2")
    make_event(event_id="evt_3")
    for path, table in (("/calls", CALLS), ("/events", EVENTS)):
        for query, found in table.items():
            assert len(document(desk.get(f"{path}?{query}"), 200)["items"]) == found, query


@pytest.mark.both_databases
def test_others_calls() -> None:
    """Without calls:read a list holds one's own calls, whatever is asked for, page by page; and
    nothing can be done to others' calls."""
    names = ("shop", "other")
    shop, other = (caller(name, Scope.CALLS_WRITE) for name in names)
    for number in range(60):
        for name in names:
            make_call(created_by=f"api:{name}", reference="r", status=CallStatus.FAILED,
                      provider_reference="p", result={"of": name, "number": number})  # fmt: skip
    for query in ("", "status=failed", "adapter=stripe", "reference=r", "provider_reference=p"):
        first = document(shop.get(f"/calls?{query}"), 200)
        second = document(shop.get(f"/calls?{query}&cursor={first['next']}"), 200)
        found = [call["result"] for call in first["items"] + second["items"]]
        assert found == [{"of": "shop", "number": number} for number in reversed(range(60))]
    theirs = document(other.get("/calls"), 200)["items"][0]["id"]
    for path in (f"/calls/{theirs}/retry", f"/calls/{theirs}/cancel"):
        assert problem(shop.post(path), 403)["code"] == "wrong_scope"
    problem(shop.get(f"/calls/{theirs}"), 403)
    assert document(other.post(f"/calls/{theirs}/retry"), 202)["status"] == "pending"


@pytest.mark.both_databases
def test_pages(desk: Caller) -> None:
    """Each call once, newest first, whatever is added meanwhile and however many are of the same
    moment."""
    moment = clock.now()
    ids = [
        str(make_call(created_at=moment - timedelta(seconds=number // 40)).pk)
        for number in range(120)
    ]
    seen, query = [], ""
    while True:
        page = document(desk.get(f"/calls?adapter=stripe{query}"), 200)
        seen += [call["id"] for call in page["items"]]
        assert len(page["items"]) <= 50
        make_call()  # newer than all pages that are left
        if page["next"] is None:
            break
        query = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 120
    assert set(seen) == set(ids)


@pytest.mark.both_databases
def test_pages_of_events(desk: Caller) -> None:
    """The same for events."""
    moment = clock.now()
    ids = {str(make_event(received_at=moment).pk) for _ in range(60)}
    first = document(desk.get("/events"), 200)
    second = document(desk.get(f"/events?cursor={first['next']}"), 200)
    assert {event["id"] for event in first["items"] + second["items"]} == ids
    assert second["next"] is None


CURSORS = ["x", "", "a" * 32, "-" * 32, "_" * 32, "é", "%00", "a" * 5000,
           base64.urlsafe_b64encode(b"\xff" * 24).decode()]  # fmt: skip


@pytest.mark.parametrize("cursor", CURSORS)
@pytest.mark.parametrize("path", ["/calls", "/events"])
def test_cursors_that_are_none(desk: Caller, path: str, cursor: str) -> None:
    """Never a 5xx: 422 with a pointer, or, where it could have been one, an empty page."""
    answer = desk.get(f"{path}?cursor={cursor}")
    if answer.status_code != 200:
        assert pointers(problem(answer, 422)) == ["/cursor"]


def test_cursors_that_were_tampered_with(desk: Caller) -> None:
    """One that was given out, with any of its characters changed, or cut, or of the other list."""
    moment = clock.now()
    for _ in range(51):
        make_call(created_at=moment)
    cursor = document(desk.get("/calls"), 200)["next"]
    changed = [cursor[:at] + "-="[at % 2] + cursor[at + 1 :] for at in range(0, 32, 3)]
    for text in (*changed, cursor[:-1], cursor + "A", cursor + "=", cursor.upper()):
        for path in ("/calls", "/events"):
            answer = desk.get(f"{path}?cursor={text}")
            if answer.status_code != 200:
                assert pointers(problem(answer, 422)) == ["/cursor"]


@pytest.mark.parametrize(
    "query, pointer",
    [
        ("status=FAILED", "/status"),
        ("status=", "/status"),
        ("statsu=failed", "/statsu"),
        ("status=failed&status=failed", "/status"),
        ("reference=", "/reference"),
        ("reference=%00", "/reference"),
        ("reference=" + "x" * 256, "/reference"),
        ("provider_reference=%00", "/provider_reference"),
        ("adapter=%00", "/adapter"),
        ("a%00b=1", "/a\x00b"),
    ],
)
def test_queries_that_are_wrong(desk: Caller, query: str, pointer: str) -> None:
    """422 with the parameter's name: who misspells a filter must not get everything."""
    assert pointers(problem(desk.get(f"/calls?{query}"), 422)) == [pointer]


@pytest.mark.parametrize("path", ["/calls", "/events"])
@pytest.mark.parametrize("query", ["a&", "status=failed&"])
def test_a_thousand_parameters(desk: Caller, path: str, query: str) -> None:
    """Django refuses to read them: 400, as for all that cannot be read."""
    assert problem(desk.get(f"{path}?{query * 1001}"), 400)["code"] == "bad_request"


@pytest.mark.parametrize(
    "query, pointer",
    [
        ("status=pending", "/status"),
        ("adapter=stripe", "/adapter"),
        ("source=", "/source"),
        ("source=%00", "/source"),
        ("event_id=" + "x" * 256, "/event_id"),
        ("event_id=%00", "/event_id"),
        ("event_id=a&event_id=b", "/event_id"),
        ("cursor=a&cursor=b", "/cursor"),
    ],
)
def test_queries_for_events_that_are_wrong(desk: Caller, query: str, pointer: str) -> None:
    """The same for events."""
    assert pointers(problem(desk.get(f"/events?{query}"), 422)) == [pointer]


HISTORY = 5000  # rows, a second apart
PAGE = 50

# Each list, and the rows at the far end of the history that it asks for.
LISTS: dict[str, dict[str, Any]] = {
    "/calls": {},
    "/calls?status=failed": {"status": "failed"},
    "/calls?adapter=acme": {"adapter": "acme"},
    "/calls?reference=r": {"reference": "r"},
    "/calls?provider_reference=p": {"provider_reference": "p"},
    "/calls?reference=r&status=failed": {"reference": "r", "status": "failed"},
    "/events": {},
    "/events?status=failed": {"status": "failed"},
    "/events?source=acme": {"source": "acme"},
    "/events?event_id=evt_1": {"event_id": "evt_1"},
}


@pytest.mark.postgresql
def test_lists_read_an_index(desk: Caller) -> None:
    """PostgreSQL reads hardly more rows than it shows, be they the oldest of many, on the first
    page and far down; for a client that sees only its own calls as well."""
    repeat(OutboundCall, make_call(status="succeeded", created_by="api:desk"), by="created_at")
    repeat(WebhookEvent, make_event(status=EventStatus.PROCESSED), by="received_at")
    long_ago = clock.now() - timedelta(days=30)
    shop = caller("shop")
    for path, columns in LISTS.items():
        if columns and path.startswith("/calls"):
            make_call(created_at=long_ago, created_by="api:shop", **columns)
        elif columns:
            make_event(received_at=long_ago, **columns)
    with connection.cursor() as database:
        database.execute("ANALYZE outbound_outboundcall, webhooks_webhookevent")
    for path in LISTS:
        assert rows_read(desk, path) <= PAGE + 10
    assert rows_read(shop, "/calls") <= PAGE + 10
    assert rows_read(shop, "/calls?status=failed") <= PAGE + 10
    for path in ("/calls", "/events"):
        far_down = document(desk.get(path), 200)["next"]
        for _ in range(3):
            far_down = document(desk.get(f"{path}?cursor={far_down}"), 200)["next"]
        assert rows_read(desk, f"{path}?cursor={far_down}") <= 2 * PAGE


def repeat(model: Any, row: Any, *, by: str) -> None:
    """Many rows like that one, each a second older."""
    table, columns = model._meta.db_table, [f.column for f in model._meta.concrete_fields]
    changed = {
        "id": "gen_random_uuid()",
        by: f"{by} - make_interval(secs => n)",
        "idempotency_key": "'key-' || n",
        "event_id": "'event-' || n",
    }
    values = ", ".join(changed.get(column, column) for column in columns)
    with connection.cursor() as database:
        database.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, "
            f"generate_series(1, {HISTORY}) AS n WHERE id = %s",
            [row.pk],
        )


def rows_read(client: Caller, path: str) -> int:
    """How many rows of its table the list's statement looks at."""
    with CaptureQueriesContext(connection) as queries:
        document(client.get(path), 200)
    [sql] = [q["sql"] for q in queries if "ORDER BY" in q["sql"] and "LIMIT 51" in q["sql"]]
    with connection.cursor() as database:
        database.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        found = database.fetchone()[0]
    document_of_plan = json.loads(found) if isinstance(found, str) else found
    return sum(scanned(document_of_plan[0]["Plan"]))


def scanned(plan: dict[str, Any]) -> Iterator[int]:
    if "Relation Name" in plan:
        removed = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        yield plan["Actual Rows"] + removed
    for part in plan.get("Plans", []):
        yield from scanned(part)
