"""Mailgun's messages API.
https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import replace
from typing import Any, ClassVar

from sandbox.ids import random_text
from sandbox.messages.addresses import is_address, mailbox, read_mailboxes
from sandbox.messages.attachments import described
from sandbox.messages.forms import Form, read_form
from sandbox.messages.provider import Ask, MessageProvider, Taken, answer, demand
from sandbox.messages.refused import Refused
from sandbox.records import Message
from sandbox.wire import Answer, Request

PATH = re.compile(r"/v3/([A-Za-z0-9.-]{1,255})/messages")
RECIPIENTS = 1000
VARIABLE = re.compile(r"%recipient\.([A-Za-z0-9_-]{1,100})%")
BODIES = ("text", "html", "amp-html", "template")
KNOWN = frozenset(
    {"from", "to", "cc", "bcc", "subject", "recipient-variables", "attachment", "inline", *BODIES}
)
PREFIXES = ("o:", "h:", "v:", "t:")


class Mailgun(MessageProvider):
    """Takes a request whole or not at all. With `recipient-variables` everybody gets a message of
    their own, under the same id."""

    name: ClassVar[str] = "mailgun"

    def take(self, ask: Ask) -> Taken:
        refused = Refused(401, "Forbidden")
        key = _key(ask.request)
        if not key:
            raise refused
        demand(self.conditions, key, refused)
        path = PATH.fullmatch(ask.path)
        if path is None:
            raise Refused(404, "not found")
        if ask.request.method != "POST":
            raise Refused(405, "method not allowed")
        form = read_form(ask.request)
        if self.conditions.out_of_quota:
            raise Refused(402, "Domain is not allowed to send: exceeded its sending quota.")
        messages = self._read(form)
        id = f"{random_text(20).lower()}@{path[1]}"  # noqa: A001  # their word
        for message in messages:
            message.object = id
        return Taken(answer(200, {"id": f"<{id}>", "message": "Queued. Thank you."}), messages)

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        if refused.status == 401:
            return Answer(401, b"Forbidden", content_type="text/plain").with_headers(
                {"WWW-Authenticate": 'Basic realm="MG API"'}
            )
        return answer(refused.status, {"message": str(refused)}).with_headers(refused.headers)

    def _read(self, form: Form) -> list[Message]:
        for name, _ in form.pairs:
            if name not in KNOWN and not name.startswith(PREFIXES):
                raise Refused(400, f"unknown parameter: {name}")
        for name in ("from", "to"):
            if not form.first(name):
                raise Refused(400, f"{name} parameter is missing")
        if not any(form.first(name) for name in BODIES):
            wanted = "'text', 'html', 'amp-html' or 'template'"
            raise Refused(400, f"Need at least one of {wanted} parameters specified")
        people = {kind: self._people(form, kind) for kind in ("to", "cc", "bcc")}
        if sum(map(len, people.values())) > RECIPIENTS:
            raise Refused(400, f"No more than {RECIPIENTS} recipients per request is allowed")
        if not all(is_address(address) for _, address in read_mailboxes(form.first("from"))):
            raise Refused(400, "from parameter is not a valid address. please check documentation")
        whole = self._whole(form, people)
        everybody = [address for some in people.values() for _, address in some]
        if "recipient-variables" not in dict(form.pairs):
            return [self._to(whole, address) for address in everybody]
        values = _variables(form.first("recipient-variables"))
        if any(address not in values for _, address in people["to"]):
            raise Refused(400, "recipient-variables are missing for some recipients")
        return [self._personal(whole, person, values[person[1]]) for person in people["to"]] + [
            self._to(whole, address) for _, address in (*people["cc"], *people["bcc"])
        ]

    def _whole(self, form: Form, people: dict[str, list[tuple[str, str]]]) -> Message:
        headers = form.under("h:")
        return Message(
            provider=self.name,
            kind=self.kind,
            object="",
            recipient="",
            sender=form.first("from"),
            to=[mailbox(*person) for person in people["to"]],
            cc=[mailbox(*person) for person in people["cc"]],
            reply_to=[headers[name] for name in headers if name.lower() == "reply-to"],
            subject=form.first("subject"),
            text=form.first("text"),
            html=form.first("html"),
            headers={n: v for n, v in headers.items() if n.lower() != "reply-to"},
            attachments=[
                described(
                    file.name,
                    file.content_type,
                    file.content,
                    content_id=file.name if file.field == "inline" else "",
                )
                for file in form.files
            ],
            tags=form.all("o:tag"),
            metadata=form.under("v:"),
        )

    def _people(self, form: Form, kind: str) -> list[tuple[str, str]]:
        found = read_mailboxes(", ".join(form.all(kind))) if form.first(kind) else []
        for _, address in found:
            if not is_address(address) or self.conditions.refuses(address):
                raise Refused(
                    400, f"{kind} parameter is not a valid address. please check documentation"
                )
        return list({person[1].lower(): person for person in found}.values())

    def _to(self, whole: Message, address: str) -> Message:
        outcome = "dropped" if self.conditions.has_lost(address) else "done"
        return replace(whole, recipient=address, outcome=outcome)

    def _personal(self, whole: Message, person: tuple[str, str], values: dict[str, Any]) -> Message:
        def filled(text: str) -> str:
            return VARIABLE.sub(lambda found: str(values.get(found[1], found[0])), text)

        return replace(
            self._to(whole, person[1]),
            to=[mailbox(*person)],
            subject=filled(whole.subject),
            text=filled(whole.text),
            html=filled(whole.html),
            headers={name: filled(value) for name, value in whole.headers.items()},
            metadata={name: filled(value) for name, value in whole.metadata.items()},
        )


def _key(request: Request) -> str:
    """Of `Basic api:KEY`; '' without one."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, key = b64decode(text, validate=True).decode("ascii").partition(":")
    except ValueError:
        return ""
    return key if scheme.lower() == "basic" and user == "api" else ""


def _variables(text: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise Refused(400, "recipient-variables is not valid JSON")
    return found
