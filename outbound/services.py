"""The front door of the outbound engine: what other apps call. Names are keyword-only.

`enqueue_call` belongs inside the caller's transaction: the call exists if and only if that
transaction commits.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection
from pydantic import BaseModel, ValidationError

from outbound import clock, engine, hints, registry
from outbound.adapters import Operation
from outbound.alternatives import (
    blocked_circuits,
    is_circuit_open,
    lock_call,
    may_be_asked_elsewhere,
)
from outbound.errors import (
    CallRefused,
    DeliveryError,
    FieldError,
    IllegalMove,
    InvalidPayload,
    KeyReused,
    TransientError,
)
from outbound.fields import canonical_json
from outbound.gates import DATABASE_AWAY
from outbound.ids import uuid7
from outbound.interventions import (
    cancel_call,
    find_call,
    operate_circuit,
    resolve_call,
    retry_call,
    retry_call_as_new,
    settle_from_event,
)
from outbound.models import CallAttempt, Circuit, CircuitTransition, OutboundCall
from outbound.paging import Page, Position, page_of
from outbound.parking import deliver_hint
from outbound.registry import adapter_class
from outbound.request_ids import current_request_id
from outbound.statements import insert, insert_if_new, reread
from outbound.states import SETTLED, WAITING, AttemptTrigger, CallStatus

__all__ = [
    "CallAttempt",
    "Circuit",
    "CircuitTransition",
    "OutboundCall",
    "adapter_class",
    "blocked_circuits",
    "cancel_call",
    "check_key",
    "check_text",
    "deliver_now",
    "enqueue_call",
    "field_errors",
    "find_call",
    "is_circuit_open",
    "list_calls",
    "lock_call",
    "may_be_asked_elsewhere",
    "operate_circuit",
    "perform_read",
    "resolve_call",
    "retry_call",
    "retry_call_as_new",
    "settle_from_event",
]

logger = structlog.get_logger(__name__)

INLINE_GRACE = timedelta(seconds=60)  # the sweep leaves an inline call alone for this long
POLL_SECONDS = 0.1
MAX_KEY_LENGTH = 255


def enqueue_call(
    *,
    adapter: str,
    operation: str,
    payload: Mapping[str, Any] | BaseModel,
    idempotency_key: str | None = None,
    reference: str = "",
    account: str = "",
    request_id: str | None = None,
    created_by: str = "",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    priority: int | None = None,
    inline: bool = False,
    call_id: uuid.UUID | None = None,
) -> OutboundCall:
    """Store a call, to be made soon after the current transaction commits.

    idempotency_key: the caller's own (1 to 255 visible ASCII characters). Used again with the
    same content it returns the call that is there. Without one, a key is minted.
    not_before: the earliest time of the first attempt; not_after: the end of the automatic ones,
    where that is before the age limit. priority: 0 to 9, lower first, where several were parked;
    None for the policy's. inline: the caller goes on to `deliver_now`, so nobody else is told for
    the first minute. call_id: the id of a new call, from `outbound.ids.uuid7`, where a row names
    the call before it is stored.

    Raises UnknownAdapter, UnknownOperation, InvalidPayload (with a pointer to each field),
    KeyReused.
    """
    spec = registry.operation_of(adapter, operation)
    document = validate_payload(spec, payload)
    request_id = current_request_id() if request_id is None else request_id
    check_key(idempotency_key)
    check_text(
        reference=(reference, 255),
        account=(account, 100),
        request_id=(request_id, 128),
        created_by=(created_by, 150),
    )
    policy = registry.policy_for(adapter, operation)
    now = clock.now()
    due_at = max(not_before, now) if not_before else now
    call_id = call_id or uuid7()
    call = OutboundCall(
        id=call_id,
        adapter=adapter,
        operation=operation,
        account=account,
        circuit=registry.circuit_name(adapter, operation, account),
        payload=document,
        dedupe_key=idempotency_key,
        idempotency_key=idempotency_key or f"hf-{call_id}",
        status=CallStatus.PENDING,
        max_attempts=policy.max_attempts,
        priority=policy.priority if priority is None else priority,
        due_at=due_at,
        hint_at=due_at + (_hint_grace(inline=inline) if due_at <= now else timedelta(0)),
        deadline_at=min(filter(None, (due_at + timedelta(seconds=policy.age_limit), not_after))),
        reference=reference,
        request_id=request_id,
        created_by=created_by,
        created_at=now,
        updated_at=now,
    )
    if idempotency_key is None:
        insert(call)
    elif not insert_if_new(call):
        return _same_call(call)
    call.is_new = True
    if not inline and due_at <= now:
        hints.announce_on_commit(deliver_hint(call))
    return call


def _hint_grace(*, inline: bool) -> timedelta:
    if inline:
        return INLINE_GRACE
    return hints.grace()


def _same_call(call: OutboundCall) -> OutboundCall:
    """The call that is there under this key. Raises KeyReused when it is another one.

    Compared as they are stored, for to Python 1, 1.0 and True are equal."""
    existing = OutboundCall.objects.filter(
        adapter=call.adapter, account=call.account, dedupe_key=call.dedupe_key
    ).first()
    if existing is None:
        raise KeyReused("this idempotency key belongs to another call")
    same = canonical_json(existing.payload) == canonical_json(call.payload)
    if existing.operation != call.operation or not same:
        raise KeyReused("this idempotency key was used with another operation or payload")
    return existing


def validate_payload(spec: Operation, payload: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    """The payload as plain JSON values. Raises InvalidPayload."""
    try:
        model = spec.payload_model.model_validate(
            payload.model_dump() if isinstance(payload, BaseModel) else payload
        )
    except ValidationError as error:
        raise InvalidPayload(field_errors(error)) from None
    document: dict[str, Any] = {}
    try:
        document = model.model_dump(mode="json", exclude_none=True)
        same = spec.payload_model.model_validate_json(canonical_json(document)) == model
    except ValueError:  # a number without end, a type or half a character that JSON has not
        same = False
    if not same:  # JSON made something else of it: NaN, say, becomes null
        raise InvalidPayload([FieldError("", "must consist of values that JSON can hold")])
    return document


def field_errors(error: ValidationError) -> list[FieldError]:
    """pydantic's findings as JSON pointers (RFC 6901), without the values that were sent."""
    return [
        FieldError(
            "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in found["loc"]),
            found["msg"],
        )
        for found in error.errors(include_input=False, include_url=False)
    ]


