"""Encrypt everything again with the first of FIELD_ENCRYPTION_KEYS."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, models

from outbound.fields import EncryptedBinaryField, needs_rotation, rotate

BATCH = 500


class Command(BaseCommand):
    help = (
        "Encrypt every stored payload, result and body again with the first key of "
        "FIELD_ENCRYPTION_KEYS. Can be interrupted and run again; once it finds nothing, the old "
        "keys can be removed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count only, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        unreadable = 0
        for model, field in encrypted_columns():
            rotated, seen, broken = rotate_column(model, field, dry_run=options["dry_run"])
            unreadable += broken
            verb = "would be" if options["dry_run"] else "were"
            self.stdout.write(f"{model._meta.label}.{field}: {rotated} of {seen} {verb} rotated")
        if unreadable:
            raise CommandError(f"{unreadable} values cannot be read with any of the keys")


def encrypted_columns() -> Iterator[tuple[type[models.Model], str]]:
    for model in apps.get_models():
        for field in model._meta.local_fields:
            if isinstance(field, EncryptedBinaryField):
                yield model, field.name


def rotate_column(model: type[models.Model], name: str, *, dry_run: bool) -> tuple[int, int, int]:
    """Rotate one column in batches, by primary key. Returns (rotated, seen, unreadable).

    A row that changed in between is left alone: whoever wrote it used the first key.
    """
    rotated = seen = unreadable = 0
    for pk, token in _stored(model, name):
        seen += 1
        if not needs_rotation(token):
            continue
        try:
            replacement = rotate(token)
        except InvalidToken:
            unreadable += 1
            continue
        rotated += 1 if dry_run else _replace(model, name, pk, token, replacement)
    return rotated, seen, unreadable


def _stored(model: type[models.Model], name: str) -> Iterator[tuple[Any, bytes]]:
    """Primary keys and tokens as they stand in the database, not decrypted."""
    table, key, column = _quoted(model, name)
    after: Any = None
    while True:
        where, params = (f"AND {key} > %s", [after]) if after is not None else ("", [])
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL {where} "
                f"ORDER BY {key} LIMIT {BATCH}",
                params,
            )
            rows = cursor.fetchall()
        if not rows:
            return
        for pk, token in rows:
            yield pk, bytes(token)
        after = rows[-1][0]


def _replace(
    model: type[models.Model], name: str, pk: Any, token: bytes, replacement: bytes
) -> int:
    table, key, column = _quoted(model, name)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {column} = %s WHERE {key} = %s AND {column} = %s",
            [replacement, pk, token],
        )
        changed: int = cursor.rowcount
    return changed


def _quoted(model: type[models.Model], name: str) -> tuple[str, str, str]:
    quote = connection.ops.quote_name
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field)
    pk = model._meta.pk
    assert pk is not None
    return quote(model._meta.db_table), quote(pk.column), quote(field.column)
