"""The seam to django-anymail: it knows how a message looks at a provider and what an answer means;
it sends nothing, and reads no setting while we send. https://anymail.dev"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anymail.backends.base_requests import AnymailRequestsBackend, RequestsPayload
from anymail.exceptions import AnymailError
from anymail.message import AnymailMessage, AnymailRecipientStatus

from notifications.adapters.messages import Email
from notifications.adapters.mime import filled, parts
from notifications.adapters.refusals import private_texts, readable
from outbound.adapters import CallContext
from outbound.errors import PermanentError

ACCEPTED = frozenset({"sent", "queued"})  # the rest: invalid, rejected, failed, unknown

# Each of a backend's options, so that none is looked for in the settings.
OPTIONS: Mapping[str, Any] = {
    "debug_api_requests": False,
    "idna_encoder": "idna2008",
    "ignore_recipient_status": True,
    "ignore_unsupported_features": False,
    "send_defaults": {},
    "timeout": None,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's reply as far as anymail looks at one."""

    document: Any
    status_code: int = 200
    text: str = ""
    reason: str = ""
    url: str = ""

    def json(self) -> Any:
        return self.document


def build_payload(
    backend: AnymailRequestsBackend,
    email: Email,
    context: CallContext,
    *,
    provider: str,
    **extras: Any,
) -> RequestsPayload:
    """The message as the provider wants it; `extras` are anymail's own attributes of one. Raises
    PermanentError for what the provider cannot take."""
    set_ones = {name: value for name, value in extras.items() if value}
    message = AnymailMessage(**parts(email), headers=dict(email.headers), **set_ones)
    try:
        return backend.build_message_payload(filled(message, email, context), {})
    except AnymailError as error:
        text = str(error.args[0]) if error.args else ""
        raise PermanentError(
            readable(provider, "unsupported", text, private_texts(email)),
            code="unsupported",
            http_status=400,
        ) from None


def statuses(
    backend: AnymailRequestsBackend, payload: RequestsPayload, document: Any
) -> dict[str, AnymailRecipientStatus] | None:
    """What a reply says of each address; None where it is not what the provider documents."""
    try:
        found = backend.parse_recipient_status(Answer(document), payload, payload.message)
        return {str(address): status for address, status in found.items()}
    except (AnymailError, AttributeError, KeyError, TypeError, ValueError):
        return None
