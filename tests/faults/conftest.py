"""Whole systems to be broken, on the production profile and on the embedded one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import pytest

from sandbox.control import Sandbox
from tests.faults.harness import System, migrate
from tests.services.environment import sqlite_url
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbitMQ


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A provider of this test's own."""
    with Sandbox.start() as sandbox:
        yield sandbox


@pytest.fixture
def system(
    private_postgres: PrivatePostgres,
    private_rabbitmq: PrivateRabbitMQ,
    sandbox: Sandbox,
    tmp_path: Path,
) -> Iterator[System]:
    """The production profile: PostgreSQL and RabbitMQ of our own, which may be broken too. Nothing
    is started yet."""
    template = migrated_database(private_postgres)
    with (
        private_postgres.database(template=template) as database_url,
        private_rabbitmq.vhost() as broker,
    ):
        system = System(folder=tmp_path, database_url=database_url, broker=broker, provider=sandbox)
        yield system
        system.close()
        private_postgres.heal()
        private_rabbitmq.heal()


@pytest.fixture
def embedded_system(migrated_file: Path, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    """The embedded profile: an SQLite file, and the broker inside the worker."""
    file = tmp_path / "holdfast.sqlite3"
    shutil.copy(migrated_file, file)
    system = System(folder=tmp_path, database_url=sqlite_url(file), broker=None, provider=sandbox)
    yield system
    system.close()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with all tables and no rows, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    file = folder / "holdfast.sqlite3"
    migrate(database_url=sqlite_url(file), state=folder)
    return file


@cache
def migrated_database(server: PrivatePostgres) -> str:
    """The name of a database with all tables and no rows, to be copied."""
    name = server.new_name()
    server.create_database(name)
    migrate(database_url=server.url(name), state=Path(tempfile.gettempdir()))
    return name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what its processes said."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for system in item.funcargs.values():
            if isinstance(system, System):
                report.sections.append(("processes", system.logs()))
    return report
