"""What is asked for, checked as a whole: the content that all recipients share, and each of them.

Nothing is stored here, and whatever is wrong is told with a pointer to the field.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings
from pydantic import BaseModel, TypeAdapter, ValidationError

from notifications.adapters.messages import (
    BulkEmail,
    BulkRecipient,
    Email,
    Mailbox,
    Push,
    Sms,
    Variable,
    VariableName,
)
from notifications.addresses import address_key_of
from notifications.placeholders import PLACEHOLDER, names_in
from notifications.states import MessageKind, RecipientKind
from outbound.errors import FieldError, InvalidPayload
from outbound.fields import canonical_json
from outbound.services import field_errors

BULK_RECIPIENTS = 10_000
NUMBERS = 1_000  # of one SMS, devices of one push: a call each
SHOWN = 100  # errors of one refusal at the most
DEFAULT_TYPE = "application/octet-stream"
SOMEBODY = {"address": "somebody@example.com"}

NAMED = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<name>[^<>"]*?))\s*<(?P<address>[^<>]*)>\s*'
)
ESCAPED = re.compile(r"\\(.)")

Address = str | Mailbox | tuple[str, str]
"""`a@b.example`, `Ann <a@b.example>`, a Mailbox, or (address, name)."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A file to go along. With a `content_id` it is shown in the HTML body, at cid:<content_id>."""

    name: str
    content: bytes = field(repr=False)
    content_type: str = DEFAULT_TYPE
    content_id: str = ""

    def described(self) -> dict[str, Any]:
        """As payloads speak of it."""
        return {
            "name": self.name,
            "content_type": self.content_type,
            "digest": hashlib.sha256(self.content).hexdigest(),
            "size": len(self.content),
            "content_id": self.content_id,
        }


