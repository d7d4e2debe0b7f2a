"""Refusing to start, and to go on: what is wrong is said in one line, and the process ends."""

from __future__ import annotations

import sys

from django.core import checks
from django.core.management import execute_from_command_line
from django.db import DatabaseError, InterfaceError, OperationalError

UNDEFINED_TABLE = "42P01"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


def refuse_misconfiguration(*, exit_code: int = 1) -> None:
    """Run the system checks; write each error as one line to standard error, and exit.

    `manage.py` does this by itself, gunicorn and Celery do not.
    """
    errors = [message for message in checks.run_checks() if message.is_serious()]
    for error in errors:
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"holdfast: {error.id}: {error.msg}{hint}\n")
    if errors:
        sys.exit(exit_code)


def run_command(arguments: list[str]) -> None:
    """Run one of `manage.py`'s commands. A database that is away or has no tables is no bug: one
    line says so, and with `--traceback` the rest."""
    try:
        execute_from_command_line(arguments)
    except (DatabaseError, InterfaceError) as error:
        if "--traceback" in arguments or not _cannot_be_used(error):
            raise
        why = str(error).strip().partition("\n")[0]
        sys.exit(f"holdfast: the database cannot be used: {why}")


def _cannot_be_used(error: Exception) -> bool:
    away = isinstance(error, OperationalError | InterfaceError)
    return away or getattr(error.__cause__, "sqlstate", None) == UNDEFINED_TABLE
