"""A test that wants a server gets one, or says what is missing; where services are required, it
fails. Seen from outside: small suites in a session of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.discovery import Services
from tests.services.environment import ROOT
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.postgres import PrivatePostgres

pytestmark = pytest.mark.faults

WANTS_POSTGRES = "def test_it(postgres): pass\n"
WANTS_RABBITMQ = "def test_it(rabbitmq): pass\n"
EITHER = """
import os, pytest
@pytest.mark.both_databases
def test_both(): assert {scheme!r} in os.environ["DATABASE_URL"]
@pytest.mark.postgresql
def test_one(): assert {scheme!r} in os.environ["DATABASE_URL"]
def test_other(): assert {scheme!r} in os.environ["DATABASE_URL"]
"""


@dataclass
class Suite:
    """One file of tests, run by a pytest of its own with our plugin and without Django."""

    folder: Path

    def run(self, test: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "test_small.py").write_text(test)
        (self.folder / "pytest.ini").write_text("[pytest]\nmarkers =\n both_databases\n postgresql")
        plugins = ("-p", "tests.plugin", "-p", "no:django")
        return subprocess.run(
            [sys.executable, "-m", "pytest", str(self.folder), "-rs", *plugins, *options],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


@pytest.fixture
def nowhere() -> dict[str, str]:
    """Both servers named, and neither there."""
    return {
        "TEST_DATABASE_URL": f"postgres://me:hidden@127.0.0.1:{free_port()}/x",
        "TEST_BROKER_URL": f"amqp://me:hidden@127.0.0.1:{free_port()}//",
    }


@pytest.mark.parametrize("wants", [WANTS_POSTGRES, WANTS_RABBITMQ])
def test_missing_is_a_skip_that_says_what(
    suite: Suite, nowhere: dict[str, str], wants: str
) -> None:
    """Without the server the test is skipped with the reason, and the summary repeats it."""
    done = suite.run(wants, **nowhere)
    assert done.returncode == 0
    assert re.search(r"SKIPPED .*: TEST_(DATABASE|BROKER)_URL \(127.0.0.1:\d+\): ", done.stdout)
    assert re.search(r"(PostgreSQL|RabbitMQ) missing: TEST_", done.stdout)
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.parametrize("wants", [WANTS_POSTGRES, WANTS_RABBITMQ])
def test_missing_is_a_failure_where_services_are_required(
    suite: Suite, nowhere: dict[str, str], wants: str
) -> None:
    """REQUIRE_SERVICES=1: nothing is skipped quietly."""
    done = suite.run(wants, REQUIRE_SERVICES="1", **nowhere)
    assert done.returncode == 1
    assert "REQUIRE_SERVICES is set, but TEST_" in done.stdout
    assert "skipped" not in done.stdout


def test_a_session_on_postgresql_without_one(suite: Suite, nowhere: dict[str, str]) -> None:
    """Every selected test is skipped with what is missing, none runs on something else."""
    done = suite.run(EITHER.format(scheme="none"), "--database=postgresql", **nowhere)
    assert done.returncode == 0
    assert "2 skipped, 1 deselected" in done.stdout
    assert "TEST_DATABASE_URL (127.0.0.1:" in done.stdout


def test_a_required_session_on_postgresql_without_one(
    suite: Suite, nowhere: dict[str, str]
) -> None:
    """REQUIRE_SERVICES=1: the session refuses to start, in one line."""
    done = suite.run(
        EITHER.format(scheme="none"), "--database=postgresql", REQUIRE_SERVICES="1", **nowhere
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: --database=postgresql, but TEST_DATABASE_URL (")
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.services
def test_a_session_on_postgresql(suite: Suite, private_postgres: PrivatePostgres) -> None:
    """What is marked for it runs there, the rest does not run, the summary names the server."""
    url = private_postgres.url("postgres")
    done = suite.run(
        EITHER.format(scheme="postgres://"), "--database=postgresql", TEST_DATABASE_URL=url
    )
    assert "2 passed, 1 deselected" in done.stdout, done.stdout
    assert re.search(r"PostgreSQL \d\S* at 127.0.0.1:\d+ \(TEST_DATA", done.stdout)


def test_a_session_on_sqlite(suite: Suite) -> None:
    """It leaves to the other session what is only for PostgreSQL, and says so."""
    done = suite.run(EITHER.format(scheme="sqlite:///"))
    assert "2 passed, 1 deselected" in done.stdout, done.stdout
    assert "1 tests need --database=postgresql" in done.stdout


def test_only_files_with_a_test_for_postgresql_are_imported(
    suite: Suite, nowhere: dict[str, str]
) -> None:
    """Another file costs that session nothing."""
    (suite.folder / "test_other.py").write_text("raise RuntimeError('imported')")
    done = suite.run(EITHER.format(scheme="none"), "--database=postgresql", **nowhere)
    assert "2 skipped, 1 deselected" in done.stdout, done.stdout


def test_a_mark_for_postgresql_from_elsewhere_is_refused(suite: Suite) -> None:
    """No test is left out there because its file does not show the mark."""
    hook = "def pytest_itemcollected(item): item.add_marker('both_databases')"
    (suite.folder / "conftest.py").write_text(hook)
    done = suite.run("def test_it(): pass")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_it: its own file must hold the mark for PostgreSQL" in done.stderr


@pytest.mark.parametrize("options", [(), ("--numprocesses=2",)], ids=["alone", "in parallel"])
def test_the_summary(suite: Suite, nowhere: dict[str, str], options: tuple[str, ...]) -> None:
    """It tells once of each server and of what is left to the other session, also when several
    processes run the tests."""
    tests = WANTS_POSTGRES + EITHER.format(scheme="sqlite:///")
    done = suite.run(tests, *options, **nowhere)
    assert done.stdout.count("PostgreSQL missing: TEST_DATABASE_URL") == 1, done.stdout
    assert done.stdout.count("1 tests need --database=postgresql") == 1


def test_nothing_of_the_developers_set_up_leaks_in(suite: Suite) -> None:
    """Variables of the project, of Django and of proxies are not seen by the tests."""
    leaks = {
        "DEBUG": "1",
        "SENTRY_DSN": "http://key@127.0.0.1/1",
        "STRIPE_SECRET_KEY": "sk_live_real",
        "STRIPE_SECRET_KEY_FILE": "/etc/hostname",
        "DATABASE_URL": "postgres://127.0.0.1/production",
        "CELERY_BROKER_URL": "amqp://127.0.0.1//",
        "DJANGO_SETTINGS_MODULE": "elsewhere",
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "A_SETTING_OF_TOMORROW": "1",
    }
    done = suite.run(
        "import os\n"
        f"def test_it(): assert not {set(leaks.items())!r} & set(os.environ.items())\n"
        "def test_path(): assert os.environ['PATH']\n",
        **leaks,
    )
    assert "2 passed" in done.stdout, done.stdout


def test_a_server_is_looked_for_once(nowhere: dict[str, str]) -> None:
    """What is missing is missing for the whole session, for the same reason."""
    services = Services(nowhere)
    with pytest.raises(ServiceMissing) as first:
        services.postgres.get()
    with pytest.raises(ServiceMissing) as second:
        services.postgres.get()
    assert first.value is second.value
    assert services.report() == [f"PostgreSQL missing: {first.value}"]


@pytest.mark.parametrize("value, required", [("1", True), ("0", False), ("", False)])
def test_when_services_are_required(value: str, required: bool) -> None:
    """REQUIRE_SERVICES=0 means no."""
    assert Services({"REQUIRE_SERVICES": value}).required is required
