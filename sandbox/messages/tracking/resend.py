"""Resend's webhooks, which Svix sends. https://resend.com/docs/dashboard/webhooks/event-types"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from secrets import token_bytes
from typing import Any, ClassVar

from sandbox.ids import new_id
from sandbox.messages.tracking.telling import (
    BOUNCE,
    CLIENT,
    LINK,
    SOFT_BOUNCE,
    Telling,
    Tiding,
    as_iso,
)
from sandbox.records import Message
from sandbox.webhooks.posting import Target
from sandbox.webhooks.sealing import Parcel

PREFIX = "whsec_"
_VISIT = {"ipAddress": CLIENT["ip"], "userAgent": CLIENT["agent"]}


def _bounce(kind: str, subtype: str, message: str) -> dict[str, Any]:
    return {"bounce": {"type": kind, "subType": subtype, "message": message}}


EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sent": ("email.sent", {}),
    "deferred": ("email.delivery_delayed", {}),
    "delivered": ("email.delivered", {}),
    "bounced": ("email.bounced", _bounce("Permanent", "General", BOUNCE)),
    "soft_bounced": ("email.bounced", _bounce("Transient", "MailboxFull", SOFT_BOUNCE)),
    "dropped": (
        "email.bounced",
        _bounce("Permanent", "Suppressed", "The recipient is on the suppression list."),
    ),
    "failed": ("email.failed", {"failed": {"reason": "sandbox"}}),
    "complained": ("email.complained", {}),
    "opened": ("email.opened", {"open": _VISIT}),
    "clicked": ("email.clicked", {"click": {**_VISIT, "link": LINK}}),
}


class ResendTelling(Telling):
    """Every secret signs, as Svix does during a rotation."""

    path: ClassVar[str] = "/webhooks/resend"

    def new_secret(self) -> str:
        return PREFIX + base64.b64encode(token_bytes(24)).decode()

    def proof(self, secret: str) -> str:
        _key(secret)
        return secret

    def tell(self, step: str, messages: Sequence[Message], *, now: float) -> Iterator[Tiding]:
        if step not in EVENTS:
            return
        kind, more = EVENTS[step]
        for message in messages:
            about = {
                "email_id": message.object,
                "created_at": as_iso(message.at),
                "from": message.sender,
                "to": [message.recipient],
                "subject": message.subject,
                "tags": message.metadata,
                **more,
            }
            body = {"type": kind, "created_at": as_iso(now), "data": about}
            yield Tiding(new_id("msg", length=27), kind, json.dumps(body).encode())

    def seal(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[dict[str, str], bytes]:
        digits, body = str(int(time.time() - parcel.policy.age)), parcel.event.body
        if parcel.policy.signature == "wrong":
            secrets = (PREFIX + base64.b64encode(b"somebody else's secret..").decode(),)
        content = f"{parcel.event.id}.{digits}.".encode() + body
        marks = (hmac.new(_key(each), content, hashlib.sha256).digest() for each in secrets)
        signature = " ".join(f"v1,{base64.b64encode(mark).decode()}" for mark in marks)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Svix-Webhooks/1.0",
            "svix-id": parcel.event.id,
            "svix-timestamp": digits,
        }
        if parcel.policy.signature != "missing":
            malformed = parcel.policy.signature == "malformed"
            headers["svix-signature"] = "yesterday" if malformed else signature
        return headers, body


def _key(secret: str) -> bytes:
    """Raises ValueError."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"it must begin with {PREFIX}")
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
