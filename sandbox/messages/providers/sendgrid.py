"""SendGrid, Mail Send v3. https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from sandbox.fields import Fields
from sandbox.ids import random_text
from sandbox.messages.addresses import is_address, mailbox
from sandbox.messages.attachments import described, read_base64
from sandbox.messages.provider import (
    Ask,
    MessageProvider,
    Taken,
    answer,
    bearer,
    demand,
    read_json,
    strings,
)
from sandbox.messages.refused import Complaint, Refused
from sandbox.records import Message
from sandbox.wire import Answer

PATH = "/v3/mail/send"
KEY = re.compile(r"SG\.[A-Za-z0-9_.-]+")
PERSONALIZATIONS = 1000
RECIPIENTS = 1000
BYTES = 30 * 1024 * 1024
HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html"
# https://www.twilio.com/docs/sendgrid/api-reference/mail-send/errors#headers-errors
_OWN = """
    bcc cc content-transfer-encoding content-type dkim-signature from received reply-to subject to
    x-sg-eid x-sg-id
"""
OWN_HEADERS = frozenset(_OWN.split())
# Taken, and without a consequence here.
UNUSED = ("send_at", "batch_id", "asm", "ip_pool_name", "mail_settings", "tracking_settings")


class SendGrid(MessageProvider):
    """Takes a request whole or not at all: one bad address refuses all of it."""

    name: ClassVar[str] = "sendgrid"

    def take(self, ask: Ask) -> Taken:
        self._demand_key(ask)
        if ask.path != PATH:
            raise Refused(404, "Not Found")
        if ask.request.method != "POST":
            raise Refused(405, "Method Not Allowed")
        if len(ask.request.body) > BYTES:
            raise Refused(413, "The JSON payload you have included in your request is too large.")
        document = read_json(ask.request)
        if self.conditions.out_of_quota:
            raise Refused(401, "Maximum credits exceeded")
        messages = self._read(Fields(document))
        id = random_text(22)  # noqa: A001  # their word
        for message in messages:
            message.object = id
        return Taken(Answer(202, b"", (("X-Message-Id", id),), "text/plain"), messages)

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        errors = [
            {
                "message": each.message,
                "field": each.field or None,
                "help": f"{HELP}#message.{re.sub(r'[.][0-9]+', '', each.field)}"
                if each.field
                else None,
            }
            for each in refused.complaints
        ]
        return answer(refused.status, {"errors": errors}).with_headers(refused.headers)

    def _demand_key(self, ask: Ask) -> None:
        key = bearer(ask.request)
        refused = Refused(401, "The provided authorization grant is invalid, expired, or revoked")
        if not KEY.fullmatch(key):
            raise refused
        demand(self.conditions, key, refused)

    def _read(self, fields: Fields) -> list[Message]:
        whole = self._read_whole(fields)
        personalizations = fields.items("personalizations")
        if not personalizations:
            raise _wrong("The personalizations field is required and must have at least one "
                         "personalization.", "personalizations")  # fmt: skip
        if len(personalizations) > PERSONALIZATIONS:
            raise _wrong(f"There must be no more than {PERSONALIZATIONS} personalizations.",
                         "personalizations")  # fmt: skip
        for name in UNUSED:
            fields.any(name)
        fields.end()
        found: list[Message] = []
        complaints: list[Complaint] = []
        for place, each in enumerate(personalizations):
            where = f"personalizations.{place}"
            mine = Fields(each, where=where)
            complaints += self._wrong_recipients(each, where)
            found += [] if complaints else self._personal(mine, whole, where)
        if complaints:
            raise Refused(400, complaints=complaints)
        if len(found) > RECIPIENTS:
            raise _wrong(f"There must be no more than {RECIPIENTS} recipients.", "personalizations")
        return found

    def _read_whole(self, fields: Fields) -> Message:
        """What all have, as a message without a recipient."""
        fields.require("from")
        sender = _mailbox(fields.any("from"), "from")
        reply_to = [fields.any("reply_to")] if "reply_to" in fields else []
        reply_to += fields.items("reply_to_list") or []
        whole = Message(
            provider=self.name,
            kind=self.kind,
            object="",
            recipient="",
            sender=sender,
            reply_to=[_mailbox(each, "reply_to") for each in reply_to],
            subject=fields.text("subject", ""),
            headers=_headers(fields, "headers"),
            attachments=list(_attachments(fields)),
            tags=_categories(fields),
            metadata=strings(fields, "custom_args"),
        )
        if fields.text("template_id", "") == "":
            whole.text, whole.html = _content(fields)
        return whole

    def _wrong_recipients(self, personalization: Any, where: str) -> Iterator[Complaint]:
        """All of them, as SendGrid lists them."""
        addresses = []
        for kind in ("to", "cc", "bcc"):
            members = personalization.get(kind) or [] if isinstance(personalization, dict) else []
            for place, member in enumerate(members):
                address = member.get("email") if isinstance(member, dict) else None
                addresses.append(str(address).lower())
                if not is_address(address) or self.conditions.refuses(str(address)):
                    yield Complaint(
                        "Does not contain a valid address.", field=f"{where}.{kind}.{place}.email"
                    )
        if any(number > 1 for number in Counter(addresses).values()):
            yield Complaint(
                "Each email address in the personalization block should be unique between to, cc, "
                "and bcc. We found the first duplicate instance in this block.", field=where,
            )  # fmt: skip

    def _personal(self, fields: Fields, whole: Message, where: str) -> Iterator[Message]:
        to, cc, bcc = (_mailboxes(fields, kind, where) for kind in ("to", "cc", "bcc"))
        if not to:
            raise _wrong("The to array is required for all personalization objects, and must have "
                         "at least one email object with a valid email address.",
                         f"{where}.to")  # fmt: skip
        subject = fields.text("subject", "") or whole.subject
        if not subject:
            raise _wrong("The subject is required. You can get around this requirement if you use "
                         "a template with a subject defined or if every personalization has a "
                         "subject defined.", "subject")  # fmt: skip
        words = strings(fields, "substitutions")
        message = replace(
            whole,
            to=[mailbox(name, address) for name, address in to],
            cc=[mailbox(name, address) for name, address in cc],
            subject=_filled(subject, words),
            text=_filled(whole.text, words),
            html=_filled(whole.html, words),
            headers=whole.headers | _headers(fields, f"{where}.headers"),
            metadata=whole.metadata | strings(fields, "custom_args"),
        )
        for name in ("from", "send_at", "dynamic_template_data"):
            fields.any(name)
        fields.end()
        for _, address in (*to, *cc, *bcc):
            outcome = "dropped" if self.conditions.has_lost(address) else "done"
            yield replace(message, recipient=address, outcome=outcome)


def _wrong(message: str, field: str) -> Refused:
    return Refused(400, message, field=field)


def _filled(text: str, words: dict[str, str]) -> str:
    for tag, value in words.items():
        text = text.replace(tag, value)
    return text


def _mailbox(member: object, where: str) -> str:
    fields = Fields(member, where=where)
    address, name = fields.text("email", ""), fields.text("name", "")
    fields.end()
    if not is_address(address):
        raise _wrong("Does not contain a valid address.", f"{where}.email")
    return mailbox(name, address)


def _mailboxes(fields: Fields, kind: str, where: str) -> list[tuple[str, str]]:
    found = []
    for member in fields.items(kind) or []:
        each = Fields(member, where=f"{where}.{kind}")
        found.append((each.text("name", ""), each.text("email", "")))
        each.end()
    return found


def _headers(fields: Fields, where: str) -> dict[str, str]:
    found = fields.string_map("headers")
    for name in found:
        if name.lower() in OWN_HEADERS or not name.isascii():
            raise _wrong(f"The {name} header is reserved or not ASCII.", where)
    return found


def _categories(fields: Fields) -> list[str]:
    found = list(fields.texts("categories") or ())
    if len(found) > 10 or len(set(found)) < len(found) or any(len(each) > 255 for each in found):
        raise _wrong("There must be at most 10 different categories of 255 characters.",
                     "categories")  # fmt: skip
    return found


def _content(fields: Fields) -> tuple[str, str]:
    """Text and HTML."""
    members = fields.items("content")
    if not members:
        raise _wrong("Unless a valid template_id is provided, the content parameter is required. "
                     "There must be at least one defined content block.", "content")  # fmt: skip
    found: dict[str, str] = {}
    for place, member in enumerate(members):
        each = Fields(member, where=f"content.{place}")
        kind, value = each.text("type", ""), each.text("value", "")
        each.end()
        if not kind or not value:
            raise _wrong("The content value must be a string at least one character in length.",
                         f"content.{place}.value")  # fmt: skip
        if kind == "text/plain" and found:
            raise _wrong("If present, text/plain must be the first content.", "content")
        found[kind] = value
    return found.get("text/plain", ""), found.get("text/html", "")


def _attachments(fields: Fields) -> Iterator[dict[str, Any]]:
    for place, member in enumerate(fields.items("attachments") or []):
        where = f"attachments.{place}"
        each = Fields(member, where=where)
        content = read_base64(each.any("content"))
        name, kind = each.text("filename", ""), each.text("type", "application/octet-stream")
        each.text("disposition", "attachment", choices=("attachment", "inline"))
        content_id = each.text("content_id", "")
        each.end()
        if not content:
            raise _wrong("The attachment content must be base64 encoded.", f"{where}.content")
        if not name or ";" in name or any(sign < " " for sign in name + kind + content_id):
            raise _wrong("The attachment filename must be given, without ';' and CRLF.",
                         f"{where}.filename")  # fmt: skip
        if ";" in kind:
            raise _wrong("The attachment type cannot contain ';', or CRLF characters.",
                         f"{where}.type")  # fmt: skip
        yield described(name, kind, content, content_id=content_id)
