"""Transactions inside transactions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from psycopg import IsolationLevel

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


@pytest.mark.parametrize("statement", ["INSERT nothing", "SELECT * FROM nowhere", "SELECT %s, %s"])
def test_what_cannot_be_read_inside_a_savepoint(statement: str) -> None:
    """Not by the database, and not by its client: it undoes nothing but itself."""

    def fail() -> None:
        with savepoint(), connection.cursor() as cursor:
            note("lost")
            cursor.execute(statement, ["one"] if "%s" in statement else None)

    with whole():
        note("before")
        with savepoint():
            note("inside")
        with pytest.raises((DatabaseError, TypeError)):
            fail()
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
    sent = [statement["sql"] for statement in statements if "INSERT" in statement["sql"]]
    assert len(sent) == (2 if connection.vendor == "postgresql" else 3)


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


def elsewhere() -> list[str]:
    """What another connection reads."""

    def read() -> list[str]:
        try:
            return names()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as another:
        return another.submit(read).result()


def test_nobody_sees_it_before_the_commit() -> None:
    """Neither what was executed, nor what waits."""
    with whole():
        Group.objects.create(name="executed")
        assert elsewhere() == []
        note("waits")
        with transaction.atomic():
            note("inside")
        assert elsewhere() == []
    assert elsewhere() == ["executed", "inside", "waits"]


def fail_after(act: Callable[[], object]) -> None:
    with whole():
        act()
        raise KeyError


@pytest.mark.parametrize("again", range(3))
def test_nothing_of_it_is_left(again: int) -> None:
    """After an error everything is undone, and the connection is as before: what comes next commits
    by itself, or is a transaction."""
    for act in (
        lambda: Group.objects.create(name="lost"),
        lambda: note("lost"),
        names,
        lambda: None,
    ):
        with pytest.raises(KeyError):
            fail_after(act)
        Group.objects.create(name="at once")
        assert elsewhere() == ["at once"]
        with transaction.atomic():
            Group.objects.all().delete()
            assert elsewhere() == ["at once"]
        assert elsewhere() == []


def test_without_statements() -> None:
    """There is nothing to commit, and nothing is sent."""
    with CaptureQueriesContext(connection) as statements, whole():
        pass
    assert [
        s["sql"] for s in statements if s["sql"] not in ("BEGIN", "COMMIT", "BEGIN IMMEDIATE")
    ] == []


def test_every_sort_of_statement_comes_after() -> None:
    """With values, without, many at once, read in pieces, with a name in place of a number."""
    sql = "SELECT name FROM auth_group WHERE name LIKE "
    with whole():
        note("a")
        with connection.cursor() as cursor:
            cursor.execute(f"{sql} %s", ["a%"])
            assert cursor.fetchall() == [("a",)]
            note("b")
            cursor.execute(f"{sql} 'b%'")
            assert cursor.fetchall() == [("b",)]
            note("c")
            cursor.execute("SELECT name FROM auth_group WHERE name = 'c'")
            assert cursor.fetchall() == [("c",)]
            note("d")
            cursor.executemany("UPDATE auth_group SET name = %s WHERE name = %s", [("D", "d")])
            note("e")
            cursor.execute(f"{sql} %(like)s", {"like": "e%"})
            assert cursor.fetchall() == [("e",)]
        note("f")
        assert [group.name for group in Group.objects.filter(name="f").iterator()] == ["f"]
        note("g")
        assert Group.objects.filter(name="g").update(name="G") == 1
        note("h")
        assert Group.objects.filter(name="h").delete()[0] == 1
    assert names() == ["D", "G", "a", "b", "c", "e", "f"]


def test_checks() -> None:
    """Each is told how many rows its own statement was about: by what follows, or at the end,
    before anything is kept."""
    told: list[tuple[str, int]] = []

    def rename(name: str, to: str) -> None:
        sql = "UPDATE auth_group SET name = %s WHERE name = %s"
        execute_later(sql, [to, name], lambda count: told.append((name, count)))

    def refuse(count: int) -> None:
        assert elsewhere() == ["a", "new"]
        raise LookupError(count)

    rename("nobody", "b")
    assert told == [("nobody", 0)]
    with whole():
        note("a")
        rename("a", "b")
        note("new")
        rename("nobody", "c")
        assert Group.objects.filter(name="b").update(name="a") == 1
        assert told[1:] == [("a", 1), ("nobody", 0)]
        rename("a", "a")
    assert told[3:] == [("a", 1)]

    def fail(*, by_what_follows: bool) -> None:
        with whole():
            note("lost")
            execute_later("DELETE FROM auth_group", [], refuse)
            note("lost, too")
            if by_what_follows:
                names()
                pytest.fail("it was refused")

    for by_what_follows in (True, False):
        with pytest.raises(LookupError, match="3"):
            fail(by_what_follows=by_what_follows)
        assert elsewhere() == ["a", "new"]


@pytest.mark.postgresql
def test_another_isolation_level() -> None:
    """It is asked for as ever."""
    connection.ensure_connection()
    raw = connection.connection
    raw.isolation_level = IsolationLevel.SERIALIZABLE
    try:
        with whole(), connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("serializable",)
    finally:
        raw.isolation_level = None
