"""Trouble a person can do something about: one line, and a non-zero exit."""

from __future__ import annotations

import sys
from collections.abc import Callable


class Trouble(Exception):
    """Shown as it is, without a traceback."""


def exit_status(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """What `main` returns, or 1 after printing the one line its Trouble has to say."""
    try:
        return main(arguments)
    except Trouble as trouble:
        print(f"dev: {trouble}", file=sys.stderr)
        return 1
