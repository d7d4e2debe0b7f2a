"""Resend's email API. https://resend.com/docs/api-reference/emails/send-email"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

from sandbox.faults.fault import Met
from sandbox.fields import BadInput, Fields
from sandbox.messages.addresses import is_address, mailbox, read_mailboxes
from sandbox.messages.attachments import described, read_base64
from sandbox.messages.idempotency import Remembered
from sandbox.messages.provider import (
    Ask,
    MessageProvider,
    Taken,
    answer,
    bearer,
    demand,
    read_json,
)
from sandbox.messages.refused import Refused
from sandbox.recent import Recent
from sandbox.records import Message
from sandbox.wire import Answer

ONE, BATCH = "/emails", "/emails/batch"
KEY = re.compile(r"re_[A-Za-z0-9_]+")
WORD = re.compile(r"[A-Za-z0-9_-]{1,256}")
RECIPIENTS, MESSAGES = 50, 100
ADDRESS_FORMAT = (
    "The email address needs to follow the `email@example.com` or `Name <email@example.com>` "
    "format."
)
MODES = ("strict", "permissive")


class Resend(MessageProvider):
    """Honours idempotency keys for a day. https://resend.com/docs/dashboard/emails/idempotency-keys"""

    name: ClassVar[str] = "resend"

    def __init__(self, arrivals: Recent[Message]) -> None:
        super().__init__(arrivals)
        self._remembered = Remembered()

    def take(self, ask: Ask) -> Taken:
        self._demand_key(ask)
        if ask.path not in (ONE, BATCH):
            raise Refused(404, "The requested endpoint does not exist", code="not_found")
        if ask.request.method != "POST":
            raise Refused(405, "Method is not allowed", code="method_not_allowed")
        document = read_json(ask.request)
        if self.conditions.out_of_quota:
            raise Refused(
                429,
                "You have reached your daily email sending quota.",
                code="daily_quota_exceeded",
            )
        if ask.path == BATCH:
            taken = self._take_batch(document, ask)
        else:
            messages = self._read(document)
            taken = Taken(answer(200, {"id": messages[0].object}), messages)
        for message in taken.messages:
            message.key = ask.request.headers.get("idempotency-key", "")
        return taken

    async def once(self, ask: Ask, execute: Callable[[], Awaitable[Answer]]) -> Answer:
        key = ask.request.headers.get("idempotency-key")
        if key is None:
            return await execute()
        if not 1 <= len(key) <= 256:
            raise Refused(
                400,
                "The key must be between 1-256 chars. Retry with a valid idempotency key.",
                code="invalid_idempotency_key",
            )
        digest = hashlib.sha256(ask.request.body).digest()
        return await self._remembered.once(
            (bearer(ask.request), key), (ask.path, digest), execute, now=ask.now
        )

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        name = refused.first.code or _NAMES.get(refused.status, "validation_error")
        said = {"statusCode": refused.status, "name": name, "message": str(refused)}
        return answer(refused.status, said).with_headers(refused.headers)

    def misshapen(self, error: BadInput) -> Refused:
        return _wrong(str(error))

    def trouble(self, status: int, *, code: str, met: Met) -> Answer:
        if status == 409:
            refused = _CONCURRENT
        elif status == 429:
            refused = Refused(
                429,
                "Too many requests. You can only make 2 requests per second.",
                code="rate_limit_exceeded",
            )
        else:
            refused = Refused(status, "Something went wrong.", code="application_error")
        return self.refusal(refused, request_id=met.request_id)

    def reset(self) -> None:
        super().reset()
        self._remembered.clear()

    def _demand_key(self, ask: Ask) -> None:
        key = bearer(ask.request)
        if not key:
            raise Refused(401, "Missing API Key", code="missing_api_key")
        refused = Refused(403, "API key is invalid", code="invalid_api_key")
        if not KEY.fullmatch(key):
            raise refused
        demand(self.conditions, key, refused)

    def _take_batch(self, document: Any, ask: Ask) -> Taken:
        if not isinstance(document, list) or not 1 <= len(document) <= MESSAGES:
            raise _wrong(f"The batch must have between 1 and {MESSAGES} emails.")
        mode = ask.request.headers.get("x-batch-validation", MODES[0])
        if mode not in MODES:
            raise _wrong("`x-batch-validation` must be strict or permissive.")
        taken: list[Message] = []
        made, errors = [], []
        for place, each in enumerate(document):
            try:
                messages = self._read(each, batch=True)
            except (Refused, BadInput) as error:
                if mode == MODES[0]:
                    raise
                errors.append({"index": place, "message": str(error)})
            else:
                made.append({"id": messages[0].object})
                taken += messages
        said: dict[str, Any] = {"data": made}
        if mode == MODES[1]:
            said["errors"] = errors
        return Taken(answer(200, said), taken)

    def _read(self, document: Any, *, batch: bool = False) -> list[Message]:
        fields = Fields(document, where="the email")
        for name in ("from", "to", "subject"):
            if not fields.peek(name):
                raise Refused(422, f"Missing `{name}` field.", code="missing_required_field")
        if batch and {"attachments", "scheduled_at"} & fields.rest().keys():
            raise _wrong("`attachments` and `scheduled_at` cannot be used in a batch.")
        people = {kind: self._people(fields, kind) for kind in ("to", "cc", "bcc")}
        sender = _mailboxes(fields, "from")
        reply_to = _mailboxes(fields, "reply_to")
        whole = Message(
            provider=self.name,
            kind=self.kind,
            object=str(uuid4()),
            recipient="",
            sender=mailbox(*sender[0]),
            to=[mailbox(*person) for person in people["to"]],
            cc=[mailbox(*person) for person in people["cc"]],
            reply_to=[mailbox(*person) for person in reply_to],
            subject=fields.text("subject", ""),
            text=fields.text("text", ""),
            html=fields.text("html", ""),
            headers=fields.string_map("headers"),
            attachments=list(_attachments(fields)),
            metadata=_tags(fields),
        )
        if not whole.text and not whole.html:
            raise Refused(422, "Missing `html` or `text` field.", code="missing_required_field")
        for name in ("scheduled_at", "topic_id"):
            fields.any(name)
        fields.end()
        everybody = [address for some in people.values() for _, address in some]
        return [self._to(whole, address) for address in dict.fromkeys(everybody)]

    def _people(self, fields: Fields, kind: str) -> list[tuple[str, str]]:
        found = _mailboxes(fields, kind)
        if len(found) > RECIPIENTS or any(self.conditions.refuses(each[1]) for each in found):
            raise _wrong(f"Invalid `{kind}` field. {ADDRESS_FORMAT}")
        return found

    def _to(self, whole: Message, address: str) -> Message:
        outcome = "dropped" if self.conditions.has_lost(address) else "done"
        return replace(whole, recipient=address, outcome=outcome)


