"""Events as Stripe sends them, handed to our handlers as the webhook engine does it."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from outbound import clock
from outbound.ids import uuid7
from webhooks.envelopes import Envelope
from webhooks.errors import NotYet
from webhooks.handlers import Event, handlers_for


def event(event_type: str, document: Any, **payload: Any) -> Event:
    """https://docs.stripe.com/api/events/object"""
    row = uuid7()
    body = {"id": f"evt_{row.hex}", "type": event_type, "data": {"object": document}} | payload
    envelope = Envelope(event_id=f"evt_{row.hex}", event_type=event_type, payload=body)
    return Event(id=row, source="stripe", received_at=clock.now(), envelope=envelope)


def handle(happened: Event) -> None:
    """Run the handlers in a transaction. Raises what they raise."""
    found = handlers_for(happened.source, happened.event_type)
    assert found, f"nobody handles {happened.event_type}"
    with transaction.atomic():
        for handler in found:
            handler(happened)


def tell(event_type: str, document: Any) -> None:
    handle(event(event_type, document))


def tell_until_understood(happened: list[Event], *, rounds: int = 3) -> None:
    """Each in turn; what came too early comes again."""
    for _ in range(rounds):
        early = []
        for one in happened:
            try:
                handle(one)
            except NotYet:
                early.append(one)
        if not early:
            return
        happened = early
    raise AssertionError(f"never understood: {[e.event_type for e in happened]}")
