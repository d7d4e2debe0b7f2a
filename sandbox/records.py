"""What the sandbox writes down, as its control endpoint tells it. Times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that really happened at the provider. One request has one effect at most."""

    seq: int
    kind: str  # payment_intent.created, refund.created, customer.deleted, ...
    object: str  # its id
    outcome: str  # done, or declined: the object was made but no money moved
    amount: int | None  # in minor units, where there is one
    key: str  # the idempotency key, '' when none was sent
    call: str  # metadata[holdfast_call], '' when none was sent
    account: str  # Stripe-Account, '' when none was sent
    request_id: str
    by: str  # request or control
    at: float


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


def as_json(record: Any) -> dict[str, Any]:
    """A record as the control endpoint shows it."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def from_json(kind: type[R], document: dict[str, Any]) -> R:
    """The record that `as_json` showed."""
    return kind(**document)
