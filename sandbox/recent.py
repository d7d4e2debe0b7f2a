"""A log that keeps what is newest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from sandbox.limits import KEPT_RECORDS


class Numbered(Protocol):
    """A record with its place in the log, counted from 1."""

    @property
    def seq(self) -> int: ...


T = TypeVar("T", bound=Numbered)


class Recent(Generic[T]):
    """The last records of something, oldest first. `total` counts the forgotten ones, too."""

    def __init__(self, *, kept: int = KEPT_RECORDS) -> None:
        self._records: deque[T] = deque(maxlen=kept)
        self.total = 0

    def __iter__(self) -> Iterator[T]:
        return iter(self._records)

    def add(self, make: Callable[[int], T]) -> T:
        """Make a record with the next number and keep it."""
        self.total += 1
        record = make(self.total)
        self._records.append(record)
        return record

    def page(self, *, after: int, limit: int, **equal: str) -> list[T]:
        """At most `limit` records behind number `after` whose fields are as said."""

        def wanted(record: Any) -> bool:
            return record.seq > after and all(
                getattr(record, name) == value for name, value in equal.items()
            )

        return list(islice(filter(wanted, self._records), limit))

    def clear(self) -> None:
        """Forget all, and count from the start."""
        self._records.clear()
        self.total = 0
