"""Become another program that cannot outlive its parent.

Usage: python leash.py PARENT_PID PROGRAM [ARGUMENT...]. On Linux the kernel kills the program when
the thread that started it ends, even by SIGKILL; elsewhere it only becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_STARTED = 127  # as a shell says it


def main(arguments: list[str]) -> None:
    """Replace this process. Exits with 127 when the program cannot be started."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the leash was on
        sys.exit(1)
    try:
        os.execvp(program[0], program)  # noqa: S606 - the supervisor's own command, no shell
    except OSError as error:
        print(f"cannot start {program[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1:])
