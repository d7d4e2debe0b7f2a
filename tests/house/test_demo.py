"""`./dev demo` is true to its own table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.environment import ROOT, kept

DEMO_SECONDS = 300  # a bound, not a promise


def demo(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devtools.demo", *arguments],
        cwd=ROOT,
        env={**kept(os.environ), "STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )


@pytest.mark.faults
@pytest.mark.slow
def test_the_ledger_agrees(tmp_path: Path) -> None:
    """2, 3, 4, 6: with faults, a SIGKILL and an outage, each call has exactly one effect."""
    done = demo(state=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = dict(re.findall(r"^  (\S.*?)  +(\S.*)$", done.stdout, re.MULTILINE))
    assert table["calls asked for"].startswith("64,")
    assert table["calls by outcome"] == "64 Succeeded"
    assert table["effects at the provider"] == "64 for 64 calls"
    assert table["attempts while it was open"].startswith("0 of them")
    assert table["calls lost"] == "0"
    assert table["effects duplicated"] == "0"
    assert table["receipts"].startswith("6 delivered: 6 mailgun")
    assert "NOT SO" not in done.stdout


def test_unknown_arguments_are_refused(tmp_path: Path) -> None:
    """One line and a non-zero exit, before anything is started."""
    done = demo("--kept", state=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "dev: usage: ./dev demo [--keep]\n"
    assert not any(tmp_path.iterdir())
