"""What is delivered, and the last thing done to it: the signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sandbox.webhooks.policy import Policy
from sandbox.webhooks.posting import Target


class Tidings(Protocol):
    """Something to tell: an event as its provider writes it."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def target(self) -> Target | None:
        """Where this one goes; None: where all go."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One copy of an event on its way."""

    event: Tidings
    policy: Policy
    copy: int
    attempt: int = 1


class Seal(Protocol):
    """Headers and body of one attempt, signed now as the provider signs, or as badly as the
    parcel's policy wants it."""

    def __call__(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[Mapping[str, str], bytes]: ...
