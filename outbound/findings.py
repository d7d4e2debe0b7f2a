"""What a look at the house can find: one thing that somebody should know, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet


@dataclass(frozen=True, slots=True)
class Finding:
    """`about` what it is; `says` what is wrong; `advice` what helps, where that is known."""

    about: str
    says: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.about}: {self.says}" + (f" ({self.advice})" if self.advice else "")


Examination = Callable[[], Iterator[Finding]]


def age(span: timedelta) -> str:
    """A span of time in the unit that a person would use."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def unreadable(rows: QuerySet[Any], column: str, *, about: str, by: str) -> Iterator[Finding]:
    """Whether the oldest or the newest of these rows was encrypted with a key we have not got."""
    for name, order in (("oldest", by), ("newest", f"-{by}")):
        try:
            rows.order_by(order).values_list(column, flat=True).first()
        except ImproperlyConfigured:
            yield Finding(
                about,
                f"the {name} one cannot be decrypted",
                "put the key that is missing into FIELD_ENCRYPTION_KEYS, behind the first",
            )
