"""What cannot be sent is refused at the caller: by name, with the field, and before any row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings

from notifications.models import Message, Recipient
from notifications.services import (
    Attached,
    send_bulk_email,
    send_email,
    send_push,
    send_sms,
)
from outbound.errors import InvalidPayload
from outbound.models import Blob, OutboundCall
from tests.notifications.conftest import Providers
from tests.notifications.scripted import SmallMail, entry

pytestmark = pytest.mark.django_db

SENDERS: dict[Any, dict[str, Any]] = {
    send_email: {"to": "ann@example.com", "subject": "Receipt", "text": "Thank you."},
    send_bulk_email: {
        "recipients": [{"address": "ann@example.com", "variables": {"name": "Ann"}}],
        "subject": "Hi {{name}}",
        "text": "Hi.",
    },
    send_sms: {"to": "+15005550006", "body": "Your code is 7."},
    send_push: {"tokens": "token-1", "title": "Hello"},
}
PAST = datetime(2020, 1, 1, tzinfo=UTC)
SOON = datetime.now(UTC) + timedelta(days=1)
BIG = [Attached("a.bin", b"x" * 600), Attached("b.bin", b"x" * 500)]
MANY = [{"address": f"p{n}@example.com"} for n in range(10_001)]

REFUSALS: list[tuple[Any, dict[str, Any], str]] = [
    (send_email, {"to": ""}, "/to/0/address"),
    (send_email, {"to": []}, "/to"),
    (send_email, {"to": "ann"}, "/to/0/address"),
    (send_email, {"to": "ann@"}, "/to/0/address"),
    (send_email, {"to": "Ann <ann@example.com>, bob@example.com"}, "/to/0/address"),
    (send_email, {"to": ["ann@example.com", "bób@example.com"]}, "/to/1/address"),
    (send_email, {"to": 5}, "/to"),
    (send_email, {"to": ["ann@example.com", 5]}, "/to/1"),
    (send_email, {"to": [("ann@example.com", "Ann\nBcc: x")]}, "/to/0/name"),
    (send_email, {"cc": [f"p{n}@example.com" for n in range(50)]}, ""),
    (send_email, {"sender": "nobody"}, "/sender/address"),
    (send_email, {"reply_to": "nobody"}, "/reply_to/0/address"),
    (send_email, {"subject": ""}, "/subject"),
    (send_email, {"subject": "a\nBcc: x@example.com"}, "/subject"),
    (send_email, {"subject": "a\u2028b"}, "/subject"),
    (send_email, {"text": "  "}, ""),
    (send_email, {"text": "\ud800"}, "/text"),
    (send_email, {"html": "\x00"}, "/html"),
    (send_email, {"text": 5}, "/text"),
    (send_email, {"headers": {"X-A": "1\r\nBcc: x@example.com"}}, "/headers"),
    (send_email, {"headers": {"X-A\r\nBcc": "x"}}, "/headers"),
    (send_email, {"headers": {"from": "x@example.com"}}, "/headers"),
    (send_email, {"headers": {"X-A": "1", "x-a": "2"}}, "/headers"),
    (send_email, {"tags": ["two words"]}, "/tags/0"),
    (send_email, {"tags": ["t"] * 6}, "/tags"),
    (send_email, {"metadata": {"holdfast_key": "x"}}, "/metadata"),
    (send_email, {"metadata": {"k": "x" * 81}}, "/metadata"),
    (send_email, {"attachments": BIG}, "/attachments"),
    (send_email, {"attachments": ["invoice.pdf"]}, "/attachments/0"),
    (send_email, {"attachments": [Attached("", b"x")]}, "/attachments/0/name"),
    (send_email, {"attachments": [Attached("a", b"x", "nonsense")]}, "/attachments/0/content_type"),
    (send_email, {"attachments": [Attached("a", b"x", "bïld/png")]}, "/attachments/0/content_type"),
    (send_email, {"route": []}, "/route"),
    (send_email, {"route": ["frist"]}, "/route"),
    (send_email, {"route": ["first", "first"]}, "/route"),
    (send_email, {"priority": 10}, "/priority"),
    (send_email, {"priority": True}, "/priority"),
    (send_email, {"scheduled_at": datetime(2030, 1, 1)}, "/scheduled_at"),  # noqa: DTZ001
    (send_email, {"scheduled_at": "tomorrow"}, "/scheduled_at"),
    (send_email, {"expires_at": PAST}, "/expires_at"),
    (send_email, {"scheduled_at": SOON, "expires_at": SOON}, "/expires_at"),
    (send_email, {"reference": "x" * 256}, "/reference"),
    (send_email, {"idempotency_key": "two words"}, "/idempotency_key"),
    (send_bulk_email, {"recipients": []}, "/recipients"),
    (send_bulk_email, {"recipients": MANY}, "/recipients"),
    (send_bulk_email, {"text": "{{ surname }}"}, "/recipients/0/variables/surname"),
    (send_bulk_email, {"html": "{{#if name}}"}, "/html"),
    (send_bulk_email, {"subject": "{{Name}}"}, "/subject"),
    (send_bulk_email, {"variables": {"name": 5}}, "/variables/name"),
    (send_sms, {"to": "005005550006"}, "/to"),
    (send_sms, {"to": ["+15005550006", "+1500 555 0006"]}, "/to"),
    (send_sms, {"to": []}, "/to"),
    (send_sms, {"body": ""}, "/body"),
    (send_sms, {"body": "x" * 1601}, "/body"),
    (send_sms, {"sender": "a name too long"}, "/sender"),
    (send_push, {"tokens": "a token"}, "/token"),
    (send_push, {"tokens": []}, "/token"),
    (send_push, {"title": " "}, ""),
    (send_push, {"ttl_seconds": -1}, "/ttl_seconds"),
]


@pytest.mark.parametrize("send,changes,pointer", REFUSALS)
def test_refused(
    providers: Providers, settings: LazySettings, send: Any, changes: dict[str, Any], pointer: str
) -> None:
    """With the field, and nothing is stored."""
    settings.EMAIL_MAX_ATTACHMENT_BYTES = 1000
    with pytest.raises(InvalidPayload) as caught:
        send(**{**SENDERS[send], **changes})
    assert caught.value.errors[0].pointer == pointer
    assert [m.objects.count() for m in (Message, Recipient, OutboundCall, Blob)] == [0, 0, 0, 0]


def test_larger_than_any_provider_takes(providers: Providers, settings: LazySettings) -> None:
    """Said with the size, by the route's providers."""
    settings.OUTBOUND_ADAPTERS = {"small": entry(providers.first, SmallMail)}
    with pytest.raises(InvalidPayload, match="none of small takes more than 2000"):
        send_email(**SENDERS[send_email], attachments=[Attached("a", b"x" * 2000)], route=["small"])
    assert not Message.objects.exists()
