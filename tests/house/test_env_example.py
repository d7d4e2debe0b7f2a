"""`.env.example` and what settings.py reads say the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"
# Read by ./dev run and by compose.yaml, not by settings.
BESIDE_SETTINGS = {"PORT", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"}


def entries() -> dict[str, tuple[str, str]]:
    """Each variable of the example with its value and the comment above it."""
    found: dict[str, tuple[str, str]] = {}
    comment: list[str] = []
    for line in EXAMPLE.read_text().splitlines():
        assignment = re.fullmatch(r"([A-Z][A-Z0-9_]*)=(.*)", line)
        if assignment:
            found[assignment[1]] = (assignment[2], " ".join(comment))
            comment = []
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
        else:
            assert line == "", f"neither a comment nor NAME=value: {line!r}"
            comment = []
    return found


def test_it_lists_every_variable_that_settings_read() -> None:
    """Neither a variable that nobody told of, nor one that nobody reads."""
    assert set(entries()) - BESIDE_SETTINGS == set(settings.ENVIRONMENT.names)


def test_each_variable_stands_there_once() -> None:
    """A second line would silently win."""
    names = re.findall(r"^([A-Z][A-Z0-9_]*)=", EXAMPLE.read_text(), re.MULTILINE)
    assert [name for name, times in Counter(names).items() if times > 1] == []


@pytest.mark.parametrize("name", sorted(entries()))
def test_each_variable_is_explained(name: str) -> None:
    """A sentence above each, ending as sentences do; secrets are called secret."""
    _, comment = entries()[name]
    assert comment
    if name in settings.ENVIRONMENT.secret_names:
        assert "Secret" in comment


@pytest.mark.parametrize("name", settings.ENVIRONMENT.secret_names)
def test_no_secret_has_a_value(name: str) -> None:
    """A copy of the example runs with nobody's known key."""
    assert entries()[name][0] == ""


def test_a_copy_of_it_changes_nothing() -> None:
    """The values shown are the defaults: settings come out as they do without any variable."""
    example = {name: value for name, (value, _) in entries().items()}
    found = settings_under(example)
    assert found["problems"] == "[]"
    assert found == settings_under({})


def settings_under(variables: dict[str, str]) -> dict[str, str]:
    program = (
        "import json; from integrations_project import settings as read;"
        "problems = [str(problem) for problem in read.ENVIRONMENT.problems];"
        "found = {name: repr(getattr(read, name)) for name in dir(read) if name.isupper()};"
        "found.pop('ENVIRONMENT'); print(json.dumps({**found, 'problems': str(problems)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return {name: re.sub(r" at 0x[0-9a-f]+", "", value) for name, value in found.items()}
