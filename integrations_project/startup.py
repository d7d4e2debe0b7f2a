"""Refusing to start: a process that would run with a wrong configuration says so and ends."""

from __future__ import annotations

import sys

from django.core import checks


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
