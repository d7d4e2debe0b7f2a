"""Insert what is new and hear which rows those were, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections, router
from django.db.models import Model
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery

from outbound.statements import insert_if_new

BATCH = 200  # rows of a statement: SQLite takes 32766 parameters


def insert_new(rows: Sequence[Model]) -> set[Any]:
    """Insert rows of one model, those left out against which a unique constraint speaks. Returns
    the primary keys of what was inserted: who was first has the row, everybody else knows it.

    Up to BATCH rows are one statement: all or none of it is committed, without a transaction too.
    """
    if len(rows) == 1:
        return {rows[0].pk} if insert_if_new(rows[0]) else set()
    return {key for start in range(0, len(rows), BATCH) for key in _insert(rows[start:][:BATCH])}


def _insert(rows: Sequence[Model]) -> list[Any]:
    model = type(rows[0])
    using, key = router.db_for_write(model), model._meta.pk  # noqa: SLF001 - Django's documented API
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE)
    query.insert_values(model._meta.concrete_fields, list(rows))  # noqa: SLF001
    compiler = query.get_compiler(using=using)
    compiler.returning_fields = [key]
    found: list[Any] = []
    with connections[using].cursor() as cursor:
        for statement, parameters in compiler.as_sql():
            cursor.execute(statement, parameters)
            found += [key.to_python(value) for (value,) in cursor.fetchall()]
    for row in rows:
        row._state.adding, row._state.db = row.pk not in found, using  # noqa: SLF001
    return found
