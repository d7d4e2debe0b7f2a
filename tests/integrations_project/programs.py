"""Running our programs in an environment of their own, to the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.services.environment import ROOT, kept, project_environment, sqlite_url

SECONDS = 60
MANAGE = ("manage.py",)
CHECK = (*MANAGE, "check")
WEB = ("-m", "gunicorn", "--workers", "1", "--bind", "127.0.0.1:0", "integrations_project.wsgi")
WORKER = ("-m", "celery", "-A", "integrations_project", "worker")
BEAT = ("-m", "celery", "-A", "integrations_project", "beat")


def run(
    arguments: tuple[str, ...], *, state: Path, caller: Mapping[str, str], **changes: str | None
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` to its end, with the tests' environment and these changes."""
    variables: dict[str, str | None] = {
        **kept(caller),
        **project_environment(state=state, database_url=sqlite_url(state / "db.sqlite3")),
        **changes,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={name: value for name, value in variables.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
