"""Pages of rows that stay the same while rows are added: by position, not by number."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from django.db.models import Model, Q, QuerySet

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two rows: after the one of that time and id."""

    at: datetime
    pk: uuid.UUID


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows, newest first, and where the next page begins; None on the last one."""

    rows: list[Row]
    next: Position | None


def page_of(rows: QuerySet[Row], *, by: str, after: Position | None, size: int) -> Page[Row]:
    """`size` rows, newest first by the column `by`, beginning after a position. An index on that
    column serves it, however far down."""
    if after is not None:
        behind = Q(**{f"{by}__lt": after.at}) | Q(pk__lt=after.pk)
        rows = rows.filter(behind, **{f"{by}__lte": after.at})
    found = list(rows.order_by(f"-{by}", "-pk")[: size + 1])
    if len(found) <= size:
        return Page(found, None)
    last = found[size - 1]
    return Page(found[:size], Position(getattr(last, by), last.pk))
