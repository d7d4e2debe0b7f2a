"""What is measured: the embedded form on a SQLite file, and PostgreSQL where there is one, with a
RabbitMQ where a benchmark wants it."""

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
from tests.services.rabbitmq import PrivateRabbitMQ
from tests.services.shared_postgres import PostgresServer, find_postgres


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database, as the environment of a process that uses it; or why there is none."""

    name: str
    environment: dict[str, str] | None = None
    missing: str = ""


@contextmanager
def databases(*, broker: bool = False) -> Iterator[list[Database]]:
    """Both, for as long as the block runs. broker: PostgreSQL with a RabbitMQ of our own."""
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
        sqlite = _environment(state, sqlite_url(state / "bench.sqlite3"))
        yield [Database("SQLite", sqlite), _postgresql(stack, state, broker=broker)]


def _postgresql(stack: ExitStack, state: Path, *, broker: bool) -> Database:
    try:
        server = _server()
        rabbitmq = PrivateRabbitMQ() if broker else None
    except ServiceMissing as missing:
        return Database("PostgreSQL", missing=str(missing))
    stack.callback(server.close)
    database_url = stack.enter_context(server.database())
    if rabbitmq is None:
        return Database(str(server), _environment(state, database_url))
    stack.callback(rabbitmq.close)
    environment = _environment(state, database_url, rabbitmq.url("/"))
    return Database(f"{server}, {rabbitmq}", environment)


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


def _environment(state: Path, database_url: str, broker_url: str = "memory://") -> dict[str, str]:
    project = project_environment(state=state, database_url=database_url, broker_url=broker_url)
    return {**kept(os.environ), **project, "LOG_LEVEL": "ERROR"}
