"""Deliveries as Stripe makes them: a body, and the header that signs it."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from typing import Any

SECRET = "whsec_current_0123456789abcdef"
OLD_SECRET = "whsec_former_0123456789abcdef"

_numbers = itertools.count(1)


def stripe_body(**members: Any) -> bytes:
    """An event as Stripe sends it. `members` replace the usual ones; ... takes one away."""
    number = next(_numbers)
    document: dict[str, Any] = {
        "id": f"evt_{number:024}",
        "object": "event",
        "api_version": "2023-10-16",
        "created": 1_700_000_000,
        "data": {"object": {"id": f"pi_{number}", "object": "payment_intent"}},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "payment_intent.succeeded",
    }
    document.update(members)
    return json.dumps({name: v for name, v in document.items() if v is not ...}, indent=2).encode()


def digest(body: bytes, *, at: object, secret: str = SECRET) -> str:
    """The hex of one v1 signature. https://docs.stripe.com/webhooks#verify-manually"""
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def signature(body: bytes, *, at: object = None, secret: str = SECRET) -> str:
    """The Stripe-Signature header. `at`: seconds since 1970, default now."""
    at = int(time.time()) if at is None else at
    return f"t={at},v1={digest(body, at=at, secret=secret)}"
