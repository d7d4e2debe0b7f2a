"""Transactions inside transactions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from outbound.transactions import atomic, execute_later, savepoint, whole

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


def test_savepoint_inside_a_whole() -> None:
    """What fails in it, or in one that is inside it, undoes nothing but itself."""

    def fail() -> None:
        with savepoint():
            note("lost")
            raise KeyError

    with whole():
        note("before")
        with pytest.raises(KeyError):
            fail()
        with savepoint():
            note("inside")
            with pytest.raises(KeyError):
                make("lost, too", KeyError())
            assert names() == ["before", "inside"]
        note("after")
    assert names() == ["after", "before", "inside"]


def test_after_a_whole() -> None:
    """It says nothing about transactions that follow."""
    with whole():
        make("first")
    with CaptureQueriesContext(connection) as statements, transaction.atomic():
        make("second")
    assert savepoints(statements) == 2


def note(name: str) -> None:
    """A statement whose answer nobody needs."""
    execute_later("INSERT INTO auth_group (name) VALUES (%s)", [name])


def names() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


def test_later() -> None:
    """Whatever comes next finds it done: another statement, a savepoint, the end."""
    with whole():
        note("first")
        note("second")
        assert names() == ["first", "second"]
        note("third")
        with transaction.atomic():
            note("inside")
        note("last")
    assert names() == ["first", "inside", "last", "second", "third"]


def test_later_by_itself() -> None:
    """Without a `whole` it is executed at once."""
    note("alone")
    assert names() == ["alone"]


def test_later_with_the_commit() -> None:
    """A database elsewhere is asked once for all that waits, commit and all; what shall be done
    after the commit is done after it."""
    seen: list[list[str]] = []

    def look() -> None:
        with ThreadPoolExecutor(1) as another:
            seen.append(another.submit(names_and_close).result())

    def names_and_close() -> list[str]:
        try:
            return names()
        finally:
            connection.close()

    with CaptureQueriesContext(connection) as statements, whole():
        Group.objects.create(name="asked for")
        note("first")
        note("%s; second")
        transaction.on_commit(look)
    assert seen == [["%s; second", "asked for", "first"]]
    sent = [statement["sql"] for statement in statements if "SELECT" not in statement["sql"]]
    inserts = [sql for sql in sent if "INSERT" in sql]
    assert len(inserts) == (2 if connection.vendor == "postgresql" else 3)


def test_later_inside_another() -> None:
    """The commit is the caller's."""
    with transaction.atomic():
        with whole():
            note("lost")
        transaction.set_rollback(True)
    with transaction.atomic():
        with whole():
            note("kept")
        assert names() == ["kept"]
    assert names() == ["kept"]


def test_later_fails() -> None:
    """Nothing is kept, and nothing is done after a commit that was none."""
    done: list[str] = []
    note("there")

    def fail() -> None:
        with whole():
            Group.objects.create(name="before")
            transaction.on_commit(lambda: done.append("told"))
            note("new")
            note("there")

    with pytest.raises(IntegrityError):
        fail()
    assert (names(), done) == (["there"], [])
    note("and on")
    assert names() == ["and on", "there"]


def test_the_commit_fails() -> None:
    """A constraint that is looked at with the commit is an error as ever."""
    done: list[str] = []

    def fail() -> None:
        with whole():
            transaction.on_commit(lambda: done.append("told"))
            execute_later(
                "INSERT INTO auth_group_permissions (group_id, permission_id) VALUES (%s, %s)",
                [0, 0],
            )

    with pytest.raises(IntegrityError):
        fail()
    assert done == []
    assert not Group.permissions.through.objects.exists()
    note("and on")
    assert names() == ["and on"]


def test_later_and_given_up() -> None:
    """What waits is not kept when the whole is not."""

    def give_up() -> None:
        with whole():
            note("lost")
            make("lost, too", KeyError())

    def hide_it() -> None:
        with whole():
            note("lost")
            with suppress(KeyError):
                make("lost, too", KeyError())

    with pytest.raises(KeyError):
        give_up()
    hide_it()
    with whole():
        note("lost")
        transaction.set_rollback(True)
    assert names() == []


def test_a_whole_in_a_whole() -> None:
    """In the order in which they were asked for."""
    with whole():
        note("outer")
        with whole():
            note("inner")
            assert names() == ["inner", "outer"]
            note("inner, too")
        note("outer, too")
    assert names() == ["inner", "inner, too", "outer", "outer, too"]


def test_values_bound_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot send several statements at once sends each by itself."""
    connection.ensure_connection()
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "server_side_binding", True)
    with CaptureQueriesContext(connection) as statements, whole():
        note("first")
        note("second")
    assert sum("INSERT" in statement["sql"] for statement in statements) == 2
    assert names() == ["first", "second"]
