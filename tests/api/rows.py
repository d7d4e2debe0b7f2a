"""Call rows in any state, for tests that do not start at the door."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta
from typing import Any

from outbound import clock
from outbound.models import OutboundCall
from outbound.states import CallStatus

_numbers = itertools.count(1)


def make_call(*, status: str = CallStatus.PENDING, **columns: Any) -> OutboundCall:
    """A stored call of the Stripe adapter."""
    now = clock.now()
    row: dict[str, Any] = {
        "adapter": "stripe",
        "operation": "create_payment_intent",
        "payload": {"amount": 2000, "currency": "usd"},
        "idempotency_key": f"row-{next(_numbers)}",
        "max_attempts": 9,
        "due_at": now,
        "hint_at": now,
        "deadline_at": now + timedelta(hours=24),
        "created_at": now,
        "updated_at": now,
    }
    if status == CallStatus.RUNNING:
        row |= {"lease_token": uuid.uuid4(), "lease_expires_at": now + timedelta(seconds=30)}
    return OutboundCall.objects.create(status=status, **(row | columns))
