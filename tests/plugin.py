"""What a session of tests needs before the settings are read: its environment and its database.

`-p tests.plugin` loads it before pytest-django imports the settings.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.services.discovery import Services, services_key
from tests.services.environment import kept, project_environment, sqlite_url, with_option
from tests.services.missing import ServiceMissing

pytest_plugins = ["tests.services.fixtures"]

SQLITE, POSTGRESQL = "sqlite", "postgresql"
MARKED = re.compile(r"mark\.(both_databases|postgresql)\b")

missing_key = pytest.StashKey[str]()
elsewhere_key = pytest.StashKey[int]()
workers_key = pytest.StashKey[list[str]]()
WORKERS_LINES = "holdfast_summary"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("holdfast").addoption(
        "--database",
        choices=(SQLITE, POSTGRESQL),
        default=SQLITE,
        help="the tests' own database; with postgresql, what is marked for it runs, and no more",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Set the environment. Nothing of the developer's own set-up stays in it."""
    services = early_config.stash[services_key] = Services(dict(os.environ))
    early_config.add_cleanup(services.close)
    state = Path(tempfile.mkdtemp(prefix="holdfast-tests-"))
    early_config.add_cleanup(lambda: shutil.rmtree(state, ignore_errors=True))
    environment = kept(os.environ)
    environment |= project_environment(state=state, database_url=_database(early_config, state))
    os.environ.clear()
    os.environ.update(environment)


def _database(config: pytest.Config, state: Path) -> str:
    """The URL of the session's database, which pytest-django creates and drops. A file, for child
    processes and threads must see it too; not forced to the disk, for no test pulls the plug."""
    options = config.known_args_namespace
    only_asking = options.help or options.version or options.collectonly
    if options.database == POSTGRESQL and not only_asking:
        services = config.stash[services_key]
        try:
            server = services.postgres.get()
        except ServiceMissing as missing:
            if services.required:
                raise pytest.UsageError(f"--database=postgresql, but {missing}") from None
            config.stash[missing_key] = str(missing)
        else:
            name = server.new_name()
            config.add_cleanup(lambda: server.drop_database(name))
            return with_option(server.url(name), "options", "-c synchronous_commit=off")
    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
    return with_option(sqlite_url(state / "tests.sqlite3"), "init_command", pragmas)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """On PostgreSQL a file without a test for it is not imported, unless somebody has named it."""
    if config.getoption("database") == SQLITE or collection_path.suffix != ".py":
        return None
    named = {Path(argument.partition("::")[0]).resolve() for argument in config.args}
    return None if collection_path in named or _is_marked(collection_path) else True


@cache
def _is_marked(path: Path) -> bool:
    return MARKED.search(path.read_text()) is not None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: the garbage collector need not look at it
    again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what belongs to this session's database; the rest runs in the other session."""
    database = config.getoption("database")
    here: list[pytest.Item] = []
    elsewhere: list[pytest.Item] = []
    for item in items:
        (here if _runs_on(database, item) else elsewhere).append(item)
    config.hook.pytest_deselected(items=elsewhere)
    config.stash[elsewhere_key] = len(elsewhere)
    items[:] = here
    if missing_key in config.stash:
        skip = pytest.mark.skip(reason=config.stash[missing_key])
        for item in items:
            item.add_marker(skip)


def _runs_on(database: str, item: pytest.Item) -> bool:
    only_postgresql = item.get_closest_marker(POSTGRESQL) is not None
    on_postgresql = only_postgresql or item.get_closest_marker("both_databases") is not None
    if on_postgresql and not _is_marked(item.path):
        raise pytest.UsageError(f"{item.nodeid}: its own file must hold the mark for PostgreSQL")
    return on_postgresql if database == POSTGRESQL else not only_postgresql


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.getoption('database')}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """As a worker of pytest-xdist: tell the one that prints the summary."""
    output: dict[str, list[str]] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[WORKERS_LINES] = _summary(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a worker of pytest-xdist has to tell."""
    lines = getattr(node, "workeroutput", {}).get(WORKERS_LINES, [])
    node.config.stash.setdefault(workers_key, []).extend(lines)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which servers took part, and what this session left to the other one."""
    lines = dict.fromkeys([*_summary(config), *config.stash.get(workers_key, [])])
    if lines:
        terminalreporter.section("services")
        for line in lines:
            terminalreporter.line(line)


def _summary(config: pytest.Config) -> list[str]:
    lines = config.stash[services_key].report()
    elsewhere = config.stash.get(elsewhere_key, 0)
    if elsewhere and config.getoption("database") == SQLITE:
        lines.append(f"{elsewhere} tests need --database=postgresql")
    return lines


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged may hold what no encoding has, and it must get to who reports."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report
