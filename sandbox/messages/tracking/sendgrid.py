"""SendGrid's event webhook: lists of events, signed with ECDSA.
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.ids import random_text
from sandbox.messages.tracking.keys import as_pem, read_pem
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

AT_ONCE = 100  # events in one list
_VISIT = {"useragent": CLIENT["agent"], "ip": CLIENT["ip"]}
EVENTS: dict[str, dict[str, Any]] = {
    "processed": {"event": "processed"},
    "deferred": {"event": "deferred", "response": DEFERRAL, "attempt": "1"},
    "delivered": {"event": "delivered", "response": DELIVERY},
    "bounced": {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": BOUNCE},
    "soft_bounced": {
        "event": "bounce",
        "type": "blocked",
        "status": "4.2.2",
        "reason": SOFT_BOUNCE,
    },
    "dropped": {"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"},
    "complained": {"event": "spamreport"},
    "opened": {"event": "open", "sg_machine_open": False, **_VISIT},
    "clicked": {
        "event": "click",
        "url": LINK,
        "url_offset": {"index": 0, "type": "html"},
        **_VISIT,
    },
    "unsubscribed": {"event": "unsubscribe"},
}


class SendGridTelling(Telling):
    """Custom arguments stand beside the event's own members, as SendGrid has it."""

    path: ClassVar[str] = "/webhooks/sendgrid"

    def new_secret(self) -> str:
        return as_pem(generate_private_key(SECP256R1()))

    def proof(self, secret: str) -> str:
        public = _private(secret).public_key()
        return base64.b64encode(
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode()

    def tell(self, step: str, messages: Sequence[Message], *, now: float) -> Iterator[Tiding]:
        if step not in EVENTS:
            return
        waiting = iter(messages)
        while some := list(islice(waiting, AT_ONCE)):
            items = [_event(EVENTS[step], message, now) for message in some]
            body = json.dumps(items, separators=(",", ":")).encode()
            yield Tiding(items[0]["sg_event_id"], step, body)

    def seal(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[dict[str, str], bytes]:
        """The last secret signs: SendGrid has one key at a time."""
        body, digits = parcel.event.body, str(int(time.time() - parcel.policy.age))
        signature = _signature(secrets[-1], digits.encode() + body)
        if parcel.policy.signature == "wrong":
            signature = _signature(secrets[-1], b"something else")
        elif parcel.policy.signature == "malformed":
            signature = "no base64!"
        headers = {"Content-Type": "application/json", "User-Agent": "SendGrid Event API"}
        if parcel.policy.signature != "missing":
            headers["X-Twilio-Email-Event-Webhook-Signature"] = signature
            headers["X-Twilio-Email-Event-Webhook-Timestamp"] = digits
        return headers, body


def _event(kind: dict[str, Any], message: Message, now: float) -> dict[str, Any]:
    return {
        **message.metadata,
        "email": message.recipient,
        "timestamp": int(now),
        "smtp-id": f"<{message.object}@geopod-ismtpd-1>",
        "category": message.tags,
        **kind,
        "sg_event_id": random_text(22),
        "sg_message_id": f"{message.object}.recvd-sandbox-1-{message.seq}.0",
    }


def _private(secret: str) -> EllipticCurvePrivateKey:
    key = read_pem(secret)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TypeError("SendGrid signs with an elliptic curve's key")
    return key


def _signature(secret: str, content: bytes) -> str:
    return base64.b64encode(_private(secret).sign(content, ECDSA(SHA256()))).decode()
