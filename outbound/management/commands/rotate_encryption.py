"""Encrypt everything again with the first of FIELD_ENCRYPTION_KEYS."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import models
from django.db.models import ExpressionWrapper, F, Value

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
            self.stdout.write(f"{model.__name__}.{field}: {rotated} of {seen} {verb} rotated")
        if unreadable:
            raise CommandError(f"{unreadable} values cannot be read with any of the keys")


def encrypted_columns() -> Iterator[tuple[type[models.Model], str]]:
    for model in apps.get_models():
        for field in model._meta.local_fields:  # noqa: SLF001 - Django's public API
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
    rows = _with_tokens(model, name).exclude(token=None).order_by("pk").values_list("pk", "token")
    batch = list(rows[:BATCH])
    while batch:
        for pk, token in batch:
            yield pk, bytes(token)
        batch = list(rows.filter(pk__gt=batch[-1][0])[:BATCH])


def _replace(
    model: type[models.Model], name: str, pk: Any, token: bytes, replacement: bytes
) -> int:
    unchanged = _with_tokens(model, name).filter(pk=pk, token=token)
    return unchanged.update(**{name: Value(replacement, models.BinaryField())})


def _with_tokens(model: type[models.Model], name: str) -> models.QuerySet[Any]:
    token = ExpressionWrapper(F(name), output_field=models.BinaryField())
    return model._default_manager.annotate(token=token)  # noqa: SLF001 - public API
