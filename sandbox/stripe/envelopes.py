"""Stripe's events as they are posted."""

from __future__ import annotations

import json
import time

from sandbox.stripe.signatures import sign
from sandbox.webhooks.policy import Policy
from sandbox.webhooks.posting import Target
from sandbox.webhooks.sealing import Parcel


def seal(parcel: Parcel, secrets: tuple[str, ...], target: Target) -> tuple[dict[str, str], bytes]:
    """Headers and body."""
    body = _claiming(parcel.event.body, parcel.policy.livemode)
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    if parcel.policy.signature != "missing":
        headers["Stripe-Signature"] = _signature(body, parcel.policy, secrets)
    return headers, body


def _signature(body: bytes, policy: Policy, secrets: tuple[str, ...]) -> str:
    if policy.signature == "malformed":
        return "v1=,t=yesterday,,"
    if policy.signature == "wrong":
        secrets = ("whsec_somebody_elses",)
    return sign(body, secrets=secrets or ("",), timestamp=int(time.time() - policy.age))


def _claiming(body: bytes, livemode: bool | None) -> bytes:
    if livemode is None:
        return body
    try:
        document = json.loads(body)
    except ValueError:
        return body
    return json.dumps({**document, "livemode": livemode}, separators=(",", ":")).encode()
