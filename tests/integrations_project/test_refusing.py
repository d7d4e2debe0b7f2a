"""Every kind of process refuses a wrong configuration: one line for each error, no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integrations_project.programs import BEAT, CHECK, MANAGE, WEB, WORKER, run

pytestmark = pytest.mark.faults

PROCESSES = {"manage": CHECK, "web": WEB, "worker": WORKER, "beat": BEAT}
EXIT_CODES = {"manage": 1, "web": 4, "worker": 1, "beat": 1}


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES)
def test_the_default_secret_key_is_refused_without_debug(process: str, tmp_path: Path) -> None:
    """Sessions signed with a key that everybody knows are everybody's."""
    done = run(PROCESSES[process], state=tmp_path, caller=os.environ, SECRET_KEY=None)
    assert done.returncode == EXIT_CODES[process], done.stderr
    assert "SECRET_KEY is not set, and DEBUG is off" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES)
def test_all_that_is_wrong_is_said_at_once(process: str, tmp_path: Path) -> None:
    """With the variables' names, and without a secret's value."""
    done = run(
        PROCESSES[process],
        state=tmp_path,
        caller=os.environ,
        DATABASE_URL="mysql://user:hunter22@host/db",
        CELERY_BROKER_URL="redis://:hunter22@host",
        FIELD_ENCRYPTION_KEYS="hunter22",
        LOG_FORMAT="xml",
        STRIPE_SECRET_KEY=None,
    )
    assert done.returncode == EXIT_CODES[process], done.stderr
    for words in (
        "DATABASE_URL must begin with postgres:// or sqlite:///, not 'mysql'",
        "CELERY_BROKER_URL must begin with amqp://, amqps:// or memory://, not 'redis'",
        "FIELD_ENCRYPTION_KEYS: number 1 is no Fernet key",
        "LOG_FORMAT must be one of console, json, not 'xml'",
        "STRIPE_SECRET_KEY is not set",
    ):
        assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "hunter22" not in done.stderr + done.stdout


@pytest.mark.slow
def test_nothing_is_written_to_a_database_that_was_not_named(tmp_path: Path) -> None:
    """A malformed DATABASE_URL does not fall back to the default one."""
    done = run(
        (*MANAGE, "migrate", "--skip-checks"),
        state=tmp_path,
        caller=os.environ,
        DATABASE_URL="postgre://user@host/db",
    )
    assert done.returncode != 0
    assert not (tmp_path / "holdfast.sqlite3").exists()


@pytest.mark.slow
def test_a_production_environment_passes_the_deployment_checks(tmp_path: Path) -> None:
    """`check --deploy` is clean, warnings included."""
    done = run(
        (*CHECK, "--deploy", "--fail-level", "WARNING"),
        state=tmp_path,
        caller=os.environ,
        PUBLIC_URL="https://holdfast.example",
        ALLOWED_HOSTS=None,
        DATABASE_URL="postgres://holdfast@localhost/holdfast",
        CELERY_BROKER_URL="amqp://localhost//",
        EMBEDDED=None,
        STRIPE_API_BASE=None,
        ALLOW_HTTP_PROVIDERS=None,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout + done.stderr


@pytest.mark.slow
def test_debug_needs_only_its_keys(tmp_path: Path) -> None:
    """What ./dev makes by itself is all that is needed."""
    done = run(
        CHECK,
        state=tmp_path,
        caller=os.environ,
        DEBUG="1",
        EMBEDDED=None,
        SECRET_KEY=None,
        ALLOWED_HOSTS=None,
        ALLOW_HTTP_PROVIDERS=None,
        CELERY_BROKER_URL=None,
        DATABASE_URL=None,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "address, words",
    [(None, "no such table"), ("postgres://user:hunter22@127.0.0.1:9/none", "connection")],
)
def test_a_database_that_cannot_be_used(tmp_path: Path, address: str | None, words: str) -> None:
    """A command says so in one line of its own, and fails; with --traceback it says where."""
    command = (*MANAGE, "list_api_clients")
    change = {} if address is None else {"DATABASE_URL": address}
    done = run(command, state=tmp_path, caller=os.environ, **change)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("holdfast: the database cannot be used: ")
    assert words in last
    assert "Traceback" not in done.stderr
    assert "hunter22" not in done.stderr + done.stdout
    if address is None:
        told = run((*command, "--traceback"), state=tmp_path, caller=os.environ)
        assert "Traceback" in told.stderr
