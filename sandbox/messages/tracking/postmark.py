"""Postmark's webhooks. https://postmarkapp.com/developer/webhooks/webhooks-overview"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from secrets import token_hex
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
    as_iso,
)
from sandbox.records import Message
from sandbox.webhooks.posting import Target
from sandbox.webhooks.sealing import Parcel

Json = dict[str, Any]
# https://postmarkapp.com/developer/api/bounce-api#bounce-types
BOUNCES = {
    "bounced": ("HardBounce", 1, "Hard bounce", BOUNCE),
    "soft_bounced": ("SoftBounce", 4096, "Soft bounce", SOFT_BOUNCE),
    "deferred": ("Transient", 2, "Message delayed", DEFERRAL),
    "complained": ("SpamComplaint", 512, "Spam complaint", "The subscriber marked it as spam."),
}
VISITS = {"opened": "Open", "clicked": "Click"}


class PostmarkTelling(Telling):
    """Nothing is signed: user and password are shown. The secret is `user:password`."""

    path: ClassVar[str] = "/webhooks/postmark"

    def new_secret(self) -> str:
        return f"postmark:{token_hex(16)}"

    def proof(self, secret: str) -> str:
        if ":" not in secret:
            raise ValueError("it must be user:password")
        return secret

    def tell(self, step: str, messages: Sequence[Message], *, now: float) -> Iterator[Tiding]:
        for place, message in enumerate(messages):
            if event := _event(step, message, now):
                id = f"{message.object}-{step}-{place}"  # noqa: A001  # it has none of its own
                yield Tiding(id, event["RecordType"], json.dumps(event).encode())

    def seal(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[dict[str, str], bytes]:
        headers = {"Content-Type": "application/json", "User-Agent": "Postmark"}
        shown = "somebody:else" if parcel.policy.signature == "wrong" else secrets[-1]
        if parcel.policy.signature == "malformed":
            headers["Authorization"] = "Basic %"
        elif parcel.policy.signature != "missing":
            headers["Authorization"] = f"Basic {base64.b64encode(shown.encode()).decode()}"
        return headers, parcel.event.body


def _event(step: str, message: Message, now: float) -> Json:
    """Empty where there is no word for the step."""
    common: Json = {
        "MessageID": message.object,
        "ServerID": 23,
        "MessageStream": message.account,
        "Metadata": message.metadata,
        "Tag": message.tags[0] if message.tags else "",
    }
    at = as_iso(now, digits=7)
    if step == "delivered":
        said = {"RecordType": "Delivery", "DeliveredAt": at, "Details": DELIVERY}
        return {**said, "Recipient": message.recipient, **common}
    if step in BOUNCES:
        return _bounce(step, message, at, now) | common
    if step in VISITS:
        return _visit(step, at) | {"Recipient": message.recipient} | common
    if step == "unsubscribed":
        return {
            "RecordType": "SubscriptionChange",
            "Recipient": message.recipient,
            "Origin": "Recipient",
            "SuppressSending": True,
            "SuppressionReason": "ManualSuppression",
            "ChangedAt": at,
            **common,
        }
    return {}


def _bounce(step: str, message: Message, at: str, now: float) -> Json:
    kind, code, name, details = BOUNCES[step]
    final = step in ("bounced", "complained")
    return {
        "RecordType": "SpamComplaint" if step == "complained" else "Bounce",
        "ID": time.time_ns() // 1000,
        "Type": kind,
        "TypeCode": code,
        "Name": name,
        "Description": name,
        "Details": details,
        "Email": message.recipient,
        "From": message.sender,
        "BouncedAt": at,
        "DumpAvailable": False,
        "Inactive": final,
        "CanActivate": step != "complained",
        "Subject": message.subject,
    }


def _visit(step: str, at: str) -> Json:
    said: Json = {
        "RecordType": VISITS[step],
        "ReceivedAt": at,
        "Platform": "Desktop",
        "UserAgent": CLIENT["agent"],
        "Client": {"Name": "Sandbox", "Company": "Sandbox", "Family": "Sandbox"},
        "OS": {"Name": "Sandbox", "Company": "Sandbox", "Family": "Sandbox"},
        "Geo": {"IP": CLIENT["ip"]},
    }
    if step == "opened":
        return said | {"FirstOpen": True}
    return said | {"ClickLocation": "HTML", "OriginalLink": LINK}
