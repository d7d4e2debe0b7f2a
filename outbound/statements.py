"""Statements that are put together once, for the rows that every call needs.

Django's compiler builds a statement anew for each row, which takes it several times as long as the
database takes to execute it; but the text depends on the model only, and is the same on both
databases. It is kept here, and a row's values are prepared as its fields say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    Field,
    ForeignKey,
    IntegerField,
    Model,
    UUIDField,
)

from outbound.prepared import prepared
from outbound.transactions import execute_later

M = TypeVar("M", bound=Model)
Converter = tuple[int, Any, Callable[[Any, Any, BaseDatabaseWrapper], Any]]  # and its place, column

# Fields, and types of values, that need no preparation.
PLAIN_FIELDS = (BooleanField, CharField, DateTimeField, ForeignKey, IntegerField, UUIDField)
EMPTY: dict[type, dict[Any, str]] = {  # what empty columns hold, in SQL
    type(None): {None: "NULL"}, str: {"": "''"}, int: {0: "0"}, bool: {False: "false"},
}  # fmt: skip
IF_NEW = " ON CONFLICT DO NOTHING"
PLAIN_VALUES = {
    "sqlite": frozenset({str, int, bool}),
    "postgresql": frozenset({str, int, bool, datetime, UUID}),
}


def insert(row: Model) -> None:
    """Insert a row that has its primary key. Sends no signals. Raises IntegrityError, in a `whole`
    perhaps at its end."""
    execute_later(*_insert_of(row))
    _mark(row, stored=True)


def insert_if_new(row: Model) -> bool:
    """The same, unless a unique constraint speaks against it. Returns whether it was inserted."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(*_insert_of(row, IF_NEW))
        stored: bool = cursor.rowcount == 1
    _mark(row, stored=stored)
    return stored


def insert_or_raise(row: Model, error: Exception) -> None:
    """Insert a row; raises `error` when a unique constraint speaks against it. In a `whole` that is
    raised by what follows, or at its end."""

    def check(count: int) -> None:
        if not count:
            _mark(row, stored=False)
            raise error

    text, given = _insert_of(row, IF_NEW)
    _mark(row, stored=True)
    execute_later(text, given, check)


def _insert_of(row: Model, ending: str = "") -> tuple[str, list[Any]]:
    """The statement, as it is executed, and what it is given. Most columns of a new row are empty,
    and the statement says so itself: psycopg keeps none in mind that takes more than 50
    parameters."""
    statement = _insert(type(row))
    places, given = [], []
    for value in statement.values(row, connections[DEFAULT_DB_ALIAS]):
        word = EMPTY.get(type(value), {}).get(value)
        places.append(word or "%s")
        if word is None:
            given.append(value)
    return prepared(f"{statement.text} VALUES ({', '.join(places)}){ending}"), given


def update(row: Model, *columns: str) -> None:
    """Write columns of a row, which are named by their attributes. In a `whole` an error comes
    perhaps at its end."""
    statement, database = _update(type(row), columns), connections[DEFAULT_DB_ALIAS]
    execute_later(prepared(statement.text), statement.values(row, database))


def update_if(row: Model, changes: Mapping[str, Any], **conditions: Any) -> bool:
    """Write columns of a row, if others hold these values (none is None), and reread all. Columns
    are named by their attributes. Returns whether it was written."""
    statement = _update(type(row), tuple(changes), tuple(conditions))
    values = [*changes.values(), *conditions.values(), row.pk]
    return _written(row, statement.text, statement.given(values, connections[DEFAULT_DB_ALIAS]))


def change_if(row: Model, changes: str, condition: str, values: Sequence[Any]) -> bool:
    """The same, where changes and condition have to be said in SQL. values: for both."""
    meta = type(row)._meta  # noqa: SLF001 - Django's documented API
    key = meta.pk.get_db_prep_value(row.pk, connections[DEFAULT_DB_ALIAS])
    text = f'UPDATE "{meta.db_table}" SET {changes} WHERE {condition} AND "{meta.pk.column}" = %s'  # noqa: S608
    return _written(row, text, [*values, key])


def find(model: type[M], key: UUID | str) -> M | None:
    """The row with this primary key; None when there is none."""
    found = _columns_of(model, key)
    return None if found is None else model.from_db(DEFAULT_DB_ALIAS, _names(model), found)


def reread(row: Model) -> None:
    """Read all columns of a row anew, as `refresh_from_db` does. Raises its DoesNotExist."""
    found = _columns_of(type(row), row.pk)
    if found is None:
        raise type(row).DoesNotExist  # type: ignore[attr-defined]
    _hold(row, found)


