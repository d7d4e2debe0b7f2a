"""Handlers: the functions by which a tenant reacts to events.

Put them into `<app>/webhook_handlers.py`; they are found by themselves. A handler runs in the
transaction that marks the event PROCESSED, so its effects in the database happen exactly once.
It never calls out: it enqueues an outbound call. No order is promised, neither by a provider nor
by us, so a handler guards what it writes (a version, or the rank of a state).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from webhooks.envelopes import Envelope


@dataclass(frozen=True, slots=True)
class Event:
    """What a handler is given: the provider's envelope, and which row it is here."""

    id: UUID  # of our row
    source: str
    received_at: datetime
    envelope: Envelope = field(repr=False)

    @property
    def event_id(self) -> str:
        """The provider's id."""
        return self.envelope.event_id

    @property
    def event_type(self) -> str:
        return self.envelope.event_type

    @property
    def payload(self) -> dict[str, Any]:
        """The provider's event, whole."""
        return self.envelope.payload

    @property
    def account(self) -> str:
        return self.envelope.account

    @property
    def livemode(self) -> bool | None:
        return self.envelope.livemode

    @property
    def occurred_at(self) -> datetime | None:
        """When it happened there, by the provider's clock."""
        return self.envelope.occurred_at


Handler = Callable[[Event], None]

_handlers: dict[tuple[str, str], list[Handler]] = defaultdict(list)


def handles(source: str, event_type: str) -> Callable[[Handler], Handler]:
    """Run a function for every event of this type. It may stand several times over one function,
    and several functions may handle one type: all of them succeed together, or none.

    The function may raise NotYet when the event came too early for it; anything else that it
    raises is a failure, and is tried again with backoff.
    """

    def register(handler: Handler) -> Handler:
        if handler not in _handlers[source, event_type]:
            _handlers[source, event_type].append(handler)
        return handler

    return register


def handlers_for(source: str, event_type: str) -> tuple[Handler, ...]:
    """In the order of their registration."""
    return tuple(_handlers.get((source, event_type), ()))


def handled_types() -> Iterator[tuple[str, str]]:
    """Every (source, event type) that somebody handles."""
    return (key for key, handlers in _handlers.items() if handlers)
