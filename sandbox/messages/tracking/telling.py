"""What every provider does who tells of its messages afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

from sandbox.records import Message
from sandbox.webhooks.posting import Target
from sandbox.webhooks.sealing import Parcel

LINK = "https://example.com/"
CLIENT = {"ip": "192.0.2.7", "agent": "Mozilla/5.0 (sandbox)"}
BOUNCE = "550 5.1.1 The email account that you tried to reach does not exist"
SOFT_BOUNCE = "452 4.2.2 The mailbox is full"
DEFERRAL = "451 4.7.1 Greylisted, please try again later"
DELIVERY = "250 2.0.0 OK"


@dataclass(frozen=True, slots=True)
class Tiding:
    """An event as it will be posted, but for what changes with each attempt."""

    id: str
    type: str
    body: bytes
    target: Target | None = None
    secret: str = ""  # that this one is signed with, unless the endpoint has others


class Telling(ABC):
    """One provider's events. `path` is where its webhook goes, behind the base of all."""

    path: ClassVar[str]

    def secrets(self, told: tuple[str, ...]) -> tuple[str, ...]:
        """What is signed with: one of its own, unless told."""
        return told or (self._own,)

    def sealed(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[Mapping[str, str], bytes]:
        """Headers and body, signed now."""
        return self.seal(parcel, self.secrets(secrets), target)

    @cached_property
    def _own(self) -> str:
        return self.new_secret()

    @abstractmethod
    def new_secret(self) -> str:
        """What to sign with, when nobody has said."""

    @abstractmethod
    def proof(self, secret: str) -> str:
        """What a receiver verifies with: the same, or the public half."""

    @abstractmethod
    def tell(self, step: str, messages: Sequence[Message], *, now: float) -> Iterator[Tiding]:
        """This step of these messages; nothing where there is no word for it."""

    @abstractmethod
    def seal(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[Mapping[str, str], bytes]:
        """With these secrets, of which there is at least one."""


def as_iso(moment: float, *, digits: int = 3) -> str:
    """2026-01-02T03:04:05.678Z"""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")
    whole, _, fraction = text.removesuffix("+00:00").partition(".")
    return f"{whole}.{fraction[:digits]}Z"


def named(headers: dict[str, str], **named: Any) -> dict[str, str]:
    """These headers, and those that have a value."""
    return headers | {name: value for name, value in named.items() if value}
