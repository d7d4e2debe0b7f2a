"""Django's `EMAIL_BACKEND`, durable: what is sent with `send_mail` or an `EmailMessage` becomes a
message of ours, in the caller's transaction, and is sent by a worker.

https://docs.djangoproject.com/en/5.2/topics/email/#email-backends
"""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from email.message import Message as MimePart
from email.mime.base import MIMEBase
from typing import Any

import structlog
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from notifications.services import Attached, Message, send_email
from outbound.errors import CallRefused, FieldError, InvalidPayload

logger = structlog.get_logger(__name__)

BY_FIELD = frozenset({"from", "to", "cc", "reply-to"})
RFC822 = "message/rfc822"


class DurableEmailBackend(BaseEmailBackend):
    """Stores messages instead of sending them. What cannot be sent is refused here and now, with a
    ValueError that names the field (InvalidPayload); with `fail_silently` it is logged, and not
    counted. A database that is away is not silenced: nothing would be stored."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Returns how many messages were stored."""
        return sum(self._store(each) for each in email_messages if each.recipients())

    def _store(self, email: EmailMessage) -> bool:
        try:
            with transaction.atomic():
                store_email(email)
        except CallRefused as refusal:
            if not self.fail_silently:
                raise
            logger.warning("email_refused", error=type(refusal).__name__)
            return False
        return True


def store_email(email: EmailMessage) -> list[Message]:
    """What Django would have sent, as messages of ours. One; or where nobody is in `to`, one for
    each who gets a blind copy, for providers want somebody to address. Raises InvalidPayload,
    NoProvider."""
    asked = {
        "subject": str(email.subject),
        "sender": _header(email, "From") or str(email.from_email),
        "reply_to": _reply_to(email),
        "headers": _other_headers(email),
        "tags": getattr(email, "tags", None) or (),
        "metadata": getattr(email, "metadata", None),
        **_bodies(email),
    }
    to, cc, bcc = (_given(addresses) for addresses in (email.to, email.cc, email.bcc))
    if not to:
        to, cc = cc, []
    if to:
        return [send_email(to=to, cc=cc, bcc=bcc, **asked)]
    return [send_email(to=each, **asked) for each in bcc]


def _given(addresses: Sequence[Any]) -> list[str]:
    return [str(address) for address in addresses if address]


def _header(email: EmailMessage, wanted: str) -> str:
    found = (v for name, v in email.extra_headers.items() if name.lower() == wanted.lower())
    return str(next(found, ""))


def _reply_to(email: EmailMessage) -> list[str]:
    said = _header(email, "Reply-To")
    return [said] if said else _given(email.reply_to)


def _other_headers(email: EmailMessage) -> dict[str, str]:
    """Those without a field of their own. Raises InvalidPayload for a To or a Cc that shows others
    than get the message: no provider sends that."""
    for name in ("To", "Cc"):
        if _header(email, name):
            detail = f"{name} as a header of its own cannot be sent by a provider's API"
            raise InvalidPayload([FieldError("/headers", detail)])
    return {
        name: str(value)
        for name, value in email.extra_headers.items()
        if name.lower() not in BY_FIELD
    }


def _bodies(email: EmailMessage) -> dict[str, Any]:
    """Text, HTML, and files. An alternative that no provider knows (a calendar's, say) goes along
    as a file."""
    bodies = {"text": "", "html": ""}
    bodies["html" if email.content_subtype == "html" else "text"] = str(email.body)
    files: list[Attached] = []
    for content, mimetype in getattr(email, "alternatives", None) or ():
        if mimetype == "text/html" and not bodies["html"]:
            bodies["html"] = _text(content)
        elif mimetype == "text/plain" and not bodies["text"]:
            bodies["text"] = _text(content)
        else:
            files.append(_file(None, content, mimetype, place=len(files)))
    files += [
        _part(each, place=place) if isinstance(each, MIMEBase) else _file(*each, place=place)
        for place, each in enumerate(email.attachments, start=len(files))
    ]
    return {**bodies, "attachments": files}


def _text(content: Any) -> str:
    return content.decode() if isinstance(content, bytes) else str(content)


def _file(name: str | None, content: Any, mimetype: str | None, *, place: int) -> Attached:
    guessed = mimetypes.guess_type(name)[0] if name else None
    kind = mimetype or guessed or "application/octet-stream"
    if isinstance(content, str) and kind.startswith("text/"):
        kind = f"{kind.partition(';')[0]}; charset=utf-8"
    return Attached(name or _name(kind, place), _bytes(content), kind)


def _name(kind: str, place: int) -> str:
    """For what has none."""
    ending = ".eml" if kind == RFC822 else mimetypes.guess_extension(kind.partition(";")[0]) or ""
    return f"attachment-{place + 1}{ending}"


def _bytes(content: Any) -> bytes:
    if isinstance(content, EmailMessage):
        content = content.message()
    if isinstance(content, MimePart):
        return content.as_bytes()
    return content.encode() if isinstance(content, str) else bytes(content)


def _part(part: MIMEBase, *, place: int) -> Attached:
    """A MIME part that the caller has built. With a Content-ID it belongs to the HTML body."""
    kind, charset = part.get_content_type(), part.get_content_charset()
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else _inner(part)
    content_id = str(part.get("Content-ID", "")).strip().strip("<>")
    name = part.get_filename() or _name(kind, place)
    return Attached(name, content, f"{kind}; charset={charset}" if charset else kind, content_id)


def _inner(part: MIMEBase) -> bytes:
    """The content of a part that consists of parts: an attached message, say."""
    inner = part.get_payload()
    parts = inner if isinstance(inner, list) else [inner]
    return b"\n".join(_bytes(each) for each in parts)
