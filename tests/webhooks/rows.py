"""Event rows in any state, for tests that do not start at the door."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

from outbound import clock
from tests.webhooks.deliveries import stripe_body
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus


def make_event(*, body: bytes | object | None = ..., **columns: Any) -> WebhookEvent:
    """A stored event of Stripe's, due now and unannounced, RECEIVED unless said otherwise."""
    members = {"id": columns["event_id"]} if "event_id" in columns else {}
    if "event_type" in columns:
        members["type"] = columns["event_type"]
    content = stripe_body(**members) if body is ... else body
    named = json.loads(content) if isinstance(content, bytes) else {"id": "evt_gone", "type": "x"}
    now = clock.now()
    status = columns.get("status", EventStatus.RECEIVED)
    row: dict[str, Any] = {
        "source": "stripe",
        "event_id": named["id"],
        "event_type": named["type"],
        "received_at": now,
        "updated_at": now,
        "due_at": now,
        "hint_at": now,
        "body": content,
    }
    if status == EventStatus.PROCESSING:
        row |= {"lease_token": uuid.uuid4(), "lease_expires_at": now + timedelta(seconds=30)}
    return WebhookEvent.objects.create(**(row | columns))
