"""The databases with the options of settings.py, under the trouble that those are for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from tests.integrations_project.loading import load
from tests.services.environment import sqlite_url
from tests.services.postgres import PrivatePostgres

ALIAS = "apart"  # from the tests' own database, whose pool is known by its alias


@pytest.fixture(autouse=True)
def allowed(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@contextmanager
def database(state: Path, url: str) -> Iterator[ConnectionHandler]:
    """Connections to `url`, one for each thread, as settings.py has them made."""
    entry = load(state, DATABASE_URL=url).DATABASES["default"]
    handler = ConnectionHandler({"default": connections.settings["default"], ALIAS: entry})
    yield handler
    connection = handler[ALIAS]
    connection.close()
    if isinstance(connection, DatabaseWrapper):
        connection.close_pool()


def answer(connection: BaseDatabaseWrapper) -> int:
    """Ask something small, and give the connection back, as each task and request does."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 42")
            row: tuple[int] = cursor.fetchone()
            return row[0]
    finally:
        connection.close()


def test_sqlite_serves_many_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, then write, in a transaction, from eight threads at once: none is turned away."""
    with database(tmp_path, sqlite_url(tmp_path / "many.sqlite3")) as handler:
        monkeypatch.setattr(transaction, "connections", handler)
        with closing(handler[ALIAS]) as first, first.cursor() as cursor:
            cursor.execute("CREATE TABLE counter (value integer)")
            cursor.execute("INSERT INTO counter VALUES (0)")

        def count(times: int) -> None:
            connection = handler[ALIAS]
            for _ in range(times):
                with transaction.atomic(using=ALIAS), connection.cursor() as cursor:
                    cursor.execute("SELECT value FROM counter")
                    (value,) = cursor.fetchone()
                    cursor.execute("UPDATE counter SET value = %s", [value + 1])
            connection.close()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, [25] * 8))
        with handler[ALIAS].cursor() as cursor:
            cursor.execute("SELECT value FROM counter")
            assert cursor.fetchone() == (200,)


def test_sqlite_keeps_references_whole(tmp_path: Path) -> None:
    """Foreign keys are enforced, and a commit is on the disk."""
    url, found = sqlite_url(tmp_path / "whole.sqlite3"), {}
    with database(tmp_path, url) as handler, handler[ALIAS].cursor() as cursor:
        for name in ("foreign_keys", "journal_mode", "synchronous", "busy_timeout"):
            cursor.execute(f"PRAGMA {name}")
            (found[name],) = cursor.fetchone()
    assert found == {
        "foreign_keys": 1,
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 20_000,
    }


@pytest.mark.faults
def test_a_restart_of_postgresql_costs_no_query(
    private_postgres: PrivatePostgres, tmp_path: Path
) -> None:
    """Connections that died while they were idle are replaced before they are handed out."""
    with database(tmp_path, private_postgres.url("postgres")) as handler:
        assert answer(handler[ALIAS]) == 42
        private_postgres.restart()
        for _ in range(4):
            assert answer(handler[ALIAS]) == 42


@pytest.mark.faults
def test_a_postgresql_that_is_away_is_an_error_and_then_forgotten(
    private_postgres: PrivatePostgres, tmp_path: Path
) -> None:
    """Not a wait without end; and once it is back, nothing has to be restarted."""
    with database(tmp_path, private_postgres.url("postgres")) as handler:
        assert answer(handler[ALIAS]) == 42
        private_postgres.stop()
        for _ in range(2):
            with pytest.raises(OperationalError):
                answer(handler[ALIAS])
        private_postgres.start()
        assert answer(handler[ALIAS]) == 42


def test_a_pooler_is_named_in_the_url(tmp_path: Path) -> None:
    """As docs/operations.md says it."""
    url = "postgres://user@127.0.0.1/name"
    plain = load(tmp_path, DATABASE_URL=url).DATABASES["default"]
    pooled = load(tmp_path, DATABASE_URL=f"{url}?DISABLE_SERVER_SIDE_CURSORS=True")
    assert not plain.get("DISABLE_SERVER_SIDE_CURSORS")
    assert pooled.DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] is True
