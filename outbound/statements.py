"""INSERT statements that are put together once, for the rows that every call needs.

Django's compiler builds a statement anew for each row, which takes it several times as long as the
database takes to execute it; but the text depends on the model only, and is the same on both
databases. It is kept here, and a row's values are prepared as its fields say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any

from django.db import connection
from django.db.models import BooleanField, CharField, Field, IntegerField, Model

AS_THEY_ARE = (CharField, IntegerField, BooleanField)  # fields, and types of values, that need
PLAIN = frozenset({str, int, bool})  # no preparation


def insert(row: Model) -> None:
    """Insert a row that has its primary key. Sends no signals. Raises IntegrityError."""
    statement = _insert(type(row))
    with connection.cursor() as cursor:
        cursor.execute(statement.text, statement.values(row))
    _mark(row, stored=True)


def insert_if_new(row: Model) -> bool:
    """The same, unless a unique constraint speaks against it. Returns whether it was inserted."""
    statement = _insert(type(row))
    with connection.cursor() as cursor:
        cursor.execute(f"{statement.text} ON CONFLICT DO NOTHING", statement.values(row))
        stored: bool = cursor.rowcount == 1
    _mark(row, stored=stored)
    return stored


def _mark(row: Model, *, stored: bool) -> None:
    row._state.adding, row._state.db = not stored, connection.alias  # noqa: SLF001 - as `save` does


@dataclass(frozen=True, slots=True)
class _Insert:
    text: str
    fields: Sequence[tuple[Field[Any, Any], bool]]  # and whether it takes plain values as they are
    read: Any

    def values(self, row: Model) -> list[Any]:
        return [
            value
            if value is None or (as_it_is and type(value) in PLAIN)
            else field.get_db_prep_save(value, connection)
            for value, (field, as_it_is) in zip(self.read(row), self.fields, strict=True)
        ]


@cache
def _insert(model: type[Model]) -> _Insert:
    meta = model._meta  # noqa: SLF001 - Django's documented API
    fields: Sequence[Field[Any, Any]] = meta.concrete_fields
    columns = ", ".join(f'"{field.column}"' for field in fields)
    places = ", ".join(["%s"] * len(fields))
    return _Insert(
        f'INSERT INTO "{meta.db_table}" ({columns}) VALUES ({places})',  # noqa: S608 - our names
        [(field, isinstance(field, AS_THEY_ARE)) for field in fields],
        attrgetter(*[field.attname for field in fields]),
    )
