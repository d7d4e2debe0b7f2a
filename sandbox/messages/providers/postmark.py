"""Postmark's email API. https://postmarkapp.com/developer/api/email-api"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

from sandbox.fields import BadInput, Fields
from sandbox.messages.addresses import is_address, mailbox, read_mailboxes
from sandbox.messages.attachments import described, read_base64
from sandbox.messages.provider import Ask, MessageProvider, Taken, answer, demand, read_json
from sandbox.messages.refused import Refused
from sandbox.messages.tracking.telling import as_iso
from sandbox.records import Message
from sandbox.wire import Answer

ONE, BATCH = "/email", "/email/batch"
TOKEN = re.compile(r"[A-Za-z0-9_-]{6,100}")
RECIPIENTS, MESSAGES = 50, 500
BYTES = 10 * 1024 * 1024
# https://postmarkapp.com/developer/api/overview#error-codes
BAD_TOKEN, INVALID, NO_CREDITS, INACTIVE, BAD_JSON, TOO_MANY, STREAM = (
    10,
    300,
    405,
    406,
    402,
    410,
    1235,
)
WHY_INACTIVE = (
    "Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual "
    "suppression."
)
Json = dict[str, Any]


class Postmark(MessageProvider):
    """Knows who has bounced before, and says so. Of a batch each message has an answer."""

    name: ClassVar[str] = "postmark"

    def take(self, ask: Ask) -> Taken:
        token = ask.request.headers.get("x-postmark-server-token", "")
        refused = Refused(
            401,
            "No Account or Server API tokens were supplied in the HTTP headers. Please add a header"
            " for either X-Postmark-Server-Token or X-Postmark-Account-Token.",
            code=BAD_TOKEN,
        )
        if not TOKEN.fullmatch(token):
            raise refused
        demand(self.conditions, token, refused)
        if ask.path not in (ONE, BATCH):
            raise Refused(404, "The requested resource does not exist.")
        if ask.request.method != "POST":
            raise Refused(405, "Method not allowed.")
        document = read_json(ask.request)
        if self.conditions.out_of_quota:
            raise _wrong("Not allowed to send: you ran out of credits.", NO_CREDITS)
        if ask.path == ONE:
            messages = self._read(document, size=len(ask.request.body))
            return Taken(answer(200, self._answered(messages, ask.now)), _sent(messages))
        return self._take_batch(document, ask)

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        said = {"ErrorCode": refused.first.code or 0, "Message": str(refused)}
        return answer(refused.status, said).with_headers(refused.headers)

    def misshapen(self, error: BadInput) -> Refused:
        return _wrong(str(error), BAD_JSON)

    def _take_batch(self, document: Any, ask: Ask) -> Taken:
        if not isinstance(document, list):
            raise BadInput("the body must be a list of messages")
        if len(document) > MESSAGES:
            raise _wrong(f"Too many batch messages: at most {MESSAGES}.", TOO_MANY)
        answers, taken = [], []
        for each in document:
            try:
                messages = self._read(each, size=0)
                answers.append(self._answered(messages, ask.now))
            except BadInput as error:
                answers.append({"ErrorCode": INVALID, "Message": str(error)})
            except Refused as refused:
                answers.append({"ErrorCode": refused.first.code, "Message": str(refused)})
            else:
                taken += _sent(messages)
        return Taken(answer(200, answers), taken)

    def _answered(self, messages: list[Message], now: float) -> Json:
        inactive = [message.recipient for message in messages if message.outcome == "dropped"]
        if len(inactive) == len(messages):
            raise _wrong(
                "You tried to send to recipient(s) that have been marked as inactive. Found "
                f"inactive addresses: {', '.join(inactive)}. {WHY_INACTIVE}",
                INACTIVE,
            )
        said = "OK"
        if inactive:
            listed = ", ".join(inactive)
            said = f"Message OK, but will not deliver to these inactive addresses: {listed}. "
            said += WHY_INACTIVE
        found: Json = {"To": ", ".join(messages[0].to)}
        if messages[0].cc:
            found["Cc"] = ", ".join(messages[0].cc)
        return found | {
            "SubmittedAt": as_iso(now, digits=6),
            "MessageID": messages[0].object,
            "ErrorCode": 0,
            "Message": said,
        }

    def _read(self, document: Any, *, size: int) -> list[Message]:
        """One message for each recipient; those who are inactive among them, as dropped."""
        fields = Fields(document, where="the message")
        sender = fields.text("From", "")
        if not is_address(dict(enumerate(read_mailboxes(sender))).get(0, ("", ""))[1]):
            raise _wrong(f"Invalid 'From' address: '{sender}'.", INVALID)
        people = {kind: self._people(fields, kind) for kind in ("To", "Cc", "Bcc")}
        everybody = [address for some in people.values() for _, address in some]
        if not everybody:
            raise _wrong("Zero recipients specified", INVALID)
        if len(everybody) > RECIPIENTS:
            raise _wrong(f"Too many recipients: at most {RECIPIENTS}.", INVALID)
        whole = Message(
            provider=self.name,
            kind=self.kind,
            object=str(uuid4()),
            recipient="",
            sender=sender,
            to=[mailbox(*person) for person in people["To"]],
            cc=[mailbox(*person) for person in people["Cc"]],
            reply_to=[text] if (text := fields.text("ReplyTo", "")) else [],
            subject=fields.text("Subject", ""),
            text=fields.text("TextBody", ""),
            html=fields.text("HtmlBody", ""),
            headers=_headers(fields),
            attachments=list(_attachments(fields)),
            tags=[tag] if (tag := fields.text("Tag", "")) else [],
            metadata=_metadata(fields),
            account=fields.text("MessageStream", "outbound"),
        )
        if not whole.text and not whole.html:
            raise _wrong("Provide either email TextBody or HtmlBody or both.", INVALID)
        if not re.fullmatch(r"[a-z0-9_-]{1,50}", whole.account):
            raise _wrong("The 'MessageStream' provided does not exist on this server.", STREAM)
        if size > BYTES:
            raise Refused(413, "Payload too large")
        for name in ("TrackOpens", "TrackLinks"):
            fields.any(name)
        fields.end()
        return [self._to(whole, address) for address in dict.fromkeys(everybody)]

    def _people(self, fields: Fields, kind: str) -> list[tuple[str, str]]:
        found = read_mailboxes(fields.text(kind, ""))
        for _, address in found:
            if not is_address(address) or self.conditions.refuses(address):
                raise _wrong(f"Invalid '{kind}' address: '{address}'.", INVALID)
        return found

    def _to(self, whole: Message, address: str) -> Message:
        outcome = "dropped" if self.conditions.has_lost(address) else "done"
        return replace(whole, recipient=address, outcome=outcome)


def _wrong(message: str, code: int) -> Refused:
    return Refused(422, message, code=code)


def _sent(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.outcome == "done"]


def _headers(fields: Fields) -> dict[str, str]:
    found = {}
    for member in fields.items("Headers") or []:
        each = Fields(member, where="Headers")
        found[each.text("Name", "")] = each.text("Value", "")
        each.end()
    return found


def _metadata(fields: Fields) -> dict[str, str]:
    """https://postmarkapp.com/support/article/1125"""
    found = fields.string_map("Metadata")
    if len(found) > 10 or any(len(k) > 20 or len(v) > 80 for k, v in found.items()):
        raise _wrong("Metadata has at most 10 fields of 20 and 80 characters.", INVALID)
    return found


def _attachments(fields: Fields) -> Iterator[Json]:
    for member in fields.items("Attachments") or []:
        each = Fields(member, where="Attachments")
        content = read_base64(each.any("Content"))
        name, kind = each.text("Name", ""), each.text("ContentType", "")
        content_id = each.text("ContentID", "").removeprefix("cid:")
        each.any("ContentLength")
        each.end()
        if content is None or not name or not kind:
            raise _wrong("An attachment needs Name, ContentType and base64 Content.", INVALID)
        yield described(name, kind, content, content_id=content_id)
