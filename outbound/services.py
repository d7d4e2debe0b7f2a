"""The front door of the outbound engine: what other apps call. Names are keyword-only.

`enqueue_call` belongs inside the caller's transaction: the call exists if and only if that
transaction commits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from pydantic import BaseModel, ValidationError

from outbound import clock, engine, hints, registry
from outbound.adapters import Operation
from outbound.errors import (
    CallRefused,
    DeliveryError,
    FieldError,
    IllegalMove,
    InvalidPayload,
    KeyExpired,
    KeyReused,
    ReasonRequired,
    TransientError,
)
from outbound.fields import canonical_json
from outbound.hints import Hint
from outbound.hooks import run_settled_hooks, send_settled
from outbound.ids import uuid7
from outbound.models import CallAttempt, CallNote, OutboundCall
from outbound.paging import Page, Position, page_of
from outbound.redaction import storable
from outbound.request_ids import current_request_id
from outbound.settlement import revived_hooks
from outbound.states import SETTLED, WAITING, AttemptOutcome, AttemptTrigger, CallStatus, sources_of

__all__ = [
    "CallAttempt",
    "OutboundCall",
    "cancel_call",
    "deliver_now",
    "enqueue_call",
    "find_call",
    "list_calls",
    "perform_read",
    "resolve_call",
    "retry_call",
    "retry_call_as_new",
    "settle_from_event",
]

logger = structlog.get_logger(__name__)

DELIVER_TASK = "outbound.deliver_call"
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
    inline: bool = False,
) -> OutboundCall:
    """Store a call, to be made soon after the current transaction commits.

    idempotency_key: the caller's own (1 to 255 visible ASCII characters). Used again with the
    same content it returns the call that is there. Without one, a key is minted.
    not_before: the earliest time of the first attempt. inline: the caller goes on to
    `deliver_now`, so nobody else is told for the first minute.

    Raises UnknownAdapter, UnknownOperation, InvalidPayload (with a pointer to each field),
    KeyReused.
    """
    spec = registry.operation_of(adapter, operation)
    document = validate_payload(spec, payload)
    request_id = current_request_id() if request_id is None else request_id
    _check_key(idempotency_key)
    _check_text(
        reference=(reference, 255),
        account=(account, 100),
        request_id=(request_id, 128),
        created_by=(created_by, 150),
    )
    policy = registry.policy_for(adapter, operation)
    now = clock.now()
    due_at = max(not_before, now) if not_before else now
    call_id = uuid7()
    call = OutboundCall(
        id=call_id,
        adapter=adapter,
        operation=operation,
        account=account,
        payload=document,
        dedupe_key=idempotency_key,
        idempotency_key=idempotency_key or f"hf-{call_id}",
        status=CallStatus.PENDING,
        max_attempts=policy.max_attempts,
        due_at=due_at,
        hint_at=due_at + (_hint_grace(inline=inline) if due_at <= now else timedelta(0)),
        deadline_at=due_at + timedelta(seconds=policy.age_limit),
        reference=reference,
        request_id=request_id,
        created_by=created_by,
        created_at=now,
        updated_at=now,
    )
    if idempotency_key is None:
        call.save(force_insert=True)
    else:
        existing = _insert_or_find(call)
        if existing is not None:
            return existing
    if not inline and due_at <= now:
        hints.announce_on_commit(deliver_hint(call))
    return call


def _hint_grace(*, inline: bool) -> timedelta:
    if inline:
        return INLINE_GRACE
    return hints.grace()


def _insert_or_find(call: OutboundCall) -> OutboundCall | None:
    """Insert, and let the unique constraint decide; the existing call when it was there.

    Compared as they are stored, for to Python 1, 1.0 and True are equal."""
    try:
        with transaction.atomic():
            call.save(force_insert=True)
    except IntegrityError:
        existing = OutboundCall.objects.filter(
            adapter=call.adapter, account=call.account, dedupe_key=call.dedupe_key
        ).first()
        if existing is None:
            raise KeyReused("this idempotency key belongs to another call") from None
        same = canonical_json(existing.payload) == canonical_json(call.payload)
        if existing.operation != call.operation or not same:
            raise KeyReused(
                "this idempotency key was used with another operation or payload"
            ) from None
        return existing
    return None


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


def _check_key(key: object) -> None:
    if key is not None and not (
        isinstance(key, str)
        and 1 <= len(key) <= MAX_KEY_LENGTH
        and all("!" <= character <= "~" for character in key)
    ):
        detail = f"must be 1 to {MAX_KEY_LENGTH} visible ASCII characters"
        raise InvalidPayload([FieldError("/idempotency_key", detail)])


def _check_text(**texts: tuple[object, int]) -> None:
    errors = [
        FieldError(f"/{name}", f"must be text of at most {limit} characters, without NUL")
        for name, (value, limit) in texts.items()
        if not isinstance(value, str) or len(value) > limit or not _storable(value)
    ]
    if errors:
        raise InvalidPayload(errors)


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def deliver_hint(call: OutboundCall) -> Hint:
    return Hint(DELIVER_TASK, registry.queue_for(call.adapter), {"call_id": str(call.pk)})


def deliver_now(*, call: OutboundCall, wait: float) -> OutboundCall:
    """Make the first attempt here and now, for at most `wait` seconds, and return the call as it
    stands then. What fails for the moment goes on in the background; when another process has
    the call, its outcome is awaited until the time is up.

    Must not be called inside a transaction: the call would not be committed yet, and no
    transaction may be held during a call. Raises RuntimeError then.
    """
    _refuse_transaction()
    ends = time.monotonic() + wait
    try:
        engine.deliver(call.pk, trigger=AttemptTrigger.INLINE, wait=wait)
    except engine.DATABASE_AWAY:
        raise
    except Exception:  # a bug of the adapter: the row is left to the sweep, as in a worker
        logger.exception("attempt_crashed", call_id=str(call.pk), adapter=call.adapter)
        ends = 0
    call.refresh_from_db()
    while call.status == CallStatus.RUNNING and (left := ends - time.monotonic()) > 0:
        time.sleep(min(POLL_SECONDS, left))
        call.refresh_from_db()
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
        inline=True,
    )
    error: DeliveryError | None = None
    while True:
        delivery = engine.deliver(
            call.pk, trigger=AttemptTrigger.INLINE, wait=max(ends - time.monotonic(), 0)
        )
        error = delivery.error if delivery else error
        call.refresh_from_db()
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


def find_call(call_id: object) -> OutboundCall | None:
    """The call of that id; None when there is none, or when it is no id at all."""
    return OutboundCall.objects.with_id(call_id).first()


def list_calls(
    *, filters: Mapping[str, str], after: Position | None = None, size: int = 50
) -> Page[OutboundCall]:
    """Calls without their payload, newest first. filters: by `status`, `adapter`, `reference`,
    `provider_reference` and `created_by`, which have indexes."""
    calls = OutboundCall.objects.defer("payload").filter(**filters)
    return page_of(calls, by="created_at", after=after, size=size)


@transaction.atomic
def retry_call(*, call_id: object, actor: str = "", reason: str = "") -> OutboundCall:
    """Send a FAILED call again, or an UNKNOWN one that is safe to repeat, with the same key.

    Raises IllegalMove (wrong status, or gone), KeyExpired (the provider may have forgotten the
    key, so the same key would be a new effect), RetryRefused (the tenant says no).
    """
    call = _locked(call_id)
    spec = registry.operation_of(call.adapter, call.operation)
    now = clock.now()
    if call.status not in (CallStatus.FAILED, CallStatus.UNKNOWN):
        raise IllegalMove(f"a {call.status} call cannot be retried")
    if call.key_expires_at is not None and call.key_expires_at <= now:
        raise KeyExpired("the provider may have forgotten the key by now; retry as new instead")
    if call.status == CallStatus.UNKNOWN and not (spec.keyed or spec.reads):
        raise IllegalMove("it may have happened, and sending it again would do it twice")
    target = CallStatus.RETRYING if call.status == CallStatus.UNKNOWN else CallStatus.PENDING
    return _revive(call, target, now=now, action="retry", actor=actor, reason=reason)


@transaction.atomic
def retry_call_as_new(*, call_id: object, reason: str, actor: str = "") -> OutboundCall:
    """Send a FAILED call again with a new key: to the provider it is another call.

    Raises ReasonRequired, IllegalMove, RetryRefused.
    """
    if not reason.strip():
        raise ReasonRequired("say why this call must be made again with a new key")
    call = _locked(call_id)
    return _revive(
        call,
        CallStatus.PENDING,
        now=clock.now(),
        action="retry as new",
        actor=actor,
        reason=reason,
        idempotency_key=f"hf-{uuid7()}",
        key_expires_at=None,
    )


def _locked(call_id: object) -> OutboundCall:
    # what cannot be decrypted can still be cancelled, or be settled by a person's word
    rows = OutboundCall.objects.select_for_update().defer(*engine.ENCRYPTED)
    call = rows.with_id(call_id).first()
    if call is None:
        raise IllegalMove(f"there is no call {str(call_id)[:60]!r}")
    return call


def _revive(
    call: OutboundCall,
    target: CallStatus,
    *,
    now: datetime,
    action: str,
    actor: str,
    reason: str,
    **changes: Any,
) -> OutboundCall:
    policy = registry.policy_for(call.adapter, call.operation)
    source = CallStatus.UNKNOWN if target == CallStatus.RETRYING else CallStatus.FAILED
    moved = OutboundCall.objects.filter(pk=call.pk).move_to(
        target,
        sources={source},
        now=now,
        due_at=now,
        hint_at=now + _hint_grace(inline=False),
        deadline_at=now + timedelta(seconds=policy.age_limit),
        max_attempts=F("attempts") + policy.max_attempts,
        finished_at=None,
        hook_due_at=None,
        hook_attempts=0,
        hook_error="",
        rule=storable(f"{action} by {actor or 'the application'}", limit=200),
        **changes,
    )
    if not moved:
        raise IllegalMove(f"a {call.status} call cannot be retried")
    call.refresh_from_db()
    for hook in revived_hooks(call.adapter, call.operation):
        hook(call)
    _note(call, action, now=now, actor=actor, reason=reason)
    hints.announce_on_commit(deliver_hint(call))
    return call


@transaction.atomic
def cancel_call(*, call_id: object, actor: str = "", reason: str = "") -> OutboundCall:
    """Stop a waiting call. It becomes CANCELLED; where an earlier attempt may have worked it
    becomes UNKNOWN instead, for "cancelled" would be a guess. Raises IllegalMove."""
    call, now = _locked(call_id), clock.now()
    attempts = CallAttempt.objects.filter(call=call, idempotency_key=call.idempotency_key)
    maybe = attempts.may_have_worked().exists()
    target = CallStatus.UNKNOWN if maybe else CallStatus.CANCELLED
    rule = f"cancelled by {actor or 'the application'}"
    changes: dict[str, Any] = {"finished_at": now}
    if maybe:
        rule += "; an earlier attempt may have worked"
        changes = {"due_at": now, "lookups": 0}
    moved = OutboundCall.objects.filter(pk=call.pk).move_to(
        target,
        sources=WAITING & sources_of(target),
        now=now,
        rule=storable(rule, limit=200),
        **changes,
    )
    if not moved:
        raise IllegalMove(f"a {call.status} call cannot be cancelled")
    call.refresh_from_db()
    _note(call, "cancel", now=now, actor=actor, reason=reason)
    run_settled_hooks(call, now=now)
    send_settled(call)
    return call


@transaction.atomic
def resolve_call(
    *,
    call_id: object,
    succeeded: bool,
    reason: str,
    actor: str = "",
    provider_reference: str = "",
) -> OutboundCall:
    """A person says what became of an UNKNOWN call. Raises ReasonRequired, IllegalMove."""
    if not reason.strip():
        raise ReasonRequired("say how you know what became of this call")
    call, now = _locked(call_id), clock.now()
    target = CallStatus.SUCCEEDED if succeeded else CallStatus.FAILED
    changes = {"provider_reference": storable(provider_reference)} if succeeded else {}
    moved = OutboundCall.objects.filter(pk=call.pk).move_to(
        target,
        sources={CallStatus.UNKNOWN},
        now=now,
        finished_at=now,
        rule=storable(f"{target} according to {actor or 'the application'}", limit=200),
        **changes,
    )
    if not moved:
        raise IllegalMove(f"a {call.status} call needs no resolving")
    call.refresh_from_db()
    if not succeeded:
        engine.nothing_happened(call)
    _note(call, f"resolve as {target}", now=now, actor=actor, reason=reason)
    run_settled_hooks(call, now=now)
    send_settled(call)
    return call


@transaction.atomic
def settle_from_event(
    *,
    call_id: object,
    idempotency_key: str,
    result: Mapping[str, Any],
    provider_reference: str,
) -> bool:
    """The provider's own event proves that a RUNNING or UNKNOWN call worked. Returns whether it
    was settled by this. The key must be the call's present one: an object that an older key
    made says nothing about the new one."""
    call = find_call(call_id)
    if call is None or call.idempotency_key != idempotency_key:
        return False
    now = clock.now()
    moved = OutboundCall.objects.filter(pk=call.pk, idempotency_key=idempotency_key).move_to(
        CallStatus.SUCCEEDED,
        now=now,
        finished_at=now,
        lease_token=None,
        lease_expires_at=None,
        result=dict(result),
        provider_reference=storable(provider_reference),
        rule="the provider's event says that it worked",
        error_kind="",
        error_code="",
        error_param="",
        error_message="",
        error_http_status=None,
    )
    if not moved:
        return False
    CallAttempt.objects.filter(call=call).finish(AttemptOutcome.SUPERSEDED, now=now)
    call.refresh_from_db()
    run_settled_hooks(call, now=now)
    send_settled(call)
    return True


def _note(call: OutboundCall, action: str, *, now: datetime, actor: str, reason: str) -> None:
    if actor or reason:
        CallNote.objects.create(
            call=call,
            at=now,
            actor=storable(actor, limit=150),
            action=action,
            reason=storable(reason.strip(), limit=500),
        )
