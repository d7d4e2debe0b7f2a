"""A PostgreSQL server that may be somebody else's, in which tests make databases of their own."""

from __future__ import annotations

import getpass
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.services.missing import ServiceMissing

OLDEST = 140000  # Django 5.2 supports PostgreSQL 14 and newer
PREFIX = "holdfast_test"
HERE = {None, "localhost", "127.0.0.1", "::1"}

_numbers = itertools.count(1)


class PostgresServer:
    """A server in which we may make databases. `origin` says where it comes from."""

    def __init__(self, url: str, *, origin: str) -> None:
        self._url = url
        self.origin = origin
        self.version = ""

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} {self.origin}"

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def check(self) -> None:
        """Raises ServiceMissing unless it answers, is recent, and lets us make databases."""
        try:
            with psycopg.connect(self._url, connect_timeout=3) as connection:
                self.version = connection.info.parameter_status("server_version") or ""
                self.version = self.version.split()[0]
                version = connection.info.server_version
                allowed = connection.execute(
                    "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
                ).fetchone()
        except psycopg.Error as error:
            raise ServiceMissing(_first_line(error)) from error
        if version < OLDEST:
            raise ServiceMissing(f"PostgreSQL {self.version} is too old, 14 or newer is needed")
        if allowed != (True,):
            raise ServiceMissing("its user may not create databases (ALTER ROLE ... CREATEDB)")

    def execute(self, statement: sql.Composed) -> None:
        """Run one statement outside of any test's database."""
        with psycopg.connect(self._url, connect_timeout=10, autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self, *, template: str | None = None) -> Iterator[str]:
        """The URL of a new database, a copy of `template` if given; dropped afterwards."""
        name = self.new_name()
        self.create_database(name, template=template)
        try:
            yield self.url(name)
        finally:
            self.drop_database(name)

    def new_name(self) -> str:
        """The name of a database that belongs to this process."""
        return f"{PREFIX}_{os.getpid()}_{next(_numbers)}"

    def create_database(self, name: str, *, template: str | None = None) -> None:
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            )
        )

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        self.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def disconnect(self, name: str) -> None:
        """End every connection to a database."""
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}"
        self.execute(sql.SQL(terminate).format(sql.Literal(name)))

    def close(self) -> None:
        """Nothing to end: somebody else runs it."""

    def drop_leftovers(self) -> None:
        """Drop what sessions on this machine left behind when they were killed. Whether another
        machine's still run cannot be known: a server elsewhere is left alone."""
        if urlsplit(self._url).hostname not in HERE:
            return
        with psycopg.connect(self._url, connect_timeout=3, autocommit=True) as connection:
            names = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{PREFIX}\\_%"]
            ).fetchall()
            for (name,) in names:
                owner = name.removeprefix(f"{PREFIX}_").partition("_")[0]
                if owner.isdigit() and not _is_alive(int(owner)):
                    with suppress(psycopg.Error):  # in use after all: not ours to drop
                        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def find_postgres(named: str | None) -> PostgresServer:
    """The server that TEST_DATABASE_URL names, else one at the standard local port.

    Raises ServiceMissing, also when the named one is of no use: it was asked for.
    """
    if named:
        server = PostgresServer(named, origin=f"at {_place(named)} (TEST_DATABASE_URL)")
        try:
            server.check()
        except ServiceMissing as missing:
            raise ServiceMissing(f"TEST_DATABASE_URL ({_place(named)}): {missing}") from None
        return server
    reason = ""
    for user in ("postgres", "postgres:postgres", getpass.getuser()):
        server = PostgresServer(
            f"postgres://{user}@127.0.0.1:5432/postgres", origin="at 127.0.0.1:5432"
        )
        try:
            server.check()
        except ServiceMissing as missing:
            reason = reason or f"127.0.0.1:5432: {missing}"
        else:
            return server
    raise ServiceMissing(reason)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
