"""What happened, as Stripe tells it. https://docs.stripe.com/api/events"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sandbox.stripe.errors import Json, encode
from sandbox.stripe.keys import Scope
from sandbox.webhooks.posting import Target

API_VERSION = "2023-10-16"


@dataclass(frozen=True, slots=True)
class Event:
    """An event. Its body is made once and kept as it is sent: what the object was at that time."""

    id: str
    scope: Scope
    type: str
    created: int
    body: bytes
    target: Target | None = None  # where all go

    def document(self) -> Json:
        """The event object."""
        document: Json = json.loads(self.body)
        return document


def make_event(
    *,
    id: str,  # noqa: A002  # Stripe's name
    scope: Scope,
    type: str,  # noqa: A002
    created: int,
    object: Json,  # noqa: A002
    previous: Json | None = None,
    request_id: str | None = None,
    key: str | None = None,
    webhooks: int = 0,
) -> Event:
    """An event about an object, with the attributes it had before where they changed."""
    document: Json = {
        "id": id,
        "object": "event",
        "api_version": API_VERSION,
        "created": created,
        "data": {"object": object},
        "livemode": scope.live,
        "pending_webhooks": webhooks,
        "request": {"id": request_id, "idempotency_key": key},
        "type": type,
    }
    if previous:
        document["data"]["previous_attributes"] = previous
    if scope.account:
        document["account"] = scope.account
    return Event(id, scope, type, created, encode(document))