_NAMES = {415: "unsupported_media_type", 402: "restricted_api_key"}
_CONCURRENT = Refused(
    409,
    "Same idempotency key used while original request is still in progress.",
    code="concurrent_idempotent_requests",
)


def _wrong(message: str) -> Refused:
    return Refused(422, message, code="validation_error")


def _mailboxes(fields: Fields, name: str) -> list[tuple[str, str]]:
    """A text or a list of them."""
    value = fields.any(name)
    texts = value if isinstance(value, list) else [value] if value else []
    found = [read_mailboxes(text) if isinstance(text, str) else [] for text in texts]
    if not all(len(each) == 1 and is_address(each[0][1]) for each in found):
        raise _wrong(f"Invalid `{name}` field. {ADDRESS_FORMAT}")
    return [each[0] for each in found]


def _tags(fields: Fields) -> dict[str, str]:
    found = {}
    for member in fields.items("tags") or []:
        each = Fields(member, where="tags")
        name, value = each.text("name", ""), each.text("value", "")
        each.end()
        if not WORD.fullmatch(name) or (value and not WORD.fullmatch(value)):
            raise _wrong("Tags should only contain ASCII letters, numbers, underscores, or dashes.")
        found[name] = value
    return found


def _attachments(fields: Fields) -> Iterator[dict[str, Any]]:
    for member in fields.items("attachments") or []:
        each = Fields(member, where="attachments")
        content = read_base64(each.any("content"))
        name, kind = each.text("filename", ""), each.text("content_type", "")
        content_id = each.text("content_id", "") or each.text("inline_content_id", "")
        each.end()
        if content is None or not name:
            raise _wrong("Attachments must have either a `content` or `path`.")
        yield described(name, kind, content, content_id=content_id)