@dataclass(frozen=True, slots=True)
class Person:
    """One recipient: an address of the message's channel, and their own words."""

    address: str
    name: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    kind: RecipientKind = RecipientKind.TO

    def words(self) -> dict[str, Any]:
        found = {"name": self.name, "variables": dict(self.variables)}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Refused:
    """A recipient of a bulk message who cannot be written to: their place in what was asked, and
    what is wrong."""

    place: int
    address: str = field(repr=False)
    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that can be stored."""

    kind: MessageKind
    content: dict[str, Any]
    people: Sequence[Person]
    refused: Sequence[Refused] = ()

    def fingerprint(self, **more: Any) -> str:
        """Equal for equal messages."""
        people = [asdict(person) for person in self.people]
        said = canonical_json([self.kind, self.content, people, sorted(more.items())])
        return hashlib.sha256(said).hexdigest()


def draft_email(
    *,
    to: Address | Iterable[Address],
    cc: Address | Iterable[Address],
    bcc: Address | Iterable[Address],
    attachments: Sequence[Attached],
    **fields: Any,
) -> Draft:
    asked = {
        **_written(attachments, **fields),
        "to": _mailboxes(to, "/to"),
        "cc": _mailboxes(cc, "/cc"),
        "bcc": _mailboxes(bcc, "/bcc"),
    }
    content = _checked(Email, asked)
    people = [
        Person(each["address"], each["name"], kind=kind)
        for kind in RecipientKind
        for each in content.pop(str(kind))
    ]
    return Draft(MessageKind.EMAIL, content, people)


def draft_bulk_email(
    *,
    recipients: Sequence[Mapping[str, Any]],
    variables: Mapping[str, str],
    attachments: Sequence[Attached],
    **fields: Any,
) -> Draft:
    """A draft for those who can be written to; the others are in `refused`."""
    asked = {**_written(attachments, **fields), "recipients": [SOMEBODY]}
    content = _checked(BulkEmail, asked)
    del content["recipients"]
    wanted, variables = _placeholders(content), _shared(variables)
    if not 1 <= len(recipients) <= BULK_RECIPIENTS:
        _refuse("/recipients", f"must be 1 to {BULK_RECIPIENTS}")
    people, refused, seen = [], [], set()
    for place, recipient in enumerate(recipients):
        found = _bulk_person(place, recipient, variables, wanted)
        if isinstance(found, Person) and address_key_of(found.address) in seen:
            found = _refused(place, recipient, "/address", "is there twice")
        if isinstance(found, Refused):
            refused.append(found)
        else:
            people.append(found)
            seen.add(address_key_of(found.address))
    if not people:
        raise InvalidPayload([FieldError(each.pointer, each.detail) for each in refused[:SHOWN]])
    return Draft(MessageKind.BULK_EMAIL, content, people, refused)


def draft_sms(*, to: str | Iterable[str], **fields: Any) -> Draft:
    return _one_by_one(Sms, MessageKind.SMS, "to", to, fields)


def draft_push(*, tokens: str | Iterable[str], **fields: Any) -> Draft:
    return _one_by_one(Push, MessageKind.PUSH, "token", tokens, fields)


def _one_by_one(
    model: type[BaseModel],
    kind: MessageKind,
    name: str,
    addresses: str | Iterable[str],
    fields: Mapping[str, Any],
) -> Draft:
    """A message that each address has a call of its own for."""
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not 1 <= len(given) <= NUMBERS:
        _refuse(f"/{name}", f"must be 1 to {NUMBERS}")
    content: dict[str, Any] = {}
    people: dict[str, Person] = {}
    for address in given:
        content = _checked(model, {**fields, name: address})
        sent_to = content.pop(name)
        people.setdefault(sent_to, Person(sent_to))
    return Draft(kind, content, list(people.values()))


def _written(attachments: Sequence[Attached], *, sender: Any, reply_to: Any, **fields: Any) -> Any:
    """What every email has, as it is to be checked."""
    _bound(attachments)
    sender = settings.DEFAULT_FROM_EMAIL if sender is None else sender
    (mailbox,) = _mailboxes(sender, "/sender")
    return {
        **fields,
        "sender": mailbox,
        "reply_to": _mailboxes(reply_to, "/reply_to"),
        "attachments": [each.described() for each in attachments],
    }


def _bound(attachments: Sequence[object]) -> None:
    for place, each in enumerate(attachments):
        if not (isinstance(each, Attached) and isinstance(each.content, bytes | bytearray)):
            _refuse(f"/attachments/{place}", "must be an Attached with bytes in it")
    most = settings.EMAIL_MAX_ATTACHMENT_BYTES
    size = sum(len(each.content) for each in attachments if isinstance(each, Attached))
    if size > most:
        _refuse("/attachments", f"have {size} bytes together; at most {most} are allowed")


def _mailboxes(given: Any, pointer: str) -> list[dict[str, str]]:
    single = isinstance(given, str | Mailbox) or _is_pair(given)
    if not single and not isinstance(given, Iterable):
        _refuse(pointer, "must be an address, or several")
    several = [given] if single else list(given)
    return [
        _mailbox(each, pointer if single else f"{pointer}/{place}")
        for place, each in enumerate(several)
    ]


def _is_pair(given: Any) -> bool:
    is_pair = isinstance(given, tuple) and len(given) == 2
    return is_pair and all(isinstance(part, str) for part in given) and "@" not in given[1]


def _mailbox(given: Any, pointer: str) -> dict[str, str]:
    if isinstance(given, Mailbox):
        return {"address": given.address, "name": given.name}
    if _is_pair(given):
        return {"address": given[0], "name": given[1]}
    if not isinstance(given, str) or "\n" in given or "\r" in given:
        _refuse(pointer, "is no email address")
    found = NAMED.fullmatch(given)
    if found is None:
        return {"address": given, "name": ""}
    name = found["quoted"] if found["quoted"] is not None else found["name"]
    return {"address": found["address"], "name": ESCAPED.sub(r"\1", name)}


def _placeholders(content: Mapping[str, Any]) -> set[str]:
    """The names that a bulk message has placeholders for."""
    texts = {name: content.get(name, "") for name in ("subject", "text", "html")}
    for name, text in texts.items():
        if "{{" in PLACEHOLDER.sub("", text):
            _refuse(f"/{name}", "has {{ that begins no placeholder like {{first_name}}")
    return names_in(*texts.values())


def _shared(variables: Mapping[str, str]) -> Mapping[str, str]:
    try:
        return _VARIABLES.validate_python(dict(variables))
    except ValidationError as error:
        errors = [FieldError(f"/variables{e.pointer}", e.detail) for e in field_errors(error)]
        raise InvalidPayload(errors) from None


def _bulk_person(
    place: int, recipient: Any, shared: Mapping[str, str], wanted: set[str]
) -> Person | Refused:
    try:
        found = _RECIPIENT.validate_python(recipient)
    except ValidationError as error:
        first = field_errors(error)[0]
        return _refused(place, recipient, first.pointer, first.detail)
    variables = {**shared, **found.variables}
    missing = sorted(wanted - variables.keys())
    if missing:
        detail = f"has no value for {{{{{missing[0]}}}}}"
        return _refused(place, recipient, f"/variables/{missing[0]}", detail)
    used = {name: value for name, value in variables.items() if name in wanted}
    return Person(found.address, found.name, used)


_RECIPIENT = TypeAdapter(BulkRecipient)
_VARIABLES = TypeAdapter(dict[VariableName, Variable])


def _refused(place: int, recipient: Any, pointer: str, detail: str) -> Refused:
    address = recipient.get("address") if isinstance(recipient, Mapping) else None
    shown = address[:254] if isinstance(address, str) else ""
    return Refused(place, shown, f"/recipients/{place}{pointer}", detail)


def _checked(model: type[BaseModel], asked: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        found = model.model_validate(given)
        return found.model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        raise InvalidPayload(field_errors(error)) from None


def _refuse(pointer: str, detail: str) -> None:
    raise InvalidPayload([FieldError(pointer, detail)])
