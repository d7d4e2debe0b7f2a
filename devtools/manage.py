"""`./dev manage`: manage.py with the secrets of `./dev run`, and its sandbox while it is up."""

from __future__ import annotations

import os
import sys

from devtools.environment import (
    has_stripe,
    sandbox_environment,
    stack_environment,
    state_folder,
)
from devtools.running import find_running
from devtools.stack import ROOT
from devtools.trouble import exit_status

NOBODY = 9  # the discard port: a call fails at once, and waits for a stack with a provider


def main(arguments: list[str]) -> int:
    """Becomes manage.py; returns only by raising Trouble."""
    environment = stack_environment(caller=os.environ)
    if not has_stripe(os.environ):
        running = find_running(state=state_folder(environment))
        sandbox_port = running.sandbox_port if running else None
        environment |= sandbox_environment(environment, port=sandbox_port or NOBODY)
    manage = str(ROOT / "manage.py")
    os.execve(sys.executable, [sys.executable, manage, *arguments], environment)  # noqa: S606


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
