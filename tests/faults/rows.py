"""The rows of a system under test, read past its code: plain SQL on a connection of our own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call:
    """A row of outbound_outboundcall."""

    id: str
    adapter: str
    operation: str
    status: str
    attempts: int
    idempotency_key: str
    provider_reference: str
    reference: str
    rule: str
    error_kind: str
    error_code: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of outbound_callattempt."""

    call_id: str
    number: int
    idempotency_key: str
    outcome: str
    started_at: datetime
    finished_at: datetime | None
    worker: str
    trigger: str = "auto"


@dataclass(frozen=True, slots=True)
class Transition:
    """A row of outbound_circuittransition."""

    circuit_id: str
    at: datetime
    from_state: str
    to_state: str
    incident: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """A row of webhooks_webhookevent."""

    id: str
    source: str
    account: str
    event_id: str
    event_type: str
    status: str
    attempts: int
    deliveries_seen: int
    error: str


class Rows:
    """Reads a database by its URL, with a new connection for each question: it may have been
    restarted in between. Raises what psycopg and sqlite3 raise."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    def calls(self) -> list[Call]:
        return self._read(Call, "outbound_outboundcall", order="created_at, id")

    def attempts(self) -> list[Attempt]:
        return self._read(Attempt, "outbound_callattempt", order="call_id, number")

    def transitions(self) -> list[Transition]:
        return self._read(Transition, "outbound_circuittransition", order="at, id")

    def events(self) -> list[Event]:
        return self._read(Event, "webhooks_webhookevent", order="received_at, id")

    def select(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """The rows of any query, %s for each parameter."""
        if self._url.startswith("sqlite:///"):
            return self._select_sqlite(statement.replace("%s", "?"), parameters)
        with psycopg.connect(self._url, connect_timeout=5, row_factory=dict_row) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def _select_sqlite(self, statement: str, parameters: Iterable[object]) -> list[dict[str, Any]]:
        path = self._url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, tuple(parameters))]

    def _read(self, kind: type[R], table: str, *, order: str) -> list[R]:
        columns = [column.name for column in fields(kind)]  # type: ignore[arg-type]
        found = self.select(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")
        return [kind(**{name: _value(name, row[name]) for name in columns}) for row in found]


def _value(column: str, value: Any) -> Any:
    """The same Python value from either database: SQLite keeps ids and times as text."""
    if value is None:
        return None
    if column in ("id", "call_id", "incident"):
        return str(value if isinstance(value, UUID) else UUID(value))
    if (column == "at" or column.endswith("_at")) and isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value
