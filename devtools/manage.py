"""`./dev manage`: manage.py with the secrets that `./dev run` uses on this machine."""

from __future__ import annotations

import os
import sys

from devtools.environment import stack_environment
from devtools.stack import ROOT
from devtools.trouble import exit_status


def main(arguments: list[str]) -> int:
    """Becomes manage.py; returns only by raising Trouble."""
    environment = stack_environment(caller=os.environ)
    manage = str(ROOT / "manage.py")
    os.execve(sys.executable, [sys.executable, manage, *arguments], environment)  # noqa: S606


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
