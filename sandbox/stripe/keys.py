"""Idempotency keys, as Stripe v1 remembers them.

https://docs.stripe.com/api/idempotent_requests: the first result is saved "regardless of whether
it succeeds or fails", and sent again, "including 500 errors"; not saved are results of requests
that "failed validation, or conflicted with another request".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

from sandbox.limits import KEPT_KEYS
from sandbox.stripe.errors import Json, Refusal, encode, invalid
from sandbox.wire import Answer

MAX_LENGTH = 255
LIFETIME = 24 * 3600.0  # seconds; "after they're at least 24 hours old"


class Scope(NamedTuple):
    """Whose objects and keys: an account, in test or live mode."""

    account: str
    live: bool


@dataclass(slots=True, eq=False)
class Slot:
    """What is known about one key. Without an answer its first request still runs."""

    scope: Scope
    key: str
    path: str
    form: str  # a digest of the parameters
    request_id: str
    at: float
    answer: Answer | None = field(default=None)


class Keys:
    """Which request each key was used for, and what came of it."""

    def __init__(self) -> None:
        self._slots: dict[tuple[Scope, str], Slot] = {}

    def claim(
        self, *, scope: Scope, key: str, path: str, form: str, request_id: str, at: float,
        lifetime: float,
    ) -> Slot:  # fmt: skip
        """The slot of the key, with the stored answer if there is one; otherwise the caller goes
        on, and ends with `store` or `release`. Raises Refusal."""
        if len(key) > MAX_LENGTH or not key:
            raise invalid(
                f"Invalid Idempotency-Key: keys must be 1 to {MAX_LENGTH} characters long, and "
                f"yours has {len(key)}."
            )
        slot = self._slots.get((scope, key))
        if slot is None or (slot.answer is not None and at - slot.at >= lifetime):
            slot = Slot(scope, key, path, form, request_id, at)
            self._slots.pop((scope, key), None)
            self._slots[scope, key] = slot
            self._forget_oldest()
            return slot
        _compare(slot, path, form)
        if slot.answer is None:
            raise in_use(key)
        return slot

    def store(self, slot: Slot, answer: Answer) -> None:
        """From now on this is what the key answers."""
        slot.answer = answer

    def release(self, slot: Slot) -> None:
        """The key stays good: nothing was begun."""
        if self._slots.get((slot.scope, slot.key)) is slot:
            del self._slots[slot.scope, slot.key]

    def forget(self, key: str | None = None) -> int:
        """As after 24 hours: this key, or all whose request has ended. How many."""
        gone = [
            place
            for place, slot in self._slots.items()
            if slot.answer is not None and key in (None, slot.key)
        ]
        for place in gone:
            del self._slots[place]
        return len(gone)

    def clear(self) -> None:
        """Forget all."""
        self._slots.clear()

    def _forget_oldest(self) -> None:
        while len(self._slots) > KEPT_KEYS:
            place, slot = next(iter(self._slots.items()))
            if slot.answer is None:
                return
            del self._slots[place]


def digest(form: Json) -> str:
    """The same for the same parameters, in whatever order they come."""
    return hashlib.sha256(encode(sorted(_leaves(form)))).hexdigest()


def _leaves(form: Json, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, value in form.items():
        if isinstance(value, dict):
            yield from _leaves(value, *path, name)
        else:
            yield (*path, name), value


def in_use(key: str) -> Refusal:
    """Another request with this key is running."""
    return Refusal(
        HTTPStatus.CONFLICT,
        "There is currently another in-progress request using this Idempotent Key (that probably "
        "means you submitted twice, and the other request is still going through): "
        f"{key}. Please try again later.",
        type="idempotency_error",
        code="idempotency_key_in_use",
        executed=False,
    )


def _compare(slot: Slot, path: str, form: str) -> None:
    if slot.path != path:
        same = f"for the same endpoint they were first used for ('{slot.path}' vs '{path}')."
    elif slot.form != form:
        same = "with the same parameters they were first used with."
    else:
        return
    raise Refusal(
        HTTPStatus.BAD_REQUEST,
        f"Keys for idempotent requests can only be used {same} Try using a key other than "
        f"'{slot.key}' if you meant to execute a different request.",
        type="idempotency_error",
        executed=False,
    )
