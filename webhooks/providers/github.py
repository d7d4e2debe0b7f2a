"""GitHub's events. https://docs.github.com/en/webhooks"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from webhooks.envelopes import Envelope, is_name, read_form, read_json_object
from webhooks.errors import MalformedBody, MissingSignature
from webhooks.signatures import as_bytes, matching, read_header, signed
from webhooks.sources import Source

SIGNATURE = "X-Hub-Signature-256"
DELIVERY = "X-GitHub-Delivery"
EVENT = "X-GitHub-Event"
PREFIX = "sha256="
FORM = "application/x-www-form-urlencoded"


class GitHubSource(Source):
    """GitHub: HMAC-SHA256 over the body. The type is the event's name, with its action behind a
    dot: `pull_request.opened`.

    Only the body is signed: the delivery's id, by which duplicates are known, and the event's name
    are not. There is no time either. GitHub sends each delivery once; a lost one is sent again by
    hand. https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """

    secret_variable: ClassVar[str] = "GITHUB_WEBHOOK_SECRETS"  # noqa: S105 - a variable's name
    kept_headers: ClassVar[tuple[str, ...]] = (*Source.kept_headers, DELIVERY, EVENT)

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        signature = read_header(headers, SIGNATURE)
        if not signature.startswith(PREFIX):
            raise MissingSignature(f"the {SIGNATURE} header must start with {PREFIX}")
        given = as_bytes(signature.removeprefix(PREFIX))
        secret = matching(self.secrets, lambda each: signed(each.encode(), body, "sha256", [given]))
        return self.label_of(secret)

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document = read_json_object(_payload(body, headers))
        name, action = _named(headers, EVENT), document.get("action")
        return [
            Envelope(
                event_id=_named(headers, DELIVERY),
                event_type=f"{name}.{action}"[:255] if is_name(action) else name,
                payload=document,
            )
        ]

    def ordering_key(self, envelope: Envelope) -> str:
        """The repository."""
        repository = envelope.payload.get("repository")
        name = repository.get("full_name") if isinstance(repository, dict) else None
        return str(name) if is_name(name) else ""


def _payload(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The JSON, which may be a field of a form."""
    if not headers.get("Content-Type", "").lower().startswith(FORM):
        return body
    values = read_form(body).get("payload", [])
    if len(values) != 1:
        raise MalformedBody("the form must have one payload")
    return values[0].encode()


def _named(headers: Mapping[str, str], header: str) -> str:
    value = headers.get(header, "")
    if not is_name(value):
        raise MalformedBody(f"the {header} header is missing, or no name")
    return value
