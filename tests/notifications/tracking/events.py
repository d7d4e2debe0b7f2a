"""Events as their providers document them, and how they reach a handler."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from notifications.tracking import mailgun, postmark, resend, sendgrid, ses, twilio
from outbound.ids import uuid7
from webhooks.envelopes import Envelope
from webhooks.handlers import Event

READERS = {
    "sendgrid": sendgrid, "mailgun": mailgun, "ses": ses, "postmark": postmark,
    "resend": resend, "twilio": twilio,
}  # fmt: skip
TO = "jo@example.com"
CALL = "0198c0de-0000-7000-8000-000000000001"
KEY = "hf-0198c0de-0000-7000-8000-000000000001"
MARKS = {"holdfast_call": CALL, "holdfast_key": KEY}
AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def event(event_type: str, payload: dict[str, Any], *, occurred_at: datetime | None = AT) -> Event:
    envelope = Envelope("e1", event_type, copy.deepcopy(payload), occurred_at=occurred_at)
    return Event(id=uuid7(), source="tried", received_at=AT, envelope=envelope)


def sendgrid_event(kind: str, **members: Any) -> Event:
    return event(
        kind,
        {
            "email": TO,
            "timestamp": 1_700_000_000,
            "event": kind,
            "sg_event_id": "e1",
            "sg_message_id": "14c5d75ce93.filter0001.16648.5515E0B88.0",
            **MARKS,
            **members,
        },
    )


def mailgun_event(kind: str, **members: Any) -> Event:
    said = {
        "event": kind,
        "id": "e1",
        "timestamp": 1521472262.908181,
        "recipient": TO,
        "message": {"headers": {"message-id": "20130503182626.18666.16540@example.com"}},
        "user-variables": MARKS,
        **members,
    }
    return event(kind, {"signature": {}, "event-data": said})


def ses_event(
    kind: str, *, form: str = "eventType", to: list[str] | None = None, **members: Any
) -> Event:
    mail = {
        "messageId": "EXAMPLE7c191be45",
        "timestamp": "2026-11-24T12:00:00.000Z",
        "destination": [TO] if to is None else to,
        "tags": {"ses:configuration-set": ["c"], **{k: [v] for k, v in MARKS.items()}},
    }
    message = {form: kind, "mail": mail, **members}
    return event(f"ses.{kind.lower()}", {"Type": "Notification", "message": message})


def postmark_event(kind: str, **members: Any) -> Event:
    who = "Email" if kind in ("Bounce", "SpamComplaint") else "Recipient"
    said = {"RecordType": kind, "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483", who: TO}
    return event(kind, said | {"Metadata": MARKS} | members)


def resend_event(kind: str, *, to: list[str] | None = None, **members: Any) -> Event:
    said = {
        "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
        "to": [TO] if to is None else to,
        "tags": MARKS,
        **members,
    }
    return event(kind, {"type": kind, "created_at": "2026-11-24T12:00:00.126Z", "data": said})


def twilio_event(status: str, **members: Any) -> Event:
    said = {
        "MessageSid": "SM1",
        "MessageStatus": status,
        "To": "+15005550006",
        "From": "+15005550001",
        "AccountSid": "AC1",
        "query": MARKS,
        **members,
    }
    return event(f"message.{status}", said, occurred_at=None)
