"""What the sandbox writes down, as its control endpoint tells it. Times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that really happened at the provider. A request has one effect at most, but for
    messages: those have one for each recipient."""

    seq: int
    kind: str  # payment_intent.created, refund.created, customer.deleted, email.accepted, ...
    object: str  # its id
    outcome: str  # done; declined: made, but no money moved; dropped, unrendered: taken, not sent
    amount: int | None  # in minor units, where there is one
    key: str  # the idempotency key, '' when none was sent
    call: str  # holdfast_call among what was sent along, '' when none was
    account: str  # Stripe-Account, the account's or project's id; '' when none was sent
    request_id: str
    by: str  # request or control
    at: float
    provider: str = "stripe"
    recipient: str = ""  # of a message


@dataclass(slots=True)
class Seen:
    """A request to the API that arrived in full."""

    seq: int
    method: str
    path: str
    account: str
    key: str
    body_sha256: str
    request_id: str
    arrived_at: float
    finished_at: float | None = None  # None: still being answered, or hanging
    status: int | None = None  # what was decided, even if it was never sent; None: nothing
    answered: bool = False  # the whole answer went out
    replayed: bool = False  # the stored answer to an earlier request with this key
    fault: str = ""  # kind of the fault that was applied
    effects: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to bring one copy of an event to the webhook URL."""

    seq: int
    event: str
    type: str
    copy: int  # from 1; more with duplicates
    attempt: int  # from 1
    outcome: str  # delivered, refused (not 2xx), failed (no answer), dropped
    status: int | None
    error: str
    at: float
    seconds: float
    provider: str = "stripe"


@dataclass(slots=True)
class Message:
    """What one recipient got, their own words put in."""

    provider: str
    kind: str  # email, sms, push
    object: str  # the provider's id
    recipient: str
    sender: str = ""
    to: list[str] = field(default_factory=list)
    cc: list[str] = field(default_factory=list)
    reply_to: list[str] = field(default_factory=list)
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    attachments: list[dict[str, Any]] = field(default_factory=list)  # name, type, size, sha256, cid
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    account: str = ""
    key: str = ""  # of the Idempotency-Key header
    callback: str = ""  # where this message's own events go
    signer: str = ""  # the secret that those are signed with
    outcome: str = "done"
    status: str = "accepted"  # the last step of its story
    at: float = 0.0
    seq: int = 0


def as_json(record: Any) -> dict[str, Any]:
    """A record as the control endpoint shows it."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def from_json(kind: type[R], document: dict[str, Any]) -> R:
    """The record that `as_json` showed."""
    return kind(**document)
