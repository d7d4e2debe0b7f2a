"""Event rows in any state, for tests that do not start at the door."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta
from typing import Any

from outbound import clock
from tests.webhooks.deliveries import stripe_body
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

_numbers = itertools.count(1)


def make_event(
    *,
    event_id: str = "",
    event_type: str = "payment_intent.succeeded",
    status: EventStatus = EventStatus.RECEIVED,
    **columns: Any,
) -> WebhookEvent:
    """A stored event of Stripe's, due now and unannounced."""
    event_id = event_id or f"evt_row_{next(_numbers)}"
    now = clock.now()
    row: dict[str, Any] = {
        "source": "stripe",
        "received_at": now,
        "updated_at": now,
        "due_at": now,
        "hint_at": now,
        "body": stripe_body(id=event_id, type=event_type),
    }
    if status == EventStatus.PROCESSING:
        row |= {"lease_token": uuid.uuid4(), "lease_expires_at": now + timedelta(seconds=30)}
    return WebhookEvent.objects.create(
        event_id=event_id, event_type=event_type, status=status, **(row | columns)
    )
