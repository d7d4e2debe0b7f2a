"""The three locks: hashed, agreeing with each other and with their sources, naming no host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
NAMES = ("run", "test", "dev")


def pins(name: str) -> dict[str, str]:
    """Each package of a lock with its version."""
    text = (REQUIREMENTS / f"{name}.lock").read_text()
    return dict(
        re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", text, re.MULTILINE)
    )


def wanted(name: str) -> set[str]:
    """The packages that a source file names itself."""
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    found = (re.match(r"[a-zA-Z0-9][a-zA-Z0-9._-]*", line) for line in lines)
    return {match[0].lower() for match in found if match}


@pytest.mark.parametrize("name", NAMES)
def test_every_package_is_hashed(name: str) -> None:
    """`--require-hashes` would refuse the lock otherwise, at somebody else's desk."""
    entries = re.split(r"\n(?=[a-z0-9])", (REQUIREMENTS / f"{name}.lock").read_text())
    for entry in entries:
        assert "==" in entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_wanted_package_is_locked(name: str) -> None:
    """What a source names is in its lock."""
    assert wanted(name) <= set(pins(name))


def test_a_larger_lock_holds_the_smaller_one() -> None:
    """./dev installs one over the other: every version has to agree."""
    run, test, dev = (set(pins(name).items()) for name in NAMES)
    assert run < test < dev


@pytest.mark.parametrize("name", NAMES)
def test_no_host_is_named(name: str) -> None:
    """Packages come from whatever index the machine uses."""
    text = (REQUIREMENTS / f"{name}.lock").read_text()
    assert re.findall(r"://|--(?:extra-)?index-url|--find-links|--trusted-host", text) == []


def test_oracles_stay_out_of_the_run_lock() -> None:
    """Provider packages are compared with, never run."""
    assert {"stripe", "responses", "pytest", "hypothesis"}.isdisjoint(pins("run"))


def test_the_locks_are_for_the_oldest_python() -> None:
    """`./dev`, the locks and the metadata name the same lowest version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    script = (ROOT / "dev").read_text()
    assert "--python-version 3.11 " in script
    assert "needed='3, 11'" in script