def check_key(key: object) -> None:
    """Raises InvalidPayload for what is no idempotency key of a caller's."""
    if key is not None and not (
        isinstance(key, str)
        and 1 <= len(key) <= MAX_KEY_LENGTH
        and all("!" <= character <= "~" for character in key)
    ):
        detail = f"must be 1 to {MAX_KEY_LENGTH} visible ASCII characters"
        raise InvalidPayload([FieldError("/idempotency_key", detail)])


def check_text(**texts: tuple[object, int]) -> None:
    """Raises InvalidPayload for texts that are longer than they may be, or cannot be stored."""
    errors = [
        FieldError(f"/{name}", f"must be text of at most {limit} characters, without NUL")
        for name, (value, limit) in texts.items()
        if not isinstance(value, str) or len(value) > limit or not _storable(value)
    ]
    if errors:
        raise InvalidPayload(errors)


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def deliver_now(*, call: OutboundCall, wait: float, strict: bool = False) -> OutboundCall:
    """Make the first attempt here and now, for at most `wait` seconds, and return the call as it
    stands then. What fails for the moment goes on in the background; when another process has
    the call, its outcome is awaited until the time is up.

    When it may not go now (an open circuit, a limit) it is parked and returned at once. `strict`:
    if it was never sent it is cancelled instead, and CircuitOpen or RateLimited is raised, with
    `http_status` (503, 429) and `retry_after` in seconds.

    Must not be called inside a transaction: the call would not be committed yet, and no
    transaction may be held during a call. Raises RuntimeError then.
    """
    _refuse_transaction()
    ends = time.monotonic() + wait
    refused: DeliveryError | None = None
    try:
        delivery = engine.deliver(call.pk, trigger=AttemptTrigger.INLINE, wait=wait)
        refused = delivery.error if delivery and delivery.refused else None
    except DATABASE_AWAY:
        raise
    except Exception:  # a bug of the adapter: the row is left to the sweep, as in a worker
        logger.exception("attempt_crashed", call_id=str(call.pk), adapter=call.adapter)
        ends = 0
    reread(call)
    if strict and refused is not None and not call.attempts and call.status in WAITING:
        with suppress(IllegalMove):  # a worker took it just now
            cancel_call(call_id=call.pk, reason="it could not be sent at once")
            raise refused
        reread(call)
    while call.status == CallStatus.RUNNING and (left := ends - time.monotonic()) > 0:
        time.sleep(min(POLL_SECONDS, left))
        reread(call)
    return call


def _refuse_transaction() -> None:
    if connection.in_atomic_block:
        raise RuntimeError("a call is made after the transaction has committed, never inside one")


def perform_read(
    *,
    adapter: str,
    operation: str,
    payload: Mapping[str, Any] | BaseModel,
    wait: float = 15.0,
    reference: str = "",
    account: str = "",
    created_by: str = "",
) -> OutboundCall:
    """Make a reading call inline, with the operation's short policy, and return it SUCCEEDED.

    The call is stored like any other; one that has no answer within `wait` seconds is
    cancelled, as nobody waits for it any more. Must not be called inside a transaction: raises
    RuntimeError then. Raises DeliveryError (what the last attempt met), InvalidPayload and the
    other CallRefused.
    """
    _refuse_transaction()
    if not registry.operation_of(adapter, operation).reads:
        raise CallRefused(f"{adapter}.{operation} changes something: enqueue it")
    ends = time.monotonic() + wait
    call = enqueue_call(
        adapter=adapter,
        operation=operation,
        payload=payload,
        reference=reference,
        account=account,
        created_by=created_by,
        inline=True,
    )
    error: DeliveryError | None = None
    while True:
        delivery = engine.deliver(
            call.pk, trigger=AttemptTrigger.INLINE, wait=max(ends - time.monotonic(), 0)
        )
        error = delivery.error if delivery else error
        reread(call)
        pause = POLL_SECONDS  # a worker may have picked it up between two tries
        if call.status in WAITING:
            pause = max((call.due_at - clock.now()).total_seconds(), 0)
        if call.status in SETTLED or time.monotonic() + pause >= ends:
            break
        time.sleep(pause)
    if call.status == CallStatus.SUCCEEDED:
        return call
    if call.status in WAITING:
        with suppress(IllegalMove):  # a worker took it just now
            cancel_call(call_id=call.pk, reason="nobody waits for the answer any more")
    raise error or TransientError(f"{adapter}: no answer within {wait:g} s", http_status=504)


def list_calls(
    *, filters: Mapping[str, str], after: Position | None = None, size: int = 50
) -> Page[OutboundCall]:
    """Calls without their payload, newest first. filters: by `status`, `adapter`, `reference`,
    `provider_reference` and `created_by`, which have indexes."""
    calls = OutboundCall.objects.defer("payload").filter(**filters)
    return page_of(calls, by="created_at", after=after, size=size)
