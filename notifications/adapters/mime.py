"""An email as Django knows it, made of ours."""

from __future__ import annotations

import hashlib
from email.encoders import encode_base64, encode_quopri
from email.header import Header
from email.headerregistry import Address
from email.mime.base import MIMEBase
from typing import Any, TypeVar

from django.core.mail import EmailMultiAlternatives

from notifications.adapters.messages import Attachment, BulkRecipient, Email, Mailbox
from outbound.adapters import CallContext

NOTHING = " "  # the body of a message that is an attachment and no more: few take an empty one
CALL_HEADER = "X-Holdfast-Call"
KEY_HEADER = "X-Holdfast-Key"

Message = TypeVar("Message", bound=EmailMultiAlternatives)


def formatted(mailbox: Mailbox | BulkRecipient) -> str:
    """Name and address in one line, quoted where need be, in Unicode."""
    return str(Address(display_name=mailbox.name, addr_spec=mailbox.address))


def addr_spec(mailbox: Mailbox | BulkRecipient) -> str:
    """The address alone, as who parses `formatted` reads it."""
    return Address(addr_spec=mailbox.address).addr_spec


def ascii_formatted(mailbox: Mailbox | BulkRecipient) -> str:
    """The same as it stands in a header: with encoded words."""
    if mailbox.name.isascii():
        return formatted(mailbox)
    return f"{ascii_header(mailbox.name)} <{mailbox.address}>"


def ascii_header(text: str) -> str:
    """A header's value in printable ASCII, with encoded words where it is none."""
    return text if text.isascii() else Header(text, "utf-8").encode(linesep="")


def parts(email: Email) -> dict[str, Any]:
    """What the constructor of an EmailMessage wants of it, headers and attachments excepted."""
    return {
        "subject": email.subject,
        "body": email.text or email.html or NOTHING,
        "from_email": formatted(email.sender),
        "to": [formatted(mailbox) for mailbox in email.to],
        "cc": [formatted(mailbox) for mailbox in email.cc],
        "bcc": [formatted(mailbox) for mailbox in email.bcc],
        "reply_to": [formatted(mailbox) for mailbox in email.reply_to],
    }


def filled(message: Message, email: Email, context: CallContext) -> Message:
    """The message with its HTML and its attachments."""
    if email.html and email.text:
        message.attach_alternative(email.html, "text/html")
    elif email.html:
        message.content_subtype = "html"
    for attachment in email.attachments:
        message.attach(mime_part(attachment, context.read_blob(attachment.digest)))
    return message


def build_message(email: Email, context: CallContext) -> EmailMultiAlternatives:
    """The whole of it, ready for a mail server, with our marks and an id that stays the same."""
    headers = {
        **email.headers,
        "Message-ID": message_id_of(email, context),
        CALL_HEADER: context.call_id,
        KEY_HEADER: context.idempotency_key,
    }
    return filled(EmailMultiAlternatives(**parts(email), headers=headers), email, context)


def message_id_of(email: Email, context: CallContext) -> str:
    """The same for each attempt with a key: a mail server that gets it twice may notice."""
    seed = "\n".join((context.idempotency_key, *(mailbox.address for mailbox in email.to)))
    unique = hashlib.sha256(seed.encode()).hexdigest()[:16]
    return f"<{context.call_id}.{unique}@{email.sender.address.rpartition('@')[2]}>"


def mime_bytes(message: EmailMultiAlternatives, *, seven_bit: bool = False) -> bytes:
    """The whole of it as it goes over the wire."""
    mime: Any = message.message()
    for part in mime.walk() if seven_bit else ():
        if part["Content-Transfer-Encoding"] == "8bit":
            del part["Content-Transfer-Encoding"]
            encode_quopri(part)
    content: bytes = mime.as_bytes(linesep="\r\n")
    return content


def mime_part(attachment: Attachment, content: bytes) -> MIMEBase:
    """The file as it is, byte for byte: Django's own way decodes text and guesses its charset."""
    content_type, *parameters = (word.strip() for word in attachment.content_type.split(";"))
    maintype, _, subtype = content_type.partition("/")
    if content_type.startswith(("message/", "multipart/")):
        maintype, subtype, parameters = "application", "octet-stream", []  # may not be in base64
    options: dict[str, Any] = dict(word.split("=", 1) for word in parameters)
    if maintype == "text" and not _decodes(content, options.get("charset", "utf-8")):
        options["charset"] = "iso-8859-1"  # any bytes are; and a reader goes by what it is told
    part = MIMEBase(maintype, subtype, **options)
    part.set_payload(content)
    encode_base64(part)
    disposition = "inline" if attachment.content_id else "attachment"
    name = attachment.name
    filename = name if name.isascii() else ("utf-8", "", name)
    part.add_header("Content-Disposition", disposition, filename=filename)
    if attachment.content_id:
        part.add_header("Content-ID", f"<{attachment.content_id}>")
    return part


def _decodes(content: bytes, charset: str) -> bool:
    try:
        content.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return False
    return True
