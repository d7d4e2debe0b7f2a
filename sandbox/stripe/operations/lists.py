"""Pages of objects, newest first. https://docs.stripe.com/api/pagination"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import dropwhile, islice, takewhile
from typing import Protocol, TypeVar

from sandbox.stripe.call import Call
from sandbox.stripe.errors import Json, invalid
from sandbox.stripe.keys import Scope
from sandbox.stripe.params import Params
from sandbox.stripe.store import Shelf

MAX_TIME = 10**11
BOUNDS = ("gt", "gte", "lt", "lte")


class Listed(Protocol):
    """What a list shows."""

    @property
    def id(self) -> str: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def created(self) -> int: ...
    def document(self) -> Json: ...


T = TypeVar("T", bound=Listed)


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is wanted."""

    limit: int
    starting_after: str | None
    ending_before: str | None
    earliest: int
    latest: int

    def of(self, call: Call, shelf: Shelf[T], *, url: str, keep: Callable[[T], bool]) -> Json:
        """The list object. Raises Refusal when the cursor is unknown."""
        found = self._cut(call, shelf, keep)
        return {
            "object": "list",
            "data": [made.document() for made in found[: self.limit]]
            if self.ending_before is None
            else [made.document() for made in found[-self.limit :]],
            "has_more": len(found) > self.limit,
            "url": url,
        }

    def _cut(self, call: Call, shelf: Shelf[T], keep: Callable[[T], bool]) -> list[T]:
        """The objects of the page and one more, if there is one."""
        cursor = self.starting_after or self.ending_before
        made: Iterator[T] = shelf.newest(scope=call.scope)
        if cursor is not None:
            name = "starting_after" if self.starting_after else "ending_before"
            shelf.find(cursor, scope=call.scope, param=name, status=400)
            if self.starting_after:
                made = islice(dropwhile(lambda one: one.id != cursor, made), 1, None)
            else:
                made = takewhile(lambda one: one.id != cursor, made)
        wanted = (one for one in made if self.earliest <= one.created <= self.latest and keep(one))
        if self.ending_before is None:
            return list(islice(wanted, self.limit + 1))
        return list(wanted)[-self.limit - 1 :]


def read_page(params: Params) -> Page:
    """limit, starting_after, ending_before and created. Raises Refusal."""
    limit = params.integer("limit", least=1, most=100)
    after, before = params.text("starting_after"), params.text("ending_before")
    if after is not None and before is not None:
        raise invalid(
            "You may only specify one of these parameters: starting_after, ending_before."
        )
    earliest, latest = _read_created(params)
    return Page(limit or 10, after, before, earliest, latest)


def _read_created(params: Params) -> tuple[int, int]:
    """The first and the last second that are wanted."""
    if isinstance(params.rest().get("created"), str):
        second = params.integer("created", least=0) or 0
        return second, second
    bounds = params.members("created")
    if bounds is None:
        return 0, MAX_TIME
    gt, gte, lt, lte = (bounds.integer(name, least=0) for name in BOUNDS)
    bounds.end()
    return (
        max(0 if gte is None else gte, 0 if gt is None else gt + 1),
        min(MAX_TIME if lte is None else lte, MAX_TIME if lt is None else lt - 1),
    )
