"""A PostgreSQL of our own breaks as a real one does; what cannot be had says why."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.services import postgres as module
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.postgres import PrivatePostgres, find_programs
from tests.services.shared_postgres import PREFIX, PostgresServer, find_postgres


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.mark.services
def test_each_database_is_new_and_dropped(postgres: PostgresServer) -> None:
    """Two databases know nothing of each other, and are gone afterwards, whoever is connected."""
    with postgres.database() as one, postgres.database() as two:
        query(one, "CREATE TABLE kept (id int)")
        lingering = psycopg.connect(one)
        assert query(two, "SELECT 1 FROM pg_tables WHERE tablename = 'kept'") == []
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        query(one, "SELECT 1")
    lingering.close()


@pytest.mark.services
def test_a_copy_of_a_database(postgres: PostgresServer) -> None:
    """A template saves the migrations."""
    name = postgres.new_name()
    postgres.create_database(name)
    try:
        query(postgres.url(name), "CREATE TABLE kept (id int)")
        with postgres.database(template=name) as copy:
            assert query(copy, "SELECT count(*) FROM kept") == [(0,)]
    finally:
        postgres.drop_database(name)


@pytest.mark.services
def test_leftovers_of_a_killed_session(postgres: PostgresServer) -> None:
    """A database of a process that is gone is dropped; one of a living process stays."""
    dead = f"{PREFIX}_{2**22 + 1}_1"  # above the largest process id
    postgres.create_database(dead)
    with postgres.database() as living:
        postgres.drop_leftovers()
        assert query(living, "SELECT 1") == [(1,)]
        names = query(living, "SELECT datname FROM pg_database")
    assert (dead,) not in names


@pytest.mark.services
@pytest.mark.faults
@pytest.mark.parametrize("how", ["smart", "fast", "immediate", "kill"])
def test_what_is_committed_survives(private_postgres: PrivatePostgres, how: str) -> None:
    """Stopped in any way, it is gone at once, and comes back with its rows on the same port."""
    with private_postgres.database() as url:
        query(url, "CREATE TABLE kept AS SELECT 7 AS id")
        if how == "kill":
            private_postgres.kill()
        else:
            private_postgres.stop(how)
        with pytest.raises(psycopg.OperationalError):
            query(url, "SELECT 1")
        private_postgres.start()
        assert query(url, "SELECT id FROM kept") == [(7,)]


@pytest.mark.services
@pytest.mark.faults
def test_frozen_it_does_not_answer(private_postgres: PrivatePostgres) -> None:
    """Frozen, it lets nobody in; thawed, it goes on."""
    private_postgres.freeze()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        query(private_postgres.url("postgres"), "SELECT 1")
    private_postgres.thaw()
    assert query(private_postgres.url("postgres"), "SELECT 1") == [(1,)]


@pytest.mark.services
@pytest.mark.faults
@pytest.mark.parametrize("harm", ["freeze", "kill", "stop"])
def test_healed_whatever_happened(private_postgres: PrivatePostgres, harm: str) -> None:
    """The next test finds it working."""
    getattr(private_postgres, harm)()
    private_postgres.heal()
    assert query(private_postgres.url("postgres"), "SELECT 1") == [(1,)]


@pytest.mark.services
def test_the_one_to_break_is_nobody_elses(
    postgres: PostgresServer, private_postgres: PrivatePostgres
) -> None:
    """Breaking things never touches the server that other tests use."""
    assert postgres.url("x") != private_postgres.url("x")


def test_the_one_that_was_named_must_be_there() -> None:
    """TEST_DATABASE_URL names a dead server: no other is taken instead, and no password shown."""
    url = f"postgres://someone:secret@127.0.0.1:{free_port()}/x"
    with pytest.raises(ServiceMissing, match=r"^TEST_DATABASE_URL \(127.0.0.1:\d+\): ") as caught:
        find_postgres(url)
    assert "secret" not in str(caught.value)


@pytest.mark.services
def test_the_one_that_was_named_is_taken(private_postgres: PrivatePostgres) -> None:
    """TEST_DATABASE_URL wins over the standard port."""
    found = find_postgres(private_postgres.url("postgres"))
    assert "TEST_DATABASE_URL" in str(found)
    assert found.url("x") == private_postgres.url("x")


@pytest.mark.services
def test_a_server_in_which_we_may_not_make_databases(private_postgres: PrivatePostgres) -> None:
    """It is of no use, and the reason says what would help."""
    url = private_postgres.url("postgres")
    query(url, "CREATE ROLE humble LOGIN")
    with pytest.raises(ServiceMissing, match="CREATEDB"):
        find_postgres(url.replace("holdfast@", "humble@"))
    query(url, "DROP ROLE humble")


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the server's programs: the reason says where they were looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "INSTALLED", str(tmp_path))
    with pytest.raises(ServiceMissing, match="not installed"):
        find_programs()


def test_the_newest_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of several installed versions, and an incomplete one, the newest complete one is taken."""
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setattr(module, "INSTALLED", str(tmp_path))
    for version, programs in {"9.6": ("initdb", "postgres"), "15": ("initdb", "postgres")}.items():
        for program in programs:
            (tmp_path / version / "bin").mkdir(parents=True, exist_ok=True)
            (tmp_path / version / "bin" / program).touch()
    (tmp_path / "17" / "bin").mkdir(parents=True)
    (tmp_path / "17" / "bin" / "psql").touch()
    assert find_programs() == tmp_path / "15" / "bin"
