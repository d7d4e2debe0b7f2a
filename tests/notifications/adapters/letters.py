"""Messages for tests, with everything that is awkward in them."""

from __future__ import annotations

import email.policy
import hashlib
from dataclasses import dataclass, field
from email import message_from_bytes
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from typing import Any

from notifications.adapters.messages import CALL_KEY, KEY_KEY
from outbound.client import CallContext, Timeouts

CALL_ID = "0198c0de-0000-7000-8000-000000000001"
KEY = f"hf-{CALL_ID}"
MARKS = {CALL_KEY: CALL_ID, KEY_KEY: KEY}

PDF = b"%PDF-1.7\r\n\x00\xff\xfe bytes\n.\r\n..\nend"
CSV = "name;price\r\nDürüm;3,50 €\r\n".encode()
LATIN = "Dürüm;3,50\n".encode("latin-1")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
BLOBS = {hashlib.sha256(content).hexdigest(): content for content in (PDF, CSV, LATIN, PNG)}

SUBJECT = "Ihr Beleg № 6735 / danke 🧾"
TEXT = "Grüße,\n.\n..zwei Punkte\nund eine sehr " + "lange " * 200 + "Zeile\n"
HTML = "<p>Grüße &amp; <img src='cid:logo@shop'> 100 % {{ 1 + 1 }} $x</p>"


def attached(name: str, content_type: str, content: bytes, content_id: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "content_type": content_type,
        "digest": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "content_id": content_id,
    }


def letter(**changes: Any) -> dict[str, Any]:
    """One message with all that a message can have."""
    return {
        "sender": {"address": "shop@example.com", "name": "Köhler & Söhne, Inc."},
        "to": [
            {"address": "jo@example.org", "name": 'Jo "Süß" <Doe>'},
            {"address": "plain@example.org"},
        ],
        "cc": [{"address": "books@example.org", "name": "Books"}],
        "bcc": [{"address": "audit@example.org"}],
        "reply_to": [
            {"address": "help@example.com", "name": "Hilfe für Sie"},
            {"address": "desk@example.com"},
        ],
        "subject": SUBJECT,
        "text": TEXT,
        "html": HTML,
        "headers": {"X-Order": "6735", "List-Unsubscribe": "<https://example.com/u?x=1&y=2>"},
        "tags": ["receipt"],
        "metadata": {"order": "6735", "shop": "main"},
        "attachments": [
            attached("Beleg für Jo.pdf", "application/pdf", PDF),
            attached("list.csv", "text/csv", CSV),
            attached("logo.png", "image/png", PNG, "logo@shop"),
        ],
        **changes,
    }


def note(*addresses: str, **changes: Any) -> dict[str, Any]:
    """A plain message."""
    return {
        "sender": {"address": "shop@example.com"},
        "to": [{"address": address} for address in addresses],
        "subject": "Your receipt",
        "text": "Thank you.",
        **changes,
    }


def circular(*addresses: str, **changes: Any) -> dict[str, Any]:
    """A plain message to each."""
    recipients = [{"address": a, "variables": {"name": a.partition("@")[0]}} for a in addresses]
    return {
        "sender": {"address": "shop@example.com"},
        "recipients": recipients,
        "subject": "For {{ name }}",
        "text": "Dear {{name}}, thank you.",
        **changes,
    }


@dataclass
class Delivered:
    """A message as somebody gets it. Addresses are pairs of a name and an address."""

    sender: tuple[str, str]
    to: list[tuple[str, str]]
    subject: str
    text: str = ""
    html: str = ""
    cc: list[tuple[str, str]] = field(default_factory=list)
    bcc: list[tuple[str, str]] = field(default_factory=list)
    reply_to: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, str, bytes, str]] = field(default_factory=list)
    """Name, content type without parameters, content, content id."""
    marks: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def mailboxes(*texts: str) -> list[tuple[str, str]]:
    """What stands in address headers or fields."""
    found: list[tuple[str, str]] = []
    for text in texts:
        parsed: dict[str, Any] = {"defects": []}
        AddressHeader.parse(text, parsed)
        assert not parsed["defects"], parsed["defects"]
        found += [
            (address.display_name, address.addr_spec)
            for group in parsed["groups"]
            for address in group.addresses
        ]
    return found


def read_mime(raw: bytes) -> Delivered:
    """A message in MIME, read by Python's own parser."""
    message = message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    fields = {name: [str(value) for value in message.get_all(name, [])] for name in message}
    own = ("X-Order", "List-Unsubscribe")
    return Delivered(
        sender=mailboxes(*fields["From"])[0],
        to=mailboxes(*fields.get("To", [])),
        cc=mailboxes(*fields.get("Cc", [])),
        reply_to=mailboxes(*fields.get("Reply-To", [])),
        subject=str(message["Subject"]).lstrip(),  # folded before its first word
        text=text.get_content() if text else "",
        html=html.get_content() if html else "",
        headers={name: fields[name][0] for name in own if name in fields},
        files=[
            (
                part.get_filename() or "",
                part.get_content_type(),
                bytes(part.get_payload(decode=True) or b""),
                str(part["Content-ID"] or "").strip("<>"),
            )
            for part in message.iter_attachments()
        ],
        marks={
            key: str(message[name])
            for key, name in ((CALL_KEY, "X-Holdfast-Call"), (KEY_KEY, "X-Holdfast-Key"))
        },
    )


def context(timeouts: Timeouts | None = None) -> CallContext:
    return CallContext(CALL_ID, KEY, timeouts=timeouts or Timeouts(), read_blob=BLOBS.__getitem__)
