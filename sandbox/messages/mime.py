"""Whole messages in MIME, as they come to SMTP and to Amazon SES."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from sandbox.messages.attachments import described
from sandbox.records import Message

CALL_HEADER, KEY_HEADER = "X-Holdfast-Call", "X-Holdfast-Key"
_FIELDS = ("from", "to", "cc", "reply-to", "subject", "content-type", "mime-version")


def read_message(octets: bytes, *, provider: str) -> Message:
    """The message without a recipient, who is on the envelope."""
    parsed = message_from_bytes(octets, policy=SMTP)
    found = Message(
        provider=provider,
        kind="email",
        object="",
        recipient="",
        sender=str(parsed.get("From", "")),
        to=_addresses(parsed, "To"),
        cc=_addresses(parsed, "Cc"),
        reply_to=_addresses(parsed, "Reply-To"),
        subject=str(parsed.get("Subject", "")),
        headers={n: str(v) for n, v in parsed.items() if n.lower() not in _FIELDS},
        text=_body(parsed, "plain"),
        html=_body(parsed, "html"),
        attachments=_attachments(parsed),
    )
    marks = {"holdfast_call": CALL_HEADER, "holdfast_key": KEY_HEADER}
    found.metadata = {key: str(parsed[name]) for key, name in marks.items() if name in parsed}
    return found


def _addresses(parsed: EmailMessage, name: str) -> list[str]:
    header = parsed.get(name)
    return [str(address) for address in header.addresses] if header is not None else []


def _body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    return str(part.get_content()).replace("\r\n", "\n") if part is not None else ""


def _attachments(parsed: EmailMessage) -> list[dict[str, Any]]:
    """All parts but the bodies: those that are shown in the HTML, too."""
    bodies = {id(parsed.get_body((kind,))) for kind in ("plain", "html")}
    return [
        described(
            part.get_filename() or "",
            part.get_content_type(),
            _content_of(part),
            content_id=str(part.get("Content-ID", "")),
        )
        for part in parsed.walk()
        if not part.is_multipart() and id(part) not in bodies
    ]


def _content_of(part: Any) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""
