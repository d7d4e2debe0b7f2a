"""What Amazon SES wants to be told of a message. https://docs.aws.amazon.com/ses/latest/APIReference-V2"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from notifications.adapters.messages import (
    CALL_KEY,
    KEY_KEY,
    Attachment,
    BulkEmail,
    BulkRecipient,
    Email,
)
from notifications.adapters.mime import (
    NOTHING,
    ascii_formatted,
    ascii_header,
    build_message,
    mime_bytes,
)
from notifications.adapters.rendering import Spelling, Template, template_of
from notifications.placeholders import PLACEHOLDER
from outbound.adapters import CallContext

# https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Message.html
HEADERS = 15
ATTACHMENT_WORD = 78  # characters of a content type or id
# https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_MessageTag.html
TAG = re.compile(r"[A-Za-z0-9_.@-]{1,255}")
TAGS_NAME = "holdfast_tags"
METADATA_HEADER = "X-Metadata"
OPEN, CLOSE, BACKSLASH = "brace_open", "brace_close", "backslash"
LITERALS = {OPEN: "{", CLOSE: "}", BACKSLASH: "\\"}

Fields = dict[str, Any]


def fits_simple(payload: Email | BulkEmail) -> bool:
    """Whether SES can put the message together by itself; otherwise we do."""
    return len(headers_of(payload)) <= HEADERS and all(
        len(each.content_type) <= ATTACHMENT_WORD and len(each.content_id) <= ATTACHMENT_WORD
        for each in payload.attachments
    )


def headers_of(payload: Email | BulkEmail) -> list[Fields]:
    headers = {name: ascii_header(value) for name, value in payload.headers.items() if value}
    rest = {name: value for name, value in payload.metadata.items() if not TAG.fullmatch(value)}
    if rest:  # what no tag can hold
        headers[METADATA_HEADER] = json.dumps(rest)
    return [{"Name": name, "Value": value} for name, value in headers.items()]


def tags_of(payload: Email | BulkEmail, context: CallContext) -> list[Fields]:
    """What SES sends back with its events, where the configuration set asks for that."""
    tags = {CALL_KEY: context.call_id, KEY_KEY: context.idempotency_key, **payload.metadata}
    if payload.tags:
        tags[TAGS_NAME] = ".".join(payload.tags)
    return [{"Name": k, "Value": v} for k, v in tags.items() if TAG.fullmatch(v)]


def sender_of(payload: Email | BulkEmail) -> Fields:
    fields: Fields = {"FromEmailAddress": ascii_formatted(payload.sender)}
    if payload.reply_to:
        fields["ReplyToAddresses"] = [ascii_formatted(each) for each in payload.reply_to]
    return fields


def destination_of(email: Email) -> Fields:
    lists = {"ToAddresses": email.to, "CcAddresses": email.cc, "BccAddresses": email.bcc}
    return {k: [ascii_formatted(each) for each in people] for k, people in lists.items() if people}


def simple_content(email: Email, context: CallContext) -> Fields:
    """A message in its parts."""
    texts = {"Text": email.text, "Html": email.html}
    body = {name: _utf8(text) for name, text in texts.items() if text}
    content: Fields = {"Subject": _utf8(email.subject), "Body": body or {"Text": _utf8(NOTHING)}}
    return {"Simple": {**content, **_extras(email, context)}}


def raw_content(email: Email, context: CallContext) -> Fields:
    """A message as a whole, in MIME."""
    headers = {header["Name"]: header["Value"] for header in headers_of(email)}
    message = build_message(email.model_copy(update={"headers": headers}), context)
    return {"Raw": {"Data": base64.b64encode(mime_bytes(message, seven_bit=True)).decode()}}


def template_content(payload: BulkEmail, template: Template, context: CallContext) -> Fields:
    """An inline template, and what its literals stand for."""
    texts = {"Subject": template.subject, "Text": template.text, "Html": template.html}
    if not (template.text or template.html):
        texts["Text"] = NOTHING
    content: Fields = {
        "TemplateContent": {name: text for name, text in texts.items() if text},
        "TemplateData": json.dumps(LITERALS),
    }
    return {"Template": {**content, **_extras(payload, context)}}


def bulk_entry(recipient: BulkRecipient, template: Template) -> Fields:
    """What is a recipient's own."""
    data = json.dumps({**LITERALS, **template.values(recipient)})
    return {
        "Destination": {"ToAddresses": [ascii_formatted(recipient)]},
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data}},
    }


def handlebars(payload: BulkEmail) -> Template:
    """The message as a template. SES does not escape: our values are escaped where they must be.
    https://docs.aws.amazon.com/ses/latest/dg/send-personalized-email-advanced.html"""
    return template_of(payload, lambda variable: f"{{{{{variable}}}}}", write=_write)


def _write(text: str, spelling: Spelling) -> str:
    """Braces of the text's own, and a backslash before a placeholder, mean something in a template
    that they did not mean here."""
    pieces: list[str] = []
    end = 0
    for found in PLACEHOLDER.finditer(text):
        pieces += [_literal(text[end : found.start()]), spelling(found[1])]
        end = found.end()
    return "".join([*pieces, _literal(text[end:])])


_MEANING_SOMETHING = re.compile(r"\{{2,}|\}{2,}|^\}+|[{\\]+$")


def _literal(text: str) -> str:
    return _MEANING_SOMETHING.sub(lambda found: "".join(map(_stand_in, found[0])), text)


def _stand_in(character: str) -> str:
    name = {"{": OPEN, "}": CLOSE, "\\": BACKSLASH}[character]
    return f"{{{{{name}}}}}"


def _extras(payload: Email | BulkEmail, context: CallContext) -> Fields:
    extras: Fields = {}
    if headers := headers_of(payload):
        extras["Headers"] = headers
    if payload.attachments:
        extras["Attachments"] = [_attachment(each, context) for each in payload.attachments]
    return extras


def _attachment(attachment: Attachment, context: CallContext) -> Fields:
    """https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Attachment.html"""
    fields: Fields = {
        "RawContent": base64.b64encode(context.read_blob(attachment.digest)).decode(),
        "ContentDisposition": "INLINE" if attachment.content_id else "ATTACHMENT",
        "FileName": attachment.name,
        "ContentTransferEncoding": "BASE64",
        "ContentType": attachment.content_type,
    }
    return {**fields, "ContentId": attachment.content_id} if attachment.content_id else fields


def _utf8(text: str) -> Fields:
    return {"Data": text, "Charset": "UTF-8"}