def _mark(row: Model, *, stored: bool) -> None:
    row._state.adding, row._state.db = not stored, DEFAULT_DB_ALIAS  # noqa: SLF001 - as `save` does


def _hold(row: Model, found: Sequence[Any]) -> None:
    """Let a row have what the database has. found: values of its model's fields."""
    row.__dict__.update(zip(_names(type(row)), found, strict=True))
    row._state.fields_cache.clear()  # noqa: SLF001 - as `refresh_from_db` does


def _written(row: Model, text: str, values: Sequence[Any]) -> bool:
    """Whether an UPDATE has found the row, which then has what is stored."""
    found = _found(type(row), f"{text} RETURNING {_columns(type(row))}", values)
    if found is not None:
        _hold(row, found)
    return found is not None


@dataclass(frozen=True, slots=True)
class _Statement:
    text: str
    fields: Sequence[tuple[Field[Any, Any], bool]]  # and whether it takes plain values as they are
    read: Callable[[Model], Iterable[Any]]

    def values(self, row: Model, database: BaseDatabaseWrapper) -> list[Any]:
        return self.given(self.read(row), database)

    def given(self, values: Iterable[Any], database: BaseDatabaseWrapper) -> list[Any]:
        """Values of the fields, as they are given to the database."""
        plain = PLAIN_VALUES[database.vendor]
        return [
            value
            if value is None or (as_it_is and type(value) in plain)
            else field.get_db_prep_save(value, database)
            for value, (field, as_it_is) in zip(values, self.fields, strict=True)
        ]


@cache
def _insert(model: type[Model]) -> _Statement:
    meta = model._meta  # noqa: SLF001 - Django's documented API
    return _statement(f'INSERT INTO "{meta.db_table}" ({_columns(model)})', meta.concrete_fields)


@cache
def _update(
    model: type[Model], columns: tuple[str, ...], conditions: tuple[str, ...] = ()
) -> _Statement:
    meta = model._meta  # noqa: SLF001 - likewise
    by_name = {field.attname: field for field in meta.concrete_fields}
    fields = [by_name[name] for name in columns]
    known = [*(by_name[name] for name in conditions), meta.pk]
    changes = ", ".join(f'"{field.column}" = %s' for field in fields)
    where = " AND ".join(f'"{field.column}" = %s' for field in known)
    return _statement(f'UPDATE "{meta.db_table}" SET {changes} WHERE {where}', [*fields, *known])  # noqa: S608


def _columns_of(model: type[Model], key: UUID | str) -> list[Any] | None:
    """What the database holds, as values of the model's fields."""
    meta = model._meta  # noqa: SLF001 - likewise
    prepared = meta.pk.get_db_prep_value(key, connections[DEFAULT_DB_ALIAS])
    text = f'SELECT {_columns(model)} FROM "{meta.db_table}" WHERE "{meta.pk.column}" = %s'  # noqa: S608
    return _found(model, text, [prepared])


def _found(model: type[Model], text: str, values: Sequence[Any]) -> list[Any] | None:
    """What a statement about one row answers with its columns, as values of the model's fields."""
    database = connections[DEFAULT_DB_ALIAS]
    with database.cursor() as cursor:
        cursor.execute(text, values)
        row = cursor.fetchone()
    if row is None:
        return None
    found = list(row)
    for place, column, convert in _converters(model, database.vendor):
        found[place] = convert(found[place], column, database)
    return found


@cache
def _converters(model: type[Model], vendor: str) -> Sequence[Converter]:
    meta, database = model._meta, connections[DEFAULT_DB_ALIAS]  # noqa: SLF001 - likewise
    return [
        (place, column, convert)
        for place, field in enumerate(meta.concrete_fields)
        for column in [field.get_col(meta.db_table)]
        for convert in [
            *database.ops.get_db_converters(column),
            *column.get_db_converters(database),
        ]
    ]


@cache
def _columns(model: type[Model]) -> str:
    return ", ".join(f'"{field.column}"' for field in model._meta.concrete_fields)  # noqa: SLF001 - likewise


@cache
def _names(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]  # noqa: SLF001 - likewise


def _statement(text: str, fields: Sequence[Field[Any, Any]]) -> _Statement:
    return _Statement(
        text,
        [(field, isinstance(field, PLAIN_FIELDS)) for field in fields],
        attrgetter(*[field.attname for field in fields]),
    )
