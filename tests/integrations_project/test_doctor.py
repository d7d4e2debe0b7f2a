"""`manage.py doctor`: one line for each finding, and an exit code that can be relied on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import OperationalError
from pytest_django import Settings

from integrations_project.management.commands import doctor
from integrations_project.parts import Part
from outbound.findings import Finding, age
from tests.integrations_project.programs import MANAGE, run

DOCTOR = (*MANAGE, "doctor")


def consult(*arguments: str) -> tuple[list[str], str]:
    """Its lines, and what it ended with."""
    printed = StringIO()
    try:
        call_command("doctor", *arguments, stdout=printed)
    except CommandError as error:
        return printed.getvalue().splitlines(), str(error)
    return printed.getvalue().splitlines(), ""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Healthy, but for what a test does to it."""
    parts = {name: Part(lambda: "ok") for name in ("database", "migrations", "broker")}
    vitals: dict[str, Any] = {"a.vitals": lambda: iter(()), "b.vitals": lambda: iter(())}
    monkeypatch.setattr(doctor, "PARTS", parts)
    monkeypatch.setattr(checks, "run_checks", lambda **options: [])
    monkeypatch.setattr(
        doctor, "import_module", lambda name: SimpleNamespace(findings=vitals[name])
    )
    return {"parts": parts, "vitals": vitals}


@pytest.fixture(autouse=True)
def two_apps(settings: Settings) -> None:
    settings.VITALS = ["a.vitals", "b.vitals"]


def test_healthy() -> None:
    """One word, and 0."""
    assert consult() == (["healthy"], "")
    lines, ended = consult("--json")
    assert (json.loads("".join(lines)), ended) == ({"healthy": True, "findings": []}, "")


def test_a_line_for_each_finding(patient: dict[str, Any]) -> None:
    """What, what is wrong, and what helps."""
    patient["vitals"]["a.vitals"] = lambda: iter([Finding("calls", "2 are late", "workers?")])
    patient["vitals"]["b.vitals"] = lambda: iter([Finding("events", "1 is late")])
    lines = ["calls: 2 are late (workers?)", "events: 1 is late"]
    assert consult() == (lines, "2 findings")
    printed, ended = consult("--json")
    assert json.loads("".join(printed)) == {
        "healthy": False,
        "findings": [
            {"about": "calls", "says": "2 are late", "advice": "workers?"},
            {"about": "events", "says": "1 is late", "advice": ""},
        ],
    }
    assert ended == "2 findings"


def test_one_app_that_cannot_be_looked_at(patient: dict[str, Any]) -> None:
    """It is a finding, in one line and without secrets, and the others are looked at."""

    def away() -> Iterator[Finding]:
        yield Finding("calls", "one")
        raise OperationalError("no route to\npostgres://user:marked@host/name")

    patient["vitals"]["a.vitals"] = away
    patient["vitals"]["b.vitals"] = lambda: iter([Finding("events", "two")])
    lines, ended = consult()
    assert [lines[0], lines[2], ended] == ["calls: one", "events: two", "3 findings"]
    assert lines[1].startswith("a: could not be looked at: OperationalError")
    assert "marked" not in lines[1]


@pytest.mark.parametrize("part,asked", [("database", 0), ("migrations", 0), ("broker", 1)])
def test_what_it_depends_on(patient: dict[str, Any], part: str, asked: int) -> None:
    """Without the database or its tables nobody asks the rows; without a broker they say most."""
    looked: list[int] = []
    patient["parts"][part] = Part(lambda: "not well")

    def look() -> Iterator[Finding]:
        looked.append(1)
        yield from ()

    patient["vitals"]["a.vitals"] = look
    assert consult() == ([f"{part}: not well"], "1 finding")
    assert len(looked) == asked


def test_the_configuration(patient: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors and warnings of the system checks, unless they are silenced."""
    messages = [
        checks.Error("bad\nthing", hint="mend it", id="x.E001"),
        checks.Warning("odd thing", id="x.W001"),
        checks.Warning("known thing", id="security.W021"),
        checks.Info("nothing", id="x.I001"),
    ]
    monkeypatch.setattr(checks, "run_checks", lambda **options: messages)
    assert consult() == (["x.E001: bad thing (mend it)", "x.W001: odd thing"], "2 findings")


@pytest.mark.parametrize(
    "seconds,words", [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"),
                      (86_400, "24 h"), (200_000, "2 d")]
)  # fmt: skip
def test_spans_of_time(seconds: int, words: str) -> None:
    assert age(timedelta(seconds=seconds)) == words


@pytest.mark.faults
class TestProgram:
    """As it is run from a shell, and for all apps."""

    def test_without_tables(self, tmp_path: Path) -> None:
        """One line a finding and 1, no traceback."""
        done = run(DOCTOR, state=tmp_path, caller={})
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert any(line.startswith("migrations: not applied") for line in done.stdout.splitlines())

    def test_a_new_house(self, tmp_path: Path) -> None:
        """With tables and without a worker: that is what it says."""
        assert run((*MANAGE, "migrate", "--verbosity=0"), state=tmp_path, caller={}).returncode == 0
        done = run((*DOCTOR, "--json"), state=tmp_path, caller={}, PUBLIC_URL="https://a.example")
        assert done.returncode == 1
        found = json.loads(done.stdout)
        assert "it has never run" in [each["says"] for each in found["findings"]]
        assert done.stderr.strip() == f"CommandError: {len(found['findings'])} finding" + (
            "s" if len(found["findings"]) > 1 else ""
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"DATABASE_URL": "postgres://u:marked@127.0.0.1:9/none"},
            {"DATABASE_URL": "nonsense"},
            {"FIELD_ENCRYPTION_KEYS": "marked"},
            {"CELERY_BROKER_URL": "amqp://u:marked@127.0.0.1:9//", "EMBEDDED": "0"},
        ],
    )
    def test_broken(self, tmp_path: Path, changes: dict[str, str | None]) -> None:
        """It ends by itself, with 1 and without a traceback or a secret."""
        done = run(DOCTOR, state=tmp_path, caller={}, **changes)
        assert done.returncode == 1
        assert done.stdout
        assert "Traceback" not in done.stderr + done.stdout
        assert "marked" not in done.stderr + done.stdout

    def test_help_and_bad_arguments(self, tmp_path: Path) -> None:
        done = run((*DOCTOR, "--help"), state=tmp_path, caller={})
        assert (done.returncode, "manage.py doctor" in done.stdout) == (0, True)
        done = run((*DOCTOR, "nonsense"), state=tmp_path, caller={})
        assert (done.returncode, done.stdout) == (2, "")
