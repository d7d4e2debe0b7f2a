"""Stripe's webhook signatures. https://docs.stripe.com/webhooks#verify-manually"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable


def sign(body: bytes, *, secrets: Iterable[str], timestamp: int) -> str:
    """The Stripe-Signature header: one v1 for each secret, as during a rotation."""
    signed = b"%d." % timestamp + body
    marks = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={timestamp}", *(f"v1={mark}" for mark in marks)])
