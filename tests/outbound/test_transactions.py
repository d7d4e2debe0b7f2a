"""Transactions inside transactions."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from outbound.transactions import atomic, whole

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


@atomic
def make(name: str, error: Exception | None = None) -> None:
    """Two rows, or an error between them."""
    Group.objects.create(name=name)
    if error is not None:
        raise error
    Group.objects.create(name=f"{name}, too")


def savepoints(statements: CaptureQueriesContext) -> int:
    return sum("SAVEPOINT" in statement["sql"] for statement in statements)


def test_by_itself() -> None:
    """All or nothing."""
    with pytest.raises(KeyError):
        make("lost", KeyError())
    make("kept")
    assert set(Group.objects.values_list("name", flat=True)) == {"kept", "kept, too"}


def test_inside_another() -> None:
    """A caller who goes on after the error keeps what is its own."""
    with transaction.atomic():
        Group.objects.create(name="before")
        with pytest.raises(KeyError):
            make("lost", KeyError())
        Group.objects.create(name="after")
    assert set(Group.objects.values_list("name", flat=True)) == {"before", "after"}


def test_inside_a_whole() -> None:
    """There is no savepoint, and after an error nothing is kept, not even for one who hides it."""
    with CaptureQueriesContext(connection) as statements, whole():
        make("kept")
    assert savepoints(statements) == 0
    with pytest.raises(KeyError), whole():
        make("lost", KeyError())
    with whole(), pytest.raises(KeyError):
        make("lost", KeyError())
    assert set(Group.objects.values_list("name", flat=True)) == {"kept", "kept, too"}


def test_a_savepoint_inside_a_whole() -> None:
    """One that somebody wants is there, and holds."""
    with whole():
        Group.objects.create(name="before")
        with pytest.raises(KeyError), transaction.atomic():
            make("lost", KeyError())
        Group.objects.create(name="after")
    assert set(Group.objects.values_list("name", flat=True)) == {"before", "after"}


def test_after_a_whole() -> None:
    """It says nothing about transactions that follow."""
    with whole():
        make("first")
    with CaptureQueriesContext(connection) as statements, transaction.atomic():
        make("second")
    assert savepoints(statements) == 2
