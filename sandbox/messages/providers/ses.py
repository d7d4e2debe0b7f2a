"""Amazon SES, API v2. https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

from sandbox.fields import BadInput, Fields
from sandbox.ids import random_text
from sandbox.messages.addresses import is_address, mailbox, read_mailboxes
from sandbox.messages.attachments import described, read_base64
from sandbox.messages.aws import demand_signature
from sandbox.messages.mime import read_message
from sandbox.messages.provider import Ask, MessageProvider, Taken, answer, read_json
from sandbox.messages.refused import Refused
from sandbox.records import Message
from sandbox.wire import Answer

ONE, BULK = "/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails"
RECIPIENTS, HEADERS = 50, 15
TAG = re.compile(r"[A-Za-z0-9_.@-]{1,256}")
VARIABLE = re.compile(r"\{\{\{?\s*([A-Za-z0-9_.-]+)\s*\}?\}\}")
QUOTA = "Daily message quota exceeded."
KINDS = ("To", "Cc", "Bcc")
# The names of exceptions. https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html
BAD, REJECTED, THROTTLED = "BadRequestException", "MessageRejected", "TooManyRequestsException"
_NAMES = {404: "NotFoundException", 413: "RequestEntityTooLarge", 415: BAD, 429: THROTTLED}

People = dict[str, list[tuple[str, str]]]
Json = dict[str, Any]


class Ses(MessageProvider):
    """Signatures are compared where `credentials` says which are good: `ACCESS_KEY:SECRET`."""

    name: ClassVar[str] = "ses"

    def take(self, ask: Ask) -> Taken:
        demand_signature(ask.request, credentials=self.conditions.credentials, now=ask.now)
        if ask.path not in (ONE, BULK):
            raise Refused(404, "Not found", code="UnknownOperationException")
        if ask.request.method != "POST":
            raise Refused(405, "Method not allowed", code="UnknownOperationException")
        fields = Fields(read_json(ask.request))
        if ask.path == ONE:
            if self.conditions.out_of_quota:
                raise Refused(429, QUOTA, code=THROTTLED)
            messages = self._read_one(fields)
            return Taken(answer(200, {"MessageId": messages[0].object}), messages)
        return self._take_bulk(fields)

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        name = str(refused.first.code or _NAMES.get(refused.status, ""))
        name = name or (BAD if refused.status < 500 else "InternalFailure")
        headers = {"x-amzn-ErrorType": name, "x-amzn-RequestId": str(uuid4())}
        said = answer(refused.status, {"message": str(refused)})
        return said.with_headers({**headers, **refused.headers})

    def misshapen(self, error: BadInput) -> Refused:
        return _wrong(str(error))

    def _read_one(self, fields: Fields) -> list[Message]:
        fields.require("Content")
        content = fields.fields("Content")
        if "Raw" in content:
            raw = content.fields("Raw")
            octets = read_base64(raw.any("Data"))
            raw.end()
            if octets is None:
                raise _wrong("Raw.Data must be base64")
            whole = read_message(octets, provider=self.name)
        else:
            content.require("Simple")
            whole = self._simple(content.fields("Simple"))
        content.end()
        self._complete(whole, fields, tags="EmailTags")
        people = self._people(fields.fields("Destination"))
        for name in ("FeedbackForwardingEmailAddress", "ListManagementOptions"):
            fields.any(name)
        fields.end()
        if not any(people.values()):
            raise _wrong("Missing destination address")
        whole.object = _new_id()
        if not whole.to:
            _address(whole, people)
        return [self._to(whole, address) for some in people.values() for _, address in some]

    def _simple(self, fields: Fields) -> Message:
        fields.require("Subject")
        body = fields.fields("Body")
        whole = Message(provider=self.name, kind=self.kind, object="", recipient="")
        whole.subject = _utf8(fields, "Subject")
        whole.text, whole.html = _utf8(body, "Text"), _utf8(body, "Html")
        body.end()
        if not whole.text and not whole.html:
            raise _wrong("Body must have Text or Html")
        whole.headers = _headers(fields, "Headers")
        whole.attachments = list(_attachments(fields))
        fields.end()
        return whole

    def _complete(self, whole: Message, fields: Fields, *, tags: str) -> None:
        """What stands beside the content."""
        sender = fields.text("FromEmailAddress", "") or whole.sender
        if not all(is_address(each[1]) for each in read_mailboxes(sender) or [("", "")]):
            raise _wrong("Missing or illegal address in FromEmailAddress")
        whole.sender = sender
        whole.reply_to = list(fields.texts("ReplyToAddresses") or whole.reply_to)
        whole.account = fields.text("ConfigurationSetName", "")
        whole.metadata = whole.metadata | _tags(fields, tags)

    def _take_bulk(self, fields: Fields) -> Taken:
        default = fields.fields("DefaultContent")
        template = default.fields("Template")
        default.end()
        whole, values = self._template(template)
        self._complete(whole, fields, tags="DefaultEmailTags")
        entries = fields.items("BulkEmailEntries") or []
        for name in ("FeedbackForwardingEmailAddress", "DefaultContentArn"):
            fields.any(name)
        fields.end()
        if not 1 <= len(entries) <= RECIPIENTS:
            raise _wrong(f"BulkEmailEntries must have 1 to {RECIPIENTS} members")
        results, taken = [], []
        for entry in entries:
            try:
                messages = self._entry(Fields(entry, where="the entry"), whole, values)
            except (Refused, BadInput) as error:
                status = str(error.first.code) if isinstance(error, Refused) else ""
                known = status if status.isupper() else "INVALID_PARAMETER"
                results.append({"Status": known, "Error": str(error)})
            else:
                results.append({"Status": "SUCCESS", "MessageId": messages[0].object})
                taken += messages
        return Taken(answer(200, {"BulkEmailEntryResults": results}), taken)

    def _template(self, fields: Fields) -> tuple[Message, dict[str, str]]:
        """A message with its variables, and the values that hold where an entry has none."""
        content = fields.fields("TemplateContent")
        whole = Message(provider=self.name, kind=self.kind, object="", recipient="")
        whole.subject = content.text("Subject", "")
        whole.text, whole.html = content.text("Text", ""), content.text("Html", "")
        content.end()
        if not whole.subject or not (whole.text or whole.html):
            raise _wrong("TemplateContent must have Subject, and Text or Html")
        whole.headers = _headers(fields, "Headers")
        whole.attachments = list(_attachments(fields))
        values = _values(fields.text("TemplateData", "{}"))
        fields.end()
        return whole, values

    def _entry(self, fields: Fields, whole: Message, values: dict[str, str]) -> list[Message]:
        if self.conditions.out_of_quota:
            raise Refused(429, QUOTA, code="ACCOUNT_DAILY_QUOTA_EXCEEDED")
        people = self._people(fields.fields("Destination"))
        tags, headers = _tags(fields, "ReplacementTags"), _headers(fields, "ReplacementHeaders")
        content = fields.fields("ReplacementEmailContent")
        replacement = content.fields("ReplacementTemplate")
        own = values | _values(replacement.text("ReplacementTemplateData", "{}"))
        for each in (replacement, content, fields):
            each.end()
        missing: set[str] = set()

        def filled(text: str) -> str:
            missing.update(name for name in VARIABLE.findall(text) if name not in own)
            return VARIABLE.sub(lambda found: own.get(found[1], found[0]), text)

        message = replace(
            whole,
            object=_new_id(),
            subject=filled(whole.subject),
            text=filled(whole.text),
            html=filled(whole.html),
            headers=whole.headers | headers,
            metadata=whole.metadata | tags,
        )
        _address(message, people)
        found = [self._to(message, address) for some in people.values() for _, address in some]
        if not found:
            raise _wrong("Missing destination address")
        for made in found:  # accepted, and given up when it is to be put together
            made.outcome = "unrendered" if missing else made.outcome
        return found

    def _people(self, fields: Fields) -> People:
        found: People = {}
        for kind in KINDS:
            texts = fields.texts(f"{kind}Addresses") or ()
            found[kind] = [person for text in texts for person in read_mailboxes(text)]
            if len(found[kind]) != len(texts):
                raise _wrong("Illegal address")
            for _, address in found[kind]:
                if not is_address(address) or self.conditions.refuses(address):
                    raise _wrong("Illegal address")
        fields.end()
        if sum(map(len, found.values())) > RECIPIENTS:
            raise Refused(400, f"Recipient count exceeds {RECIPIENTS}.", code=REJECTED)
        return found

    def _to(self, whole: Message, address: str) -> Message:
        outcome = "dropped" if self.conditions.has_lost(address) else "done"
        return replace(whole, recipient=address, outcome=outcome)


def _wrong(message: str) -> Refused:
    return Refused(400, message, code=BAD)


def _new_id() -> str:
    return f"0100{random_text(12).lower()}-{uuid4()}-000000"


def _address(message: Message, people: People) -> None:
    message.to = [mailbox(*person) for person in people["To"]]
    message.cc = [mailbox(*person) for person in people["Cc"]]


def _utf8(fields: Fields, name: str) -> str:
    part = fields.fields(name)
    found = part.text("Data", "")
    part.text("Charset", "UTF-8")
    part.end()
    return found


def _pairs(fields: Fields, name: str) -> Iterator[tuple[str, str]]:
    for member in fields.items(name) or []:
        each = Fields(member, where=name)
        yield each.text("Name", ""), each.text("Value", "")
        each.end()


def _headers(fields: Fields, name: str) -> dict[str, str]:
    found = dict(_pairs(fields, name))
    if len(found) > HEADERS:
        raise _wrong(f"{name} must have at most {HEADERS} members")
    return found


def _tags(fields: Fields, name: str) -> dict[str, str]:
    """https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_MessageTag.html"""
    found = dict(_pairs(fields, name))
    for pair in found.items():
        if not all(TAG.fullmatch(text) for text in pair):
            raise _wrong(f"Invalid characters in {name}: {pair[0]}")
    return found


def _values(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _wrong("The template's data is no JSON object")
    return {name: str(value) for name, value in found.items()}


def _attachments(fields: Fields) -> Iterator[Json]:
    """https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Attachment.html"""
    for member in fields.items("Attachments") or []:
        each = Fields(member, where="Attachments")
        content = read_base64(each.any("RawContent"))
        name, kind = each.text("FileName", ""), each.text("ContentType", "")
        content_id = each.text("ContentId", "")
        each.text("ContentDisposition", "ATTACHMENT", choices=("ATTACHMENT", "INLINE"))
        each.text("ContentTransferEncoding", "BASE64",
                  choices=("BASE64", "QUOTED_PRINTABLE", "SEVEN_BIT"))  # fmt: skip
        each.text("ContentDescription", "")
        each.end()
        if content is None or not name or len(kind) > 78 or len(content_id) > 78:
            raise _wrong("An attachment needs FileName and base64 RawContent")
        yield described(name, kind, content, content_id=content_id)
