"""Postmark's events. https://postmarkapp.com/developer/webhooks/webhooks-overview"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from webhooks.envelopes import Envelope, is_name, read_json_object, read_name
from webhooks.errors import DeliveryRefused, MalformedBody
from webhooks.providers.generic import SharedSecretSource

NEVER_AGAIN = 403  # the one status after which Postmark does not repeat
TIMES = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")
# What tells one event about a message from another of the same type.
TELLING = ("ID", "Recipient", "Email", "OriginalLink", "SuppressSending", *TIMES)
DIGEST_CHARACTERS = 32
LAST_YEAR = 3000


class PostmarkSource(SharedSecretSource):
    """Postmark signs nothing: it shows a name and a password that stand in the address which it is
    given. Options: SECRETS (`user:password`). What no repeat could mend is answered 403.
    https://postmarkapp.com/developer/webhooks/webhooks-overview#protecting-your-webhook

    Its events have no id. It is composed of the type, the message and a digest of the members that
    tell one event from another (a bounce's ID, whom it is about, when it happened), so that a
    repeat is known, and two openings of one message are two events. The digest hides whom.
    """

    secret_variable: ClassVar[str] = "POSTMARK_WEBHOOK_CREDENTIALS"  # noqa: S105 - a name
    option_names: ClassVar[frozenset[str]] = frozenset({"SECRETS"})
    default_scheme: ClassVar[str] = "basic"

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document = read_json_object(body)
        kind = read_name(document, "RecordType")
        return [
            Envelope(
                event_id=_event_id(kind, document),
                event_type=kind,
                payload=document,
                occurred_at=next(_moments(document), None),
            )
        ]

    def status_of(self, refusal: DeliveryRefused) -> int:
        if isinstance(refusal, MalformedBody):
            return NEVER_AGAIN
        return super().status_of(refusal)

    def ordering_key(self, envelope: Envelope) -> str:
        """The message."""
        name = envelope.payload.get("MessageID")
        return str(name) if is_name(name) else ""


def _event_id(kind: str, document: Mapping[str, Any]) -> str:
    telling = [kind, *(document.get(name) for name in ("MessageID", *TELLING))]
    digest = hashlib.sha256(json.dumps(telling).encode()).hexdigest()[:DIGEST_CHARACTERS]
    message = document.get("MessageID")
    name = f"{kind}:{message}:{digest}" if isinstance(message, str) else ""
    return name if is_name(name) else f"{kind[:200]}:{digest}"


def _moments(document: Mapping[str, Any]) -> Iterator[datetime]:
    """2019-11-05T16:33:54.0000000Z, or with another zone."""
    for written in map(document.get, TIMES):
        try:
            found = datetime.fromisoformat(written if isinstance(written, str) else "")
            found = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
        if 1970 <= found.year < LAST_YEAR:
            yield found
