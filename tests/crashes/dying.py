"""A process that ends at a chosen step, without clean-up: os._exit in a forked child.

A step is an SQL statement, a commit, a publish or an HTTP request, once before it and once after.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from django.db import connection, connections

DIED, FAILED = 9, 3
Result = TypeVar("Result")


class Steps:
    """Counts the steps of this process, and ends it at the one that was chosen."""

    def __init__(self, dies_at: int | None) -> None:
        self.taken = 0
        self._dies_at = dies_at

    def step(self, action: Callable[[], Result]) -> Result:
        """Do one thing that another process could see, or die before or after it."""
        self._maybe_die()
        result = action()
        self._maybe_die()
        return result

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """An execute_wrapper."""
        return self.step(lambda: execute(sql, params, many, context))

    def _maybe_die(self) -> None:
        if self.taken == self._dies_at:
            os._exit(DIED)
        self.taken += 1


@contextmanager
def counted(steps: Steps) -> Iterator[None]:
    """Statements and commits of this process are steps while the block runs."""
    connection.ensure_connection()
    database: Any = connection
    commit = database._commit
    database._commit = lambda: steps.step(commit)
    try:
        with connection.execute_wrapper(steps.execute):
            yield
    finally:
        database._commit = commit


def disconnect() -> None:
    """A connection must not be shared with a child."""
    connections.close_all()
    close_pool = getattr(connection, "close_pool", None)
    if close_pool is not None:
        close_pool()


def run_in_child(work: Callable[[Steps], None], *, dies_at: int | None, notes: Path) -> int | None:
    """Run `work` in a child that dies at that step. The number of steps if it came to its end,
    None if it died. Raises AssertionError with its traceback when it failed."""
    disconnect()
    child = os.fork()
    if child == 0:
        _be_the_child(work, dies_at=dies_at, notes=notes)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    if ended == DIED:
        return None
    assert ended == 0, notes.read_text()
    return int(notes.read_text())


def _be_the_child(work: Callable[[Steps], None], *, dies_at: int | None, notes: Path) -> None:
    steps = Steps(dies_at)
    try:
        with counted(steps):
            work(steps)
        notes.write_text(str(steps.taken))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent is told of every one
        notes.write_text(traceback.format_exc())
        os._exit(FAILED)
