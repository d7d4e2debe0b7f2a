"""SendGrid's event webhook.
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature as NoProof
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from webhooks.envelopes import Envelope, read_json, read_name, read_unix_time
from webhooks.errors import MalformedBody
from webhooks.signatures import (
    demand_fresh,
    matching,
    read_base64,
    read_header,
    read_time,
    tolerance_of,
    tolerance_problem,
)
from webhooks.sources import Source

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIME = "X-Twilio-Email-Event-Webhook-Timestamp"
TOLERANCE_SECONDS = 600.0  # a bound of ours: a batch may wait there before it is sent


class SendGridSource(Source):
    """SendGrid: ECDSA with SHA-256 over time and body, which is a list of events. Options: SECRETS
    (public keys as SendGrid shows them: base64), TOLERANCE (seconds).
    https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
    """

    option_names: ClassVar[frozenset[str]] = frozenset({"SECRETS", "TOLERANCE"})
    secret_variable: ClassVar[str] = "SENDGRID_WEBHOOK_PUBLIC_KEYS"  # noqa: S105 - a name

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        signature, digits = read_base64(read_header(headers, SIGNATURE)), read_header(headers, TIME)
        signed_at, content = read_time(digits), digits.encode() + body
        key = matching(self.secrets, lambda each: _is_signed(each, signature, content))
        demand_fresh(signed_at, now=now, tolerance=tolerance_of(self.options, TOLERANCE_SECONDS))
        return self.label_of(key)

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        """Each item is an event, stored by itself."""
        items = read_json(body)
        if not isinstance(items, list):
            raise MalformedBody("the body is not a list of events")
        return [_envelope(item, stored=json.dumps(item).encode()) for item in items]

    def parse_stored(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        return [_envelope(read_json(body), stored=body)]

    def ordering_key(self, envelope: Envelope) -> str:
        """The message."""
        message = envelope.payload.get("sg_message_id")
        return str(message)[:255].replace("\x00", "") if isinstance(message, str) else ""

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        for place, text in enumerate(options.get("SECRETS") or (), start=1):
            if isinstance(text, str) and text and not _is_key(text):
                yield f"public key {place} is no base64 of an elliptic curve's key"
        if problem := tolerance_problem(options):
            yield problem


def _envelope(item: object, *, stored: bytes) -> Envelope:
    if not isinstance(item, dict):
        raise MalformedBody("an event is not an object")
    return Envelope(
        event_id=read_name(item, "sg_event_id"),
        event_type=read_name(item, "event"),
        payload=item,
        occurred_at=read_unix_time(item.get("timestamp")),
        body=stored,
    )


def _is_signed(key: str, signature: bytes, content: bytes) -> bool:
    try:
        _read_key(key).verify(signature, content, ECDSA(SHA256()))
    except NoProof:
        return False
    return True


def _read_key(text: str) -> EllipticCurvePublicKey:
    """Raises ValueError for what is no such key."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, UnsupportedAlgorithm) as error:
        raise ValueError("no public key") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("not an elliptic curve's key")  # noqa: TRY004 - a value from outside
    return key


def _is_key(text: str) -> bool:
    try:
        _read_key(text)
    except ValueError:
        return False
    return True
