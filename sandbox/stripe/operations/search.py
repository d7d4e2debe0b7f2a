"""Stripe's search language, the part that its clients use. https://docs.stripe.com/search"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import dropwhile, islice
from typing import Any, Protocol, TypeVar

from sandbox.stripe.call import Call
from sandbox.stripe.errors import Json, invalid
from sandbox.stripe.operations.lists import Listed
from sandbox.stripe.params import Params
from sandbox.stripe.store import Shelf

QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
CLAUSE = re.compile(
    rf"""(?P<negated>-?)(?P<field>[a-z_]+)(?:\[(?P<key>{QUOTED})\])?
    (?P<sign>>=|<=|>|<|:|~)(?P<value>{QUOTED}|[0-9]{{1,19}}|null)""",
    re.VERBOSE,
)
BETWEEN = re.compile(r"\s+(?:(and|or)\s+)?", re.IGNORECASE)
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class Searched(Listed, Protocol):
    """What a search looks through."""

    @property
    def metadata(self) -> dict[str, str]: ...


T = TypeVar("T", bound=Searched)


@dataclass(frozen=True, slots=True)
class Clause:
    """field:"value" """

    field: str
    key: str | None
    sign: str
    value: str | None
    negated: bool

    def fits(self, made: Searched) -> bool:
        """Whether the object is meant."""
        actual = made.metadata.get(self.key) if self.key else getattr(made, self.field)
        return self._compare(actual) != self.negated

    def _compare(self, actual: Any) -> bool:
        if self.value is None or actual is None:
            return self.value is None and actual is None
        if self.sign in ORDER:
            return isinstance(actual, int) and ORDER[self.sign](actual, int(self.value))
        text, wanted = str(actual).casefold(), self.value.casefold()
        return wanted in text if self.sign == "~" else wanted == text


@dataclass(frozen=True, slots=True)
class Search:
    """A query and the page of its results that is wanted."""

    clauses: list[Clause]
    all_of: bool
    limit: int
    page: str | None

    def of(
        self,
        call: Call,
        shelf: Shelf[T],
        *,
        url: str,
        keep: Callable[[T], bool] = lambda _made: True,
    ) -> Json:
        """The search_result object. What is younger than the lag is not found yet."""
        join = all if self.all_of else any
        made: Iterator[T] = shelf.newest(scope=call.scope)
        if self.page is not None:
            made = islice(dropwhile(lambda one: one.id != self.page, made), 1, None)
        hits = (
            one
            for one in made
            if one.created + call.search_lag <= call.now
            and keep(one)
            and join(clause.fits(one) for clause in self.clauses)
        )
        found = list(islice(hits, self.limit + 1))
        shown, more = found[: self.limit], len(found) > self.limit
        return {
            "object": "search_result",
            "data": [one.document() for one in shown],
            "has_more": more,
            "next_page": shown[-1].id if more else None,
            "url": url,
        }


def read_search(params: Params, *, fields: Collection[str]) -> Search:
    """query, limit and page. Raises Refusal."""
    params.require("query")
    query = params.text("query") or ""
    limit, page = params.integer("limit", least=1, most=100), params.text("page")
    clauses, words = _parse(query.strip(), fields)
    if len(words) > 1:
        raise _unreadable(query, "AND and OR cannot be mixed")
    return Search(clauses, "or" not in words, limit or 10, page)


def _parse(query: str, fields: Collection[str]) -> tuple[list[Clause], set[str]]:
    clauses: list[Clause] = []
    words: set[str] = set()
    at = 0
    while True:
        match = CLAUSE.match(query, at)
        if match is None:
            raise _unreadable(query, f"expected a clause at character {at}")
        clauses.append(_read_clause(query, match, fields))
        at = match.end()
        if at == len(query):
            return clauses, words
        between = BETWEEN.match(query, at)
        if between is None:
            raise _unreadable(query, f"expected AND or OR at character {at}")
        words.add((between[1] or "and").lower())
        at = between.end()


def _read_clause(query: str, match: re.Match[str], fields: Collection[str]) -> Clause:
    field, key, value = match["field"], match["key"], match["value"]
    if (field == "metadata") != (key is not None) or field not in ("metadata", *fields):
        raise _unreadable(query, f"field `{field}` is not supported")
    if match["sign"] in ORDER and not value.isdigit():
        raise _unreadable(query, f"`{match['sign']}` compares numbers")
    return Clause(
        field,
        None if key is None else _unquote(key),
        match["sign"],
        None if value == "null" else _unquote(value),
        bool(match["negated"]),
    )


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[0] in "'\"" else text


def _unreadable(query: str, reason: str) -> Exception:
    return invalid(f"We were unable to parse your search query: {query}. {reason}.", param="query")
