"""Transactions inside transactions, without the savepoints that nobody would go back to; and
without round trips for answers that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[int], None]


class Statement(NamedTuple):
    """One that waits. `check` is told how many rows it was about."""

    text: str
    values: Sequence[Any] = ()
    check: Check | None = None


BEGIN, COMMIT = Statement("BEGIN"), Statement("COMMIT")


class Whole:
    """A transaction of which everything is kept or nothing.

    A statement whose answer nobody waits for waits here for the next one, or for the commit, and
    shares its round trip: to a database elsewhere that costs more than a row. The first of them is
    the transaction's own beginning.
    """

    def __init__(self, database: BaseDatabaseWrapper) -> None:
        self._database = database
        self._outermost = not database.in_atomic_block
        self._waiting: list[Statement] = []

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Around all that happens inside; ends with the commit."""
        with ExitStack() as stack:
            stack.enter_context(transaction.atomic())
            if takes_several(self._database):
                stack.enter_context(self._database.execute_wrapper(self.first))
                self._begin()
            yield
            self._commit()

    def later(self, statement: Statement) -> None:
        """Execute a statement with the next one, or with the commit."""
        self._waiting.append(statement)
        if not takes_several(self._database):
            self.send()

    def first(self, execute: Callable[..., Any], sql: Any, params: Any, *more: Any) -> Any:
        """An execute_wrapper: what waits goes before what comes now, in one message where that is
        possible."""
        many, context = more
        cursor = context["cursor"].cursor
        by_the_server = hasattr(cursor, "scrollable")  # a cursor with a name, read in pieces
        if by_the_server or not _can_be_joined(sql, params, many=many):
            self.send()
        waiting = self._take()
        if not waiting:
            return execute(sql, params, *more)
        answer = execute(*_joined([*waiting, Statement(sql, params or ())]), *more)
        _check(waiting, cursor)
        return answer

    def send(self) -> None:
        """Execute what waits."""
        waiting = self._take()
        if waiting:
            self._execute(waiting)

    def _begin(self) -> None:
        """psycopg would send a BEGIN by itself, and wait for the answer, unless it believes that it
        need not. With another isolation level than the server's it is right to do so."""
        raw = self._database.connection
        if self._outermost and raw.isolation_level is None:
            raw.autocommit = True
            self._waiting.append(BEGIN)

    def _commit(self) -> None:
        """Execute what waits together with the commit, where that comes now and nothing is left to
        be checked before. Django's own then finds nothing left to commit."""
        waiting = self._take()
        if waiting in ([], [BEGIN]) or self._database.needs_rollback:
            return
        checked = any(statement.check for statement in waiting)
        self._execute([*waiting, COMMIT] if self._outermost and not checked else waiting)

    def _take(self) -> list[Statement]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _execute(self, statements: Sequence[Statement]) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(*_joined(statements))
            _check(statements, cursor.cursor)


def _joined(statements: Sequence[Statement]) -> tuple[str, list[Any]]:
    texts = [statement.text for statement in statements]
    return "; ".join(texts), [value for statement in statements for value in statement.values]


def _can_be_joined(sql: Any, params: Any, *, many: bool) -> bool:
    plain = isinstance(params, list | tuple) or (params is None and "%" not in sql)
    return isinstance(sql, str) and plain and not many


def _check(statements: Sequence[Statement], cursor: Any) -> None:
    """Look at their answers, and leave the cursor at the next one, if there is one."""
    for statement in statements:
        if statement.check is not None:
            statement.check(cursor.rowcount)
        if hasattr(cursor, "nextset"):
            cursor.nextset()


_whole: ContextVar[Whole | None] = ContextVar("whole", default=None)


@contextmanager
def whole() -> Iterator[None]:
    """A transaction of which, after an error inside, nothing is kept: whoever opens it lets errors
    through to here. What is `atomic` inside needs no savepoint."""
    ours = Whole(connections[DEFAULT_DB_ALIAS])
    with ours.begun():
        token = _whole.set(ours)
        try:
            yield
        finally:
            _whole.reset(token)


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


def execute_later(text: str, values: Sequence[Any], check: Check | None = None) -> None:
    """Execute a statement whose answer nobody waits for. check: is told how many rows it was
    about, and may raise. Inside a `whole` its errors, and what `check` raises, may come from a
    statement that follows, or from the end."""
    statement, ours = Statement(text, values, check), _whole.get()
    if ours is not None:
        ours.later(statement)
        return
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(text, values)
        _check([statement], cursor.cursor)


def takes_several(database: BaseDatabaseWrapper) -> bool:
    """Whether several statements with values can go in one message: those values are written into
    the text here, and not bound by the server."""
    options = database.settings_dict["OPTIONS"]
    return database.vendor == "postgresql" and not options.get("server_side_binding")


def atomic(function: Callable[P, R]) -> Callable[P, R]:
    """`transaction.atomic`, which inside another one is a savepoint, unless that is `whole`."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with transaction.atomic(savepoint=_whole.get() is None):
            return function(*args, **kwargs)

    return wrapped
