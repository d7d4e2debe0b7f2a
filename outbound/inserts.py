"""Insert what is new and hear which rows those were, in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, router
from django.db.models import Model
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery

BATCH = 200  # rows of a statement: SQLite takes 32766 parameters

Statement = tuple[str, Sequence[Any]]

_of_one_row: dict[tuple[type[Model], str], str] = {}
"""The statement that inserts one row of a model into a database: it is always the same one, and to
put it together costs more than to execute it."""


def insert_new(rows: Sequence[Model]) -> set[Any]:
    """Insert rows of one model, those left out against which a unique constraint speaks. Returns
    the primary keys of what was inserted: who was first has the row, everybody else knows it.

    Up to BATCH rows are one statement: all or none of it is committed, without a transaction too.
    The rows hold values, no expressions.
    """
    return {key for start in range(0, len(rows), BATCH) for key in _insert(rows[start:][:BATCH])}


def _insert(rows: Sequence[Model]) -> list[Any]:
    model = type(rows[0])
    using, key = router.db_for_write(model), model._meta.pk  # noqa: SLF001 - Django's documented API
    found: list[Any] = []
    statements = [_one(rows[0], using)] if len(rows) == 1 else _compiled(rows, using)
    with connections[using].cursor() as cursor:
        for statement, parameters in statements:
            cursor.execute(statement, parameters)
            found += [key.to_python(value) for (value,) in cursor.fetchall()]
    for row in rows:
        row._state.adding, row._state.db = row.pk not in found, using  # noqa: SLF001
    return found


def _one(row: Model, using: str) -> Statement:
    model = type(row)
    if (model, using) not in _of_one_row:
        [(_of_one_row[model, using], parameters)] = _compiled([row], using)
        return _of_one_row[model, using], parameters
    connection = connections[using]
    return _of_one_row[model, using], [
        field.get_db_prep_save(field.pre_save(row, add=True), connection)
        for field in model._meta.concrete_fields  # noqa: SLF001
    ]


def _compiled(rows: Sequence[Model], using: str) -> Iterable[Statement]:
    """As the ORM puts it."""
    model = type(rows[0])
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE)
    query.insert_values(model._meta.concrete_fields, list(rows))  # noqa: SLF001
    compiler = query.get_compiler(using=using)
    compiler.returning_fields = [model._meta.pk]  # noqa: SLF001
    statements: Iterable[Statement] = compiler.as_sql()
    return statements
