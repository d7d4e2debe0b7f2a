"""The databases that are measured: a SQLite file, and PostgreSQL where there is one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.environment import kept, project_environment, sqlite_url
from tests.services.missing import ServiceMissing
from tests.services.postgres import PrivatePostgres
from tests.services.shared_postgres import PostgresServer, find_postgres


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database, as the environment of a process that uses it; or why there is none."""

    name: str
    environment: dict[str, str] | None = None
    missing: str = ""


@contextmanager
def databases() -> Iterator[list[Database]]:
    """Both, for as long as the block runs."""
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
        sqlite = _environment(state, sqlite_url(state / "bench.sqlite3"))
        yield [Database("SQLite", sqlite), _postgresql(stack, state)]


def _postgresql(stack: ExitStack, state: Path) -> Database:
    try:
        server = _server()
    except ServiceMissing as missing:
        return Database("PostgreSQL", missing=str(missing))
    stack.callback(server.close)
    url = stack.enter_context(server.database())
    return Database(str(server), _environment(state, url))


def _server() -> PostgresServer:
    """One that the tests would use, else one of our own."""
    named = os.environ.get("TEST_DATABASE_URL")
    try:
        return find_postgres(named)
    except ServiceMissing as missing:
        if named:
            raise
        try:
            return PrivatePostgres()
        except ServiceMissing as other:
            raise ServiceMissing(f"{missing}; {other}") from None


def _environment(state: Path, database_url: str) -> dict[str, str]:
    project = project_environment(state=state, database_url=database_url)
    return {**kept(os.environ), **project, "LOG_LEVEL": "ERROR"}
