"""Idempotency keys as Resend remembers them: the first answer for a day, if it was a good one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from sandbox.limits import KEPT_KEYS
from sandbox.messages.refused import Refused
from sandbox.wire import Answer

DAY = 24 * 3600.0


@dataclass(slots=True)
class Slot:
    """What is known about one key. Without an answer its first request still runs."""

    request: Hashable
    at: float
    answer: Answer | None = None


class Remembered:
    """Answers by key."""

    def __init__(self) -> None:
        self._slots: dict[Hashable, Slot] = {}

    async def once(
        self,
        key: Hashable,
        request: Hashable,
        execute: Callable[[], Awaitable[Answer]],
        *,
        now: float,
    ) -> Answer:
        """Executes the first request with a key, and answers the others as that one was. Raises
        Refused."""
        slot = self._slots.get(key)
        if slot is not None and now - slot.at < DAY:
            return _known(slot, request)
        slot = self._slots[key] = Slot(request, now)
        while len(self._slots) > KEPT_KEYS:
            del self._slots[next(iter(self._slots))]
        try:
            found = await execute()
            if found.status < 300:
                slot.answer = found
            return found
        finally:
            if slot.answer is None and self._slots.get(key) is slot:
                del self._slots[key]

    def clear(self) -> None:
        """Forget all."""
        self._slots.clear()


def _known(slot: Slot, request: Hashable) -> Answer:
    if slot.request != request:
        raise Refused(
            409,
            "Same idempotency key used with a different request payload.",
            code="invalid_idempotent_request",
        )
    if slot.answer is None:
        raise Refused(
            409,
            "Same idempotency key used while original request is still in progress.",
            code="concurrent_idempotent_requests",
        )
    return slot.answer
