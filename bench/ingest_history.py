"""Whether a long history makes receiving slower: deliveries to a table with a million processed
events, against the same with none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.db import connection
from django.utils import timezone

from bench.ingest import (
    OURS,
    Provider,
    header,
    loads_of,
    table,
    title,
    wrong_count,
    wrong_statuses,
)
from bench.measuring import Effort
from bench.reports import Report
from bench.serving import clients, declare_queues, served
from tests.services.environment import ROOT, sqlite_url
from tests.services.shared_postgres import PostgresServer
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

GOAL = 0.95  # times the deliveries into an empty table
PATH = "/webhooks/stripe"
WEB = "integrations_project.wsgi"
EMPTY = f"{OURS}, no events"

# What differs from row to row, all of them older than the first: the rest is the first one's.
OLDER = {
    "postgresql": {
        "id": "(lpad(to_hex({now} - 1000 * n), 12, '0') || '7'"
        " || substr(md5(random()::text), 1, 19))::uuid",
        "event_id": "'evt_old_' || n",
        "received_at": "received_at - n * interval '1 second'",
    },
    "sqlite": {
        "id": "printf('%012x7', {now} - 1000 * n) || lower(substr(hex(randomblob(10)), 1, 19))",
        "event_id": "'evt_old_' || n",
        "received_at": "strftime('%Y-%m-%d %H:%M:%f', received_at, '-' || n || ' seconds')",
    },
}
SETTLE = {
    "postgresql": ("VACUUM ANALYZE", "CHECKPOINT"),
    "sqlite": ("ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"),
}
NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {})"


def measure(effort: Effort) -> Report:
    """Two databases, two web servers, the same load in turns."""
    declare_queues()
    full = f"{OURS}, {effort.rows:,} events"
    with another_database() as url:
        fill(effort.rows)
        with (
            served(WEB, DATABASE_URL=url) as empty_port,
            served(WEB) as full_port,
            clients(empty_port) as few,
            clients(full_port) as many,
        ):
            sides = {EMPTY: (few, Provider(PATH)), full: (many, Provider(PATH))}
            loads = loads_of(sides, effort)
    return Report(
        title(effort),
        header(GOAL),
        table(loads, EMPTY, GOAL),
        failures=[
            *wrong_statuses(loads),
            *wrong_count(full, WebhookEvent.objects.count() - effort.rows, sides[full][1].distinct),
        ],
    )


@contextmanager
def another_database() -> Iterator[str]:
    """A second database with the same tables, on the same server or disk."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        url = sqlite_url(Path(name).with_name("empty.sqlite3"))
        migrate(url)
        yield url
        return
    own = urlsplit(os.environ["DATABASE_URL"])
    server = PostgresServer(urlunsplit(own._replace(path="/postgres")), origin="of the benchmark")
    with server.database() as url:
        migrate(url)
        yield url


def migrate(url: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdin=subprocess.DEVNULL,
        check=True,
    )


def fill(rows: int) -> None:
    """So many processed events, a second apart, with bodies and all; and the statistics of a
    table that has had them for a while."""
    first = processed_event()
    changed = OLDER[connection.vendor]
    events = WebhookEvent._meta  # noqa: SLF001 - Django's documented API
    columns = [str(field.column) for field in events.concrete_fields]
    values = [changed.get(column, column) for column in columns]
    statement = (
        f"INSERT INTO {events.db_table} ({', '.join(columns)}) {NUMBERS.format(rows - 1)}"  # noqa: S608
        f" SELECT {', '.join(values)} FROM {events.db_table}, numbers"
        f" WHERE event_id = '{first.event_id}'"
    )
    if rows > 1:
        with connection.cursor() as cursor:
            cursor.execute(statement.replace("{now}", str(int(time.time() * 1000))))
            for settle in SETTLE[connection.vendor]:
                cursor.execute(settle)


def processed_event() -> WebhookEvent:
    now = timezone.now()
    return WebhookEvent.objects.create(
        source="stripe",
        event_id="evt_first",
        event_type="payment_intent.succeeded",
        livemode=False,
        occurred_at=now,
        received_at=now,
        body=Provider(PATH).delivery(),
        headers={"Content-Type": "application/json"},
        matched_secret="1-00000000",  # noqa: S106 - a fingerprint
        status=EventStatus.PROCESSED,
        attempts=1,
        due_at=now,
        hint_at=now,
        processed_at=now,
        updated_at=now,
    )
