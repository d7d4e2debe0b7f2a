"""Transactions inside transactions, without the savepoints that nobody would go back to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import transaction

P = ParamSpec("P")
R = TypeVar("R")

_whole: ContextVar[bool] = ContextVar("whole", default=False)


@contextmanager
def whole() -> Iterator[None]:
    """A transaction of which, after an error inside, nothing is kept: whoever opens it lets errors
    through to here. What is `atomic` inside needs no savepoint."""
    with transaction.atomic():
        token = _whole.set(True)
        try:
            yield
        finally:
            _whole.reset(token)


def atomic(function: Callable[P, R]) -> Callable[P, R]:
    """`transaction.atomic`, which inside another one is a savepoint, unless that is `whole`."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with transaction.atomic(savepoint=not _whole.get()):
            return function(*args, **kwargs)

    return wrapped
