"""What can be asked of an adapter, the same for all of one kind. Limits are those that every
provider keeps to, so that a message can go to the next one as it stands.

Each model is checked where the message is made, so that what a provider could not take is refused
there, with a pointer to the field, and before any row is written.
"""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from notifications.addresses import email_address, phone_number
from outbound.adapters import Payload

RECIPIENTS = 50  # of one message: what Amazon SES, Postmark and Resend allow
BATCH = 1000  # of one call: what SendGrid and Mailgun allow
BODY_CHARACTERS = 1_000_000
HEADER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,75}")
_OWN = """
    bcc cc content-disposition content-id content-transfer-encoding content-type date dkim-signature
    from message-id mime-version received reply-to return-path sender subject to
    x-holdfast-call x-holdfast-key
"""
OWN_HEADERS = frozenset(_OWN.split())  # ours to set, or a field of their own
CALL_KEY = "holdfast_call"  # our call's id, in what a provider sends back with its events
KEY_KEY = "holdfast_key"  # the idempotency key it was made with


def sendable(text: str) -> str:
    """Neither a database nor a provider can hold these."""
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("must not contain NUL or lone surrogates")
    return text


def one_line(text: str) -> str:
    """A line break would begin another header."""
    if any(c < " " or c == "\x7f" or c in "\x85\u2028\u2029" for c in text):
        raise ValueError("must be one line, without control characters")
    return sendable(text)


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise ValueError("a header's name has letters, digits and hyphens only")
        if name.lower() in OWN_HEADERS:
            raise ValueError(f"{name} has a field of its own, or is not for us to set")
        one_line(value)
        if len(value) > 900:
            raise ValueError(f"{name} must not be longer than 900 characters")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header is there twice")
    return headers


def _metadata(metadata: dict[str, str]) -> dict[str, str]:
    """https://postmarkapp.com/support/article/1125: the smallest room that a provider has."""
    for name, value in metadata.items():
        if not re.fullmatch(r"[A-Za-z0-9_]{1,20}", name):
            raise ValueError("keys must be 1 to 20 letters, digits and underscores")
        if name in (CALL_KEY, KEY_KEY):
            raise ValueError(f"the key {name} is ours")
        if len(value) > 80:
            raise ValueError("values must not be longer than 80 characters")
        one_line(value)
    return metadata


def _image(url: str) -> str:
    if url and not (url.startswith("https://") and url.isascii() and url.isprintable()):
        raise ValueError("must be an address that begins with https")
    return url


EmailAddress = Annotated[str, StringConstraints(max_length=320), AfterValidator(email_address)]
Line = Annotated[str, StringConstraints(max_length=255), AfterValidator(one_line)]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=998), AfterValidator(one_line)]
Body = Annotated[str, StringConstraints(max_length=BODY_CHARACTERS), AfterValidator(sendable)]
Headers = Annotated[dict[str, str], Field(max_length=20), AfterValidator(_headers)]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,50}$")]
Tags = Annotated[list[Tag], Field(max_length=5)]
Metadata = Annotated[dict[str, str], Field(max_length=8), AfterValidator(_metadata)]
Variable = Annotated[str, StringConstraints(max_length=2000), AfterValidator(sendable)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
DataName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(sendable)]
PhoneNumber = Annotated[str, StringConstraints(max_length=20), AfterValidator(phone_number)]


class Mailbox(Payload):
    """Somebody's address, and how to call them."""

    address: EmailAddress
    name: Line = ""


class Attachment(Payload):
    """A file. Its bytes are stored once, under `digest`: `CallContext.read_blob` has them.
    With a `content_id` it is shown in the HTML body, at cid:<content_id>."""

    name: Annotated[Line, StringConstraints(min_length=1)]
    content_type: Annotated[
        str,
        # \w would be all of Unicode: no such type exists, and it takes 15 ms to compile
        StringConstraints(
            pattern=r"^[A-Za-z0-9_.+-]{1,60}/[A-Za-z0-9_.+-]{1,80}"
            r"(; ?[A-Za-z0-9_-]+=[A-Za-z0-9_.-]+)*$"
        ),
    ]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    content_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@-]{0,100}$")] = ""


class _Written(Payload):
    """What every email has."""

    sender: Mailbox
    reply_to: Annotated[list[Mailbox], Field(max_length=5, default_factory=list)]
    subject: Subject
    text: Body = ""
    html: Body = ""
    headers: Headers = Field(default_factory=dict)
    tags: Tags = Field(default_factory=list)
    metadata: Metadata = Field(default_factory=dict)
    attachments: Annotated[list[Attachment], Field(max_length=50, default_factory=list)]

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.text.strip() and not self.html.strip() and not self.attachments:
            raise ValueError("a message needs a text, an HTML body or an attachment")
        return self


class Email(_Written):
    """One message. All recipients see the same, and the names in `to` and `cc`."""

    to: Annotated[list[Mailbox], Field(min_length=1, max_length=RECIPIENTS)]
    cc: Annotated[list[Mailbox], Field(max_length=RECIPIENTS, default_factory=list)]
    bcc: Annotated[list[Mailbox], Field(max_length=RECIPIENTS, default_factory=list)]

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if len(self.to) + len(self.cc) + len(self.bcc) > RECIPIENTS:
            raise ValueError(f"to, cc and bcc must not be more than {RECIPIENTS} together")
        return self


class BulkRecipient(Payload):
    """Somebody who gets a message of their own. `variables` has a value for every placeholder."""

    address: EmailAddress
    name: Line = ""
    variables: dict[VariableName, Variable] = Field(default_factory=dict)


class BulkEmail(_Written):
    """One message to each recipient. Subject and bodies hold placeholders, `{{name}}`: see
    notifications/placeholders.py."""

    recipients: Annotated[list[BulkRecipient], Field(min_length=1, max_length=BATCH)]


class Sms(Payload):
    """One text message to one number. https://www.twilio.com/docs/messaging/api/message-resource:
    at most 1600 characters. `sender`: a number, or a name of up to 11 characters; '' for the
    adapter's own."""

    to: PhoneNumber
    body: Annotated[str, StringConstraints(min_length=1, max_length=1600), AfterValidator(sendable)]
    sender: Annotated[
        str, StringConstraints(pattern=r"^(\+[1-9][0-9]{6,14}|[A-Za-z0-9 ]{1,11})?$")
    ] = ""


class Push(Payload):
    """One notification to one device. `data` reaches the app unseen.
    https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages"""

    token: Annotated[str, StringConstraints(max_length=4096, pattern=r"^[A-Za-z0-9_:.-]+$")]
    title: Annotated[str, StringConstraints(max_length=200), AfterValidator(sendable)] = ""
    body: Annotated[str, StringConstraints(max_length=2000), AfterValidator(sendable)] = ""
    data: Annotated[dict[DataName, Variable], Field(max_length=50, default_factory=dict)]
    image_url: Annotated[str, StringConstraints(max_length=900), AfterValidator(_image)] = ""
    collapse_key: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9_.-]*$")] = (
        ""
    )
    ttl_seconds: Annotated[int, Field(ge=0, le=2_419_200)] | None = None  # four weeks
    urgent: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.title.strip() or self.body.strip() or self.data):
            raise ValueError("a notification needs a title, a body or data")
        return self
