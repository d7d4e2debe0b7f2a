"""Mailgun's events. https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhooks"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from webhooks.envelopes import Envelope, is_name, read_json_object, read_name, read_unix_time
from webhooks.errors import DeliveryRefused, MalformedBody, MissingSignature
from webhooks.signatures import as_bytes, matching, read_time, signed
from webhooks.sources import Source

NEVER_AGAIN = 406  # the one status by which Mailgun stops: it repeats after all others but 200
HOPELESS = (400, 401)


class MailgunSource(Source):
    """Mailgun: HMAC-SHA256 over a time and a token in the body. Options: SECRETS (webhook signing
    keys).

    The events themselves are NOT signed: who has seen one delivery could send others under its
    signature. So each token is good for one event, and handlers should take what an event says for
    a hint where money depends on it. What cannot be right the next time either is answered 406.
    https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks
    """

    secret_variable: ClassVar[str] = "MAILGUN_WEBHOOK_SIGNING_KEYS"  # noqa: S105 - a name

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        time, token, signature = _proof(read_json_object(body))
        content = as_bytes(time + token)
        secret = matching(
            self.secrets, lambda each: signed(each.encode(), content, "sha256", [signature])
        )
        return self.label_of(secret)

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document = read_json_object(body)
        event = document.get("event-data")
        if not isinstance(event, dict):
            raise MalformedBody("'event-data' is not an object")
        return [
            Envelope(
                event_id=read_name(event, "id"),
                event_type=read_name(event, "event"),
                payload=document,
                occurred_at=_read_moment(event.get("timestamp")),
                nonce=_proof(document)[1],
            )
        ]

    def status_of(self, refusal: DeliveryRefused) -> int:
        status = super().status_of(refusal)
        return NEVER_AGAIN if status in HOPELESS else status

    def ordering_key(self, envelope: Envelope) -> str:
        """The message."""
        event = envelope.payload.get("event-data")
        message = event.get("message") if isinstance(event, dict) else None
        headers = message.get("headers") if isinstance(message, dict) else None
        name = headers.get("message-id") if isinstance(headers, dict) else None
        return str(name) if is_name(name) else ""


def _proof(document: Mapping[str, Any]) -> tuple[str, str, bytes]:
    """Time, token and signature. Raises MissingSignature."""
    proof = document.get("signature")
    found = [proof.get(name) if isinstance(proof, dict) else None for name in _PARTS]
    if not all(is_name(value) for value in found):
        raise MissingSignature("'signature' must have a timestamp, a token and a signature")
    time, token, signature = map(str, found)
    read_time(time)
    return time, token, as_bytes(signature)


def _read_moment(value: object) -> datetime | None:
    """Mailgun's times have fractions."""
    return read_unix_time(int(value)) if isinstance(value, float) else read_unix_time(value)


_PARTS = ("timestamp", "token", "signature")
