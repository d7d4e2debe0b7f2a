"""The provider does not take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Complaint(NamedTuple):
    """One thing that is wrong. `code` is the provider's own."""

    message: str
    code: str | int = ""
    field: str = ""


class Refused(Exception):
    """Nothing happened. The provider words it as it words its errors."""

    def __init__(
        self, status: int, message: str = "", *, code: str | int = "", field: str = "",
        complaints: Sequence[Complaint] = (), headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.complaints = tuple(complaints) or (Complaint(message, code, field),)
        super().__init__(self.complaints[0].message)
        self.status = status
        self.headers = headers or {}

    @property
    def first(self) -> Complaint:
        return self.complaints[0]
