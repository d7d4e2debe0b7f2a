"""Mailgun's events. https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from secrets import token_hex, token_urlsafe
from typing import Any, ClassVar

from sandbox.messages.tracking.telling import (
    BOUNCE,
    CLIENT,
    DEFERRAL,
    DELIVERY,
    LINK,
    SOFT_BOUNCE,
    Telling,
    Tiding,
)
from sandbox.records import Message
from sandbox.webhooks.posting import Target
from sandbox.webhooks.sealing import Parcel

_CLIENT = {"ip": CLIENT["ip"], "client-info": {"user-agent": CLIENT["agent"]}}
EVENTS: dict[str, dict[str, Any]] = {
    "processed": {"event": "accepted"},
    "deferred": {
        "event": "failed",
        "severity": "temporary",
        "reason": "generic",
        "delivery-status": {"code": 451, "message": DEFERRAL, "retry-seconds": 600},
    },
    "delivered": {"event": "delivered", "delivery-status": {"code": 250, "message": DELIVERY}},
    "bounced": {
        "event": "failed",
        "severity": "permanent",
        "reason": "bounce",
        "delivery-status": {"code": 550, "message": BOUNCE},
    },
    # Given up after many tries: permanent as well, and told apart by its code.
    "soft_bounced": {
        "event": "failed",
        "severity": "permanent",
        "reason": "old",
        "delivery-status": {"code": 602, "message": "Too old", "description": SOFT_BOUNCE},
    },
    "dropped": {
        "event": "failed",
        "severity": "permanent",
        "reason": "suppress-bounce",
        "delivery-status": {"code": 605, "message": "Not delivering to previously bounced address"},
    },
    "complained": {"event": "complained"},
    "opened": {"event": "opened", **_CLIENT},
    "clicked": {"event": "clicked", "url": LINK, **_CLIENT},
    "unsubscribed": {"event": "unsubscribed", **_CLIENT},
}


class MailgunTelling(Telling):
    """One event in each POST. The signature is about a time and a token, and new each time."""

    path: ClassVar[str] = "/webhooks/mailgun"

    def new_secret(self) -> str:
        return token_hex(16)

    def proof(self, secret: str) -> str:
        return secret

    def tell(self, step: str, messages: Sequence[Message], *, now: float) -> Iterator[Tiding]:
        for message in messages if step in EVENTS else ():
            event = _event(EVENTS[step], message, now)
            yield Tiding(event["id"], event["event"], json.dumps({"event-data": event}).encode())

    def seal(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[dict[str, str], bytes]:
        digits, token = str(int(time.time() - parcel.policy.age)), token_hex(25)
        secret = "somebody else's" if parcel.policy.signature == "wrong" else secrets[-1]
        mark = hmac.new(secret.encode(), f"{digits}{token}".encode(), hashlib.sha256).hexdigest()
        document = json.loads(parcel.event.body)
        if parcel.policy.signature != "missing":
            document["signature"] = {"timestamp": digits, "token": token, "signature": mark}
        if parcel.policy.signature == "malformed":
            document["signature"] = "yesterday"
        headers = {"Content-Type": "application/json", "User-Agent": "Mailgun-Webhooks/1.0"}
        return headers, json.dumps(document).encode()


def _event(kind: dict[str, Any], message: Message, now: float) -> dict[str, Any]:
    return {
        **kind,
        "id": token_urlsafe(16),
        "timestamp": now,
        "log-level": "error" if kind.get("severity") == "permanent" else "info",
        "recipient": message.recipient,
        "recipient-domain": message.recipient.partition("@")[2],
        "tags": message.tags,
        "user-variables": message.metadata,
        "flags": {"is-routed": False, "is-authenticated": True, "is-test-mode": False},
        "message": {
            "headers": {
                "message-id": message.object,
                "to": ", ".join(message.to),
                "from": message.sender,
                "subject": message.subject,
            },
            "attachments": [],
            "size": len(message.text) + len(message.html),
        },
    }
