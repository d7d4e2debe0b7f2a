"""A process that dies at a chosen SQL statement, played inside one process and one transaction.

The savepoints that the engine's `atomic` blocks make there stand for its transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "EXECUTE"})


class ProcessDied(BaseException):
    """Nothing may catch this and go on: the process is gone."""


class Life:
    """Statements until death (None: lives on), whether an outermost commit was reached, and
    whether anything was written."""

    def __init__(self, statements: int | None) -> None:
        self.left = statements
        self.died = False
        self.committed = False
        self.wrote = False
        self._watched = False
        self._depth = 0
        self._rolled_back: set[str] = set()

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """An execute_wrapper. At a commit death comes after it, elsewhere before: so there is
        one on either side of each commit."""
        if self._watched:
            return execute(sql, params, many, context)
        verb, _, rest = sql.partition(" ")
        savepoint = rest.rpartition(" ")[2]
        if verb == "ROLLBACK":
            self._rolled_back.add(savepoint)
            return execute(sql, params, many, context)
        if verb == "RELEASE":
            self._depth -= 1
            if savepoint in self._rolled_back:
                return execute(sql, params, many, context)
        self.wrote |= verb in WRITES
        dies = self._dies_now()
        if dies and verb != "RELEASE":
            raise ProcessDied
        result = execute(sql, params, many, context)
        if verb == "SAVEPOINT":
            self._depth += 1
        if verb == "RELEASE" and self._depth == 0:
            self.committed = True
        if dies:
            raise ProcessDied
        return result

    def _dies_now(self) -> bool:
        if self.died or self.left is None:
            return False
        self.left -= 1
        self.died = self.left < 0
        return self.died

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The block belongs to the onlooker: its statements are not the process's."""
        before, self._watched = self._watched, True
        try:
            yield
        finally:
            self._watched = before


@contextmanager
def living(statements: int | None) -> Iterator[Life]:
    """Run the block as a process that dies at its `statements`-th statement (0 is the first).

    What it had not committed is rolled back, and what it wanted to do after a commit is not
    done; otherwise that is done when the block ends.
    """
    life = Life(statements)
    try:
        with connection.execute_wrapper(life.execute):
            yield life
    except ProcessDied:
        connection.run_on_commit.clear()
    while connection.run_on_commit:
        after_commit: Callable[[], object] = connection.run_on_commit.pop(0)[1]
        after_commit()
