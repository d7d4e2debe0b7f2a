"""Transactions inside transactions, without the savepoints that nobody would go back to; and
without the round trips that nobody needs an answer from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

P = ParamSpec("P")
R = TypeVar("R")


class Whole:
    """A transaction of which everything is kept or nothing.

    A statement whose answer nobody needs waits here for the next one, or for the commit, with
    which it shares a round trip: to a database elsewhere that costs more than a row.
    """

    def __init__(self, database: BaseDatabaseWrapper) -> None:
        self._database = database
        self._ends_here = not database.in_atomic_block
        self._waiting: list[tuple[str, Sequence[Any]]] = []

    def later(self, text: str, values: Sequence[Any]) -> None:
        """Execute a statement with the next one, or with the commit."""
        self._waiting.append((text, values))
        if not _takes_several(self._database):
            self.send()

    def first(self, execute: Callable[..., Any], *statement: Any) -> Any:
        """An execute_wrapper: what waits goes before what comes now."""
        self.send()
        return execute(*statement)

    def send(self) -> None:
        """Execute what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._execute(*zip(*waiting, strict=True))

    def commit(self) -> None:
        """Execute what waits together with the commit, where that comes now. Django's own then
        finds nothing left to commit."""
        waiting, self._waiting = self._waiting, []
        if waiting and not self._database.needs_rollback:
            texts, values = zip(*waiting, strict=True)
            self._execute([*texts, "COMMIT"] if self._ends_here else texts, values)

    def _execute(self, texts: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
        with self._database.cursor() as cursor:
            cursor.execute("; ".join(texts), [value for each in values for value in each])


_whole: ContextVar[Whole | None] = ContextVar("whole", default=None)


@contextmanager
def whole() -> Iterator[None]:
    """A transaction of which, after an error inside, nothing is kept: whoever opens it lets errors
    through to here. What is `atomic` inside needs no savepoint."""
    database = connections[DEFAULT_DB_ALIAS]
    ours = Whole(database)
    with ExitStack() as stack:
        stack.enter_context(transaction.atomic())
        if _takes_several(database):
            stack.enter_context(database.execute_wrapper(ours.first))
        token = _whole.set(ours)
        stack.callback(_whole.reset, token)
        yield
        ours.commit()


@contextmanager
def savepoint() -> Iterator[None]:
    """A transaction inside another one, of which nothing is kept when it fails: also inside a
    `whole`, and so are the ones inside it."""
    with transaction.atomic():
        token = _whole.set(None)
        try:
            yield
        finally:
            _whole.reset(token)


def execute_later(text: str, values: Sequence[Any]) -> None:
    """Execute a statement whose answer nobody needs. Inside a `whole` its errors may be raised by
    what follows."""
    ours = _whole.get()
    if ours is not None:
        ours.later(text, values)
        return
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(text, values)


def _takes_several(database: BaseDatabaseWrapper) -> bool:
    """Whether several statements with values can go in one message."""
    options = database.settings_dict["OPTIONS"]
    return database.vendor == "postgresql" and not options.get("server_side_binding")


def atomic(function: Callable[P, R]) -> Callable[P, R]:
    """`transaction.atomic`, which inside another one is a savepoint, unless that is `whole`."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with transaction.atomic(savepoint=_whole.get() is None):
            return function(*args, **kwargs)

    return wrapped
