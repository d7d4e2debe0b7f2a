"""Empties the session's database after a test that has committed, or after an example.

Django's own `flush` truncates every table, on PostgreSQL a new file and an fsync for each, and
then makes all content types and permissions again. Here only what a test has filled is deleted,
and what `migrate` made stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.db import connection, transaction
from django.test import TransactionTestCase

MADE_BY_MIGRATE = {"auth_permission", "django_content_type", "django_migrations"}


def empty_database(test: TransactionTestCase) -> None:
    """In place of TransactionTestCase._fixture_teardown: delete every row of our models."""
    tables = emptied()
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # as TRUNCATE does: wait for whoever still writes
            cursor.execute(f"LOCK TABLE {', '.join(tables.values())} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {quoted})"
                for name, quoted in tables.items()
            )
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {tables[name]}")


@cache
def emptied() -> dict[str, str]:
    """The tables to empty, and how each is written in SQL."""
    names = set(connection.introspection.django_table_names(only_existing=True))
    return {name: connection.ops.quote_name(name) for name in sorted(names - MADE_BY_MIGRATE)}


@contextmanager
def rolled_back() -> Iterator[None]:
    """A block, or each of hypothesis's examples, that leaves nothing in the database. For the next
    ones it is quicker than to delete rows: PostgreSQL would have to read past them until commit."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
