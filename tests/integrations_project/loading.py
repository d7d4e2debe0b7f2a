"""The settings as other environments would have them, without another process."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import environ

from tests.services.environment import ROOT, project_environment, sqlite_url

SETTINGS = ROOT / "integrations_project" / "settings.py"


def load(state: Path, **changes: str | None) -> Any:
    """What settings.py makes of the tests' environment with these changes (None: not set)."""
    variables: dict[str, str | None] = {
        **project_environment(state=state, database_url=sqlite_url(state / "db.sqlite3")),
        **changes,
    }
    given = {name: value for name, value in variables.items() if value is not None}
    with mock.patch.object(environ.Env, "ENVIRON", given):
        return SimpleNamespace(**runpy.run_path(str(SETTINGS)))


def problems(settings: Any) -> dict[str, str]:
    """What was wrong, by variable."""
    return {problem.variable: problem.detail for problem in settings.ENVIRONMENT.problems}
