"""What is asked of notifications, and what is answered to a bulk message."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag

from api.schemas import ONE, SEVERAL, Answer, Call, Reference
from notifications.adapters.messages import (
    RECIPIENTS,
    Body,
    Headers,
    Line,
    Metadata,
    PhoneNumber,
    Push,
    Subject,
    Tags,
    Variable,
    VariableName,
    sendable,
)
from outbound.adapters import Payload


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    return text


Who = Annotated[
    str,
    StringConstraints(min_length=3, max_length=600),
    AfterValidator(sendable),
    Field(description="An address, or `Name <address>`."),
]
Several = Annotated[list[Who], Field(min_length=1, max_length=RECIPIENTS)]


def _how_many(given: object) -> str | None:
    return ONE if isinstance(given, str) else SEVERAL if isinstance(given, list) else None


People = Annotated[
    Annotated[Who, Tag(ONE)] | Annotated[Several, Tag(SEVERAL)],
    Discriminator(
        _how_many,
        custom_error_type="address_or_list",
        custom_error_message="must be an address, or a list of them",
    ),
]


class AttachmentRequest(Payload):
    """A file. With a `content_id` it is shown in the HTML body, at cid:<content_id>."""

    name: Annotated[Line, StringConstraints(min_length=1)]
    content: Annotated[str, AfterValidator(_base64), Field(description="In base64.")]
    content_type: Annotated[str, StringConstraints(max_length=255)] = "application/octet-stream"
    content_id: Annotated[str, StringConstraints(max_length=100)] = ""

    def decoded(self) -> dict[str, Any]:
        """As the services take it."""
        return {**self.model_dump(), "content": base64.b64decode(self.content)}


class _Written(Payload):
    subject: Subject
    text: Body = ""
    html: Body = ""
    sender: Annotated[
        Who | None, Field(alias="from", description="Without it DEFAULT_FROM_EMAIL.")
    ] = None
    reply_to: People | None = None
    headers: Headers | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    attachments: Annotated[list[AttachmentRequest] | None, Field(max_length=50)] = None
    reference: Reference | None = None


class EmailRequest(_Written):
    """One email, which all its recipients see alike."""

    to: People
    cc: People | None = None
    bcc: People | None = None


class BulkRecipientRequest(Payload):
    """Somebody who gets an email of their own. What is wrong here is told in the answer, and keeps
    nobody else from getting theirs."""

    address: str
    name: str = ""
    variables: dict[str, str] = Field(default_factory=dict)


class BulkEmailRequest(_Written):
    """An email of their own to each: subject and bodies hold placeholders, `{{first_name}}`, for
    which each recipient has values, or all have `variables` in common."""

    recipients: Annotated[list[BulkRecipientRequest], Field(min_length=1, max_length=10_000)]
    variables: dict[VariableName, Variable] | None = None


class SmsRequest(Payload):
    """A text message."""

    to: PhoneNumber
    body: Annotated[str, StringConstraints(min_length=1, max_length=1600), AfterValidator(sendable)]
    sender: Annotated[
        str | None,
        StringConstraints(pattern=r"^(\+[1-9][0-9]{6,14}|[A-Za-z0-9 ]{1,11})$"),
        Field(alias="from", description="A number, or a name of up to 11 characters."),
    ] = None
    reference: Reference | None = None


class PushRequest(Push):
    """A notification to one device."""

    reference: Reference | None = None


class RefusedRecipient(Answer):
    """Who of a bulk email gets nothing: their place in what was asked, and why."""

    place: int
    pointer: str
    detail: str


class BulkEmail(Answer):
    """A bulk email: how many it goes to, by which calls, and who was refused."""

    id: uuid.UUID
    total: int
    accepted: int
    refused: list[RefusedRecipient]
    calls: Annotated[list[Call], Field(max_length=10_000)]
