"""Plain statements for what every call asks the database, on either kind of it.

The ORM takes longer to build such a statement than the database to execute it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection


def rows(statement: str, values: Sequence[Any]) -> list[Any]:
    """What a statement answers."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[Any] = cursor.fetchall()
    return found


def changed(statement: str, values: Sequence[Any]) -> int:
    """How many rows a statement has written."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


def moment_in(moment: datetime) -> Any:
    """A moment as a column holds it."""
    return connection.ops.adapt_datetimefield_value(moment)


def moment_out(value: datetime) -> datetime:
    """A moment that was read from a column."""
    return value if value.tzinfo else value.replace(tzinfo=connection.timezone)  # SQLite: naive


def token_in(token: UUID) -> Any:
    """A token as a column holds it."""
    return token if connection.features.has_native_uuid_field else token.hex
