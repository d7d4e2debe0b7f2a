"""What is asked and what is answered. Requests are strict: no unknown field, no string for a
number."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from outbound.adapters import Payload
from outbound.services import OutboundCall
from outbound.states import FINAL
from payments.adapters.stripe_payloads import (
    Amount,
    NewCustomer,
    NewPaymentIntent,
    NewRefund,
    sendable,
)
from webhooks.services import WebhookEvent

# Names of the forms that a field may have. They are in the places of errors, and must not be in
# those that we tell.
ONE, SEVERAL = "(one)", "(several)"

Reference = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(sendable),
    Field(description="Your own name for it."),
]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(sendable)]


class PaymentIntentRequest(NewPaymentIntent):
    """Money that somebody is asked for. Amounts are in the currency's minor unit."""

    reference: Reference | None = None


class CustomerRequest(NewCustomer):
    """Somebody whom the provider shall know."""

    reference: Reference | None = None


class RefundRequest(NewRefund):
    """Money that is given back: without an amount, all that is left."""

    amount: Amount | None = None
    reference: Reference | None = None


class PaymentCancellation(Payload):
    """Why a payment is given up."""

    reason: Literal["duplicate", "fraudulent", "requested_by_customer", "abandoned"] | None = None


class Retry(Payload):
    """as_new: with a new idempotency key, which makes it another call to the provider; needs a
    reason."""

    as_new: bool = False
    reason: Reason | None = None


class Explained(Payload):
    """Why it is done."""

    reason: Reason | None = None


CallStatusName = Literal[
    "pending", "running", "retrying", "unknown", "succeeded", "failed", "cancelled"
]
EventStatusName = Literal["received", "processing", "processed", "ignored", "retrying", "failed"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(sendable)]
Cursor = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    Field(description="`next` of the page before."),
]


class CallFilter(Payload):
    """Which calls. Texts are compared whole."""

    status: CallStatusName | None = None
    adapter: Text | None = None
    reference: Text | None = None
    provider_reference: Text | None = None
    cursor: Cursor | None = None


class EventFilter(Payload):
    """Which events. Texts are compared whole."""

    source: Text | None = None
    event_id: Text | None = None
    status: EventStatusName | None = None
    cursor: Cursor | None = None


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True)


class CallError(Answer):
    """What its last attempt met."""

    kind: str
    code: str
    message: str
    http_status: int | None


class Call(Answer):
    """A call to a provider, as it stands now."""

    id: uuid.UUID
    adapter: str
    operation: str
    status: CallStatusName
    attempts: int
    due_at: Annotated[
        datetime | None, Field(description="When something happens next; null when it is final.")
    ]
    reference: str | None
    provider_reference: str | None
    result: Annotated[
        dict[str, JsonValue] | None,
        Field(description="What the provider answered; only for those who may see it."),
    ]
    error: CallError | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, call: OutboundCall, *, with_result: bool) -> Call:
        return cls.model_construct(
            id=call.pk,
            adapter=call.adapter,
            operation=call.operation,
            status=cast(CallStatusName, call.status),
            attempts=call.attempts,
            due_at=None if call.status in FINAL else call.due_at,
            reference=call.reference or None,
            provider_reference=call.provider_reference or None,
            result=call.result if with_result else None,
            error=_error_of(call),
            created_at=call.created_at,
            finished_at=call.finished_at,
        )


def _error_of(call: OutboundCall) -> CallError | None:
    if not call.error_kind:
        return None
    return CallError(
        kind=call.error_kind,
        code=call.error_code,
        message=call.error_message,
        http_status=call.error_http_status,
    )


class Event(Answer):
    """A word from a provider, as it stands now."""

    id: uuid.UUID
    source: str
    account: str
    event_id: str
    event_type: str
    status: EventStatusName
    attempts: int
    deliveries_seen: int
    error: str | None
    received_at: datetime
    processed_at: datetime | None

    @classmethod
    def of(cls, event: WebhookEvent) -> Event:
        names = (name for name in cls.model_fields if name != "error")
        found = {name: getattr(event, name) for name in names}
        return cls.model_construct(**found, error=event.error or None)


class CallPage(Answer):
    """Newest first."""

    items: list[Call]
    next: str | None


class EventPage(Answer):
    """Newest first."""

    items: list[Event]
    next: str | None


class WrongField(Answer):
    """A JSON pointer into the body (for a query parameter: a slash and its name)."""

    pointer: str
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(description="A word for programs: ours, or the provider's.")]
    request_id: str
    param: Annotated[
        str, Field(default="", description="The provider's name of the field that it minds.")
    ]
    errors: Annotated[list[WrongField], Field(default_factory=list)]
    call: Annotated[
        Call | None, Field(default=None, description="The call that this is the outcome of.")
    ]


def problems(*statuses: int) -> dict[int, Any]:
    """The error answers of an operation, for its declaration."""
    return dict.fromkeys(sorted(statuses), ProblemDocument)


EVERYWHERE = (401, 403, 405, 413, 415, 429, 500, 503)


def declared(*statuses: int, **answers: Any) -> dict[int, Any]:
    """An operation's answers: `ok=Model` for 200, `accepted`, `created`; and its errors."""
    named = {"ok": 200, "created": 201, "accepted": 202}
    models: Iterable[tuple[int, Any]] = ((named[name], model) for name, model in answers.items())
    return {**dict(models), **problems(400, *EVERYWHERE, *statuses)}
