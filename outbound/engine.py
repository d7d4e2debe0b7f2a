"""One attempt: gate, claim, call, settle. No lock and no transaction is held during the call."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from os import getpid

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from pydantic import BaseModel, ValidationError

from outbound import clock, gates, metrics, registry
from outbound.adapters import Adapter, Operation, Reply
from outbound.blobs import read_blob
from outbound.client import CallContext, Timeouts
from outbound.errors import (
    AdapterBug,
    CallRefused,
    DeliveryError,
    NotSentHere,
    RateLimited,
    TransientError,
)
from outbound.fields import canonical_json
from outbound.gates import DATABASE_AWAY, Passage, Refusal
from outbound.hooks import run_postponed_hooks, run_settled_hooks, send_settled
from outbound.models import CallAttempt, OutboundCall
from outbound.parking import park
from outbound.policy import HINT_LIMIT, Decision, Policy, Standing, decide
from outbound.redaction import sanitise, storable, visible
from outbound.statements import find, insert, update
from outbound.states import SETTLED, AttemptOutcome, AttemptTrigger, CallStatus
from outbound.transactions import whole

logger = structlog.get_logger(__name__)

PARK_SECONDS = 60.0
PAUSE_SECONDS = 0.5  # between two tries to settle while the database is away
ENCRYPTED = ("payload", "result")


@dataclass(frozen=True, slots=True)
class Plan:
    """A call, and all that its settings say about how it is made."""

    call: OutboundCall
    adapter: Adapter
    operation: Operation
    policy: Policy


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one attempt, until the lease ends."""

    call: OutboundCall
    attempt: CallAttempt
    token: uuid.UUID
    plan: Plan
    context: CallContext
    lease_ends: float  # monotonic seconds
    passage: Passage | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one attempt, or of the refusal to make one (`refused`). `hint_in`: seconds
    after which a message should speak of the call again; None where that is left to the row and
    the sweep."""

    call_id: str
    decision: Decision
    error: DeliveryError | None = None
    hint_in: float | None = None
    refused: bool = False


def deliver(
    call_id: str | uuid.UUID,
    *,
    trigger: AttemptTrigger = AttemptTrigger.AUTO,
    wait: float | None = None,
) -> Delivery | None:
    """Make one attempt at a call if it is due and nobody else has it; None otherwise. A call that
    may not go now is parked, and the Delivery tells why.

    `wait` shortens the attempt to the seconds that somebody is ready to wait for it.
    Anticipated failures are settled and returned. Otherwise the row is left to the sweep: raises
    AdapterBug, or DATABASE_AWAY.
    """
    for fresh in (False, True):  # its circuit may open between the gates and the claim
        plan = gate(call_id)
        if plan is None:
            return None
        passage = gates.enter(plan.call, fresh=fresh, inline=trigger == AttemptTrigger.INLINE)
        if isinstance(passage, Refusal):
            return refuse(plan.call, passage)
        with leaving_on_error(passage):
            claim = claim_call(plan, trigger=trigger, wait=wait, passage=passage)
            if claim is not None:
                with hiding_text(claim.call):
                    outcome = call_provider(claim)
                return settle(claim, outcome)
        passage.leave()
    return None


@contextmanager
def leaving_on_error(passage: Passage) -> Iterator[None]:
    """Around an attempt: what it held is given back when nobody knows how it ended."""
    try:
        yield
    except BaseException:
        passage.leave()
        raise


def refuse(call: OutboundCall, refusal: Refusal) -> Delivery:
    """Park a call that may not go now."""
    parked = park(
        call,
        until=refusal.retry_at,
        why=refusal.error.message,
        waits_for=refusal.waits_for,
        error=refusal.error,
        exact=refusal.exact,
    )
    if parked:
        run_postponed_hooks(call)
    decision = Decision(CallStatus(call.status), refusal.error.message, refusal.retry_at)
    return Delivery(str(call.pk), decision, refusal.error, refused=True)


@contextmanager
def hiding_text(call: OutboundCall) -> Iterator[None]:
    """Around an adapter's code: what nobody foresaw is raised as AdapterBug, with its traceback."""
    try:
        yield
    except (DeliveryError, CallRefused, ImproperlyConfigured):
        raise
    except Exception as bug:  # noqa: BLE001 - raised again, without a text that may quote
        what = f"{type(bug).__name__} in {call.adapter}.{call.operation}"
        raise AdapterBug(what).with_traceback(bug.__traceback__) from None


def gate(call_id: str | uuid.UUID) -> Plan | None:
    """Is it due, and can it be sent from here? None when not; then it is parked."""
    now = clock.latest()
    try:
        call = find(OutboundCall, call_id)
        if call is None or not call.is_ready(now):
            return None
        plan = plan_for(call)
        load_payload(call, plan.operation)
    except (ImproperlyConfigured, CallRefused) as error:
        for call in OutboundCall.objects.ready(now).filter(pk=call_id).defer(*ENCRYPTED):
            until = clock.now() + timedelta(seconds=PARK_SECONDS)
            park(call, until=until, why=f"cannot be sent from here: {error}")
        return None
    return plan


def plan_for(call: OutboundCall) -> Plan:
    """Raises UnknownAdapter, UnknownOperation, ImproperlyConfigured."""
    return Plan(
        call=call,
        adapter=registry.adapter_for(call.adapter),
        operation=registry.operation_of(call.adapter, call.operation),
        policy=registry.policy_for(call.adapter, call.operation),
    )


def claim_call(
    plan: Plan,
    *,
    trigger: AttemptTrigger,
    wait: float | None,
    passage: Passage | None = None,
) -> Claim | None:
    """Take the call, count the attempt and write its row, in one transaction. None when a
    duplicate or stale hint came here and there is nothing to take, or when the call's circuit
    has opened and the call is no probe."""
    probe = passage is not None and passage.probe
    token, lease = uuid.uuid4(), timedelta(seconds=settings.OUTBOUND_LEASE_SECONDS)
    claimed_at = time.monotonic()
    with whole():
        now = clock.fresh()  # the lease has to hold against every other process
        call = plan.call
        if not call.take(
            now=now,
            latest=clock.latest(),
            token=token,
            lease=lease,
            key_lives=plan.operation.key_lifetime,
            probe=probe,
        ):
            return None
        attempt = CallAttempt(
            call=call,
            number=call.attempts,
            circuit=call.circuit,
            trigger=AttemptTrigger.PROBE if probe else trigger,
            idempotency_key=call.idempotency_key,
            started_at=now,
            worker=worker_name(),
            effect_possible=not plan.operation.reads,
            request_summary=visible(call.payload, plan.adapter.visible_fields),
        )
        insert(attempt)
    return Claim(
        call=call,
        attempt=attempt,
        token=token,
        plan=plan,
        context=context_for(
            call, plan.policy, operation=plan.operation, wait=wait, started=claimed_at
        ),
        lease_ends=claimed_at + lease.total_seconds(),
        passage=passage,
        inline=trigger == AttemptTrigger.INLINE,
    )


def context_for(
    call: OutboundCall,
    policy: Policy,
    *,
    operation: Operation,
    wait: float | None = None,
    started: float | None = None,
) -> CallContext:
    """What the adapter may know. A wait shortens the total deadline only where a cut attempt
    can be repeated: cutting another one would make its outcome unknown. The deadline counts
    from `started` (monotonic; default now): a worker that was frozen after it has claimed the
    call has no time left to send."""
    total = policy.total_timeout
    if wait is not None and (operation.keyed or operation.reads):
        total = min(total, max(wait, policy.connect_timeout))
    return CallContext(
        call_id=str(call.pk),
        idempotency_key=call.idempotency_key,
        account=call.account,
        request_id=call.request_id,
        timeouts=Timeouts(policy.connect_timeout, policy.read_timeout, total),
        ends=(time.monotonic() if started is None else started) + total,
        read_blob=read_blob,
    )


def worker_name() -> str:
    """Host, process and thread: enough to find the log lines of an attempt."""
    return f"{socket.gethostname()}:{getpid()}:{threading.current_thread().name}"[:100]


def call_provider(claim: Claim) -> Reply | DeliveryError:
    """The call itself. Bugs of an adapter are raised."""
    try:
        payload = load_payload(claim.call, claim.plan.operation)
        return claim.plan.adapter.perform(claim.call.operation, payload, claim.context)
    except DeliveryError as error:
        return error
    except ImproperlyConfigured as error:  # the client refuses an address before it sends
        return NotSentHere(
            f"cannot be sent from here: {error}",
            http_status=500,
            effect_possible=bool(claim.context.exchange.method),
        )


def load_payload(call: OutboundCall, operation: Operation) -> BaseModel:
    """The payload as the operation's model, read back from the row. Raises CallRefused when it
    does not fit, as may be when code of another version has stored it."""
    try:
        return operation.payload_model.model_validate_json(canonical_json(call.payload))
    except ValidationError as error:
        wrong = sorted({str(found["loc"][0]) for found in error.errors() if found["loc"]})
        raise CallRefused(
            f"the stored payload does not fit {operation.name}: {', '.join(wrong)}"
        ) from None


def settle(claim: Claim, outcome: Reply | DeliveryError) -> Delivery | None:
    """Write what became of the attempt, and tell the tenant. None when the lease was lost: then
    another process has decided, and nothing is written.

    A known answer is not thrown away because the database is away for a moment: it is tried
    again until the lease ends.
    """
    delivery = _settle_patiently(claim, outcome)
    _log_attempt(claim, outcome, delivery)
    if claim.passage is not None:
        verdict = _verdict(outcome) if delivery else None
        claim.passage.leave(verdict, seconds=claim.context.exchange.duration)
    if delivery is not None and delivery.decision.status in SETTLED:
        send_settled(claim.call)
    return delivery


def _verdict(outcome: Reply | DeliveryError) -> bool | DeliveryError | None:
    """What an outcome says about the provider: True that it works, the error that it does not,
    None nothing. Refusals and our own trouble say nothing."""
    if isinstance(outcome, Reply):
        return True
    troubled = attempt_outcome(outcome) in (AttemptOutcome.TRANSIENT, AttemptOutcome.UNKNOWN)
    return outcome if troubled and not isinstance(outcome, NotSentHere) else None


def _settle_patiently(claim: Claim, outcome: Reply | DeliveryError) -> Delivery | None:
    while True:
        try:
            return _settle_once(claim, outcome)
        except DATABASE_AWAY as error:
            if connection.in_atomic_block or time.monotonic() + PAUSE_SECONDS > claim.lease_ends:
                raise
            logger.warning(
                "settle_postponed", call_id=str(claim.call.pk), error=type(error).__name__
            )
            connection.close()
            time.sleep(PAUSE_SECONDS)


def _settle_once(claim: Claim, outcome: Reply | DeliveryError) -> Delivery | None:
    with whole():
        return _settled(claim, outcome)


def _settled(claim: Claim, outcome: Reply | DeliveryError) -> Delivery | None:
    now = clock.now()
    error = outcome if isinstance(outcome, DeliveryError) else None
    standing = standing_of(claim.call, claim.plan, now=now, before=claim.attempt)
    decision = decide(claim.plan.policy, standing, error)
    hint_in = None if claim.inline else _hint_in(decision, now)
    owned = claim.call.leave(
        decision.status,
        token=claim.token,
        now=now,
        **decision_changes(decision, now=now, hint_in=hint_in),
        **outcome_changes(outcome),
    )
    if not owned:
        return None
    finish_attempt(claim, outcome, now=now)
    if decision.status == CallStatus.FAILED and standing.effect_possible_before:
        nothing_happened(claim.call)
    if decision.status in SETTLED:
        run_settled_hooks(claim.call, now=now)
    elif decision.status == CallStatus.RETRYING:
        run_postponed_hooks(claim.call)
    if isinstance(error, TransientError):
        error.hint_in = hint_in
    return Delivery(str(claim.call.pk), decision, error, hint_in)


def _hint_in(decision: Decision, now: datetime) -> float | None:
    if decision.status != CallStatus.RETRYING or decision.due_at is None:
        return None
    seconds = (decision.due_at - now).total_seconds()
    return seconds if seconds <= HINT_LIMIT else None


def decision_changes(
    decision: Decision, *, now: datetime, hint_in: float | None = None
) -> dict[str, object]:
    """The columns that a decision sets, whoever takes it."""
    changes: dict[str, object] = {"rule": decision.rule[:200]}
    if decision.due_at is not None:
        changes["due_at"] = decision.due_at
        grace = settings.OUTBOUND_HINT_GRACE_SECONDS if hint_in is not None else 0
        changes["hint_at"] = decision.due_at + timedelta(seconds=grace)
    if decision.status in SETTLED - {CallStatus.UNKNOWN}:
        changes["finished_at"] = now
    if decision.status == CallStatus.UNKNOWN:
        changes["lookups"] = 0
    return changes


def outcome_changes(outcome: Reply | DeliveryError) -> dict[str, object]:
    """The columns that an answer sets."""
    if isinstance(outcome, Reply):
        return {
            "result": outcome.result,
            "provider_reference": storable(outcome.provider_reference),
            "error_kind": "",
            "error_code": "",
            "error_param": "",
            "error_message": "",
            "error_http_status": None,
        }
    return {
        "error_kind": outcome.kind,
        "error_code": sanitise(outcome.code, limit=100),
        "error_param": sanitise(outcome.param, limit=100),
        "error_message": sanitise(outcome.message),
        "error_http_status": outcome.http_status,
    }


def finish_attempt(claim: Claim, outcome: Reply | DeliveryError, *, now: datetime) -> None:
    exchange = claim.context.exchange
    error = outcome if isinstance(outcome, DeliveryError) else None
    reads = claim.plan.operation.reads
    changes = {
        "outcome": attempt_outcome(error),
        "finished_at": now,
        "duration": now - claim.attempt.started_at,
        "effect_possible": not reads and (error is None or error.effect_possible),
        "error_kind": error.kind if error else "",
        "error_code": sanitise(error.code, limit=100) if error else "",
        "error_message": sanitise(error.message) if error else "",
        "http_status": exchange.status,
        "provider_request_id": sanitise(outcome.provider_request_id, limit=255),
        "response_summary": (
            None
            if exchange.reply is None
            else visible(exchange.reply, claim.plan.adapter.visible_fields)
        ),
    }
    for name, value in changes.items():
        setattr(claim.attempt, name, value)
    update(claim.attempt, *changes)


def nothing_happened(call: OutboundCall) -> None:
    """It is known now that no attempt with the present key had an effect."""
    CallAttempt.objects.filter(call=call, idempotency_key=call.idempotency_key).update(
        effect_possible=False
    )


def attempt_outcome(error: DeliveryError | None) -> AttemptOutcome:
    if error is None:
        return AttemptOutcome.SUCCEEDED
    if isinstance(error, RateLimited):
        return AttemptOutcome.RATE_LIMITED
    if not isinstance(error, TransientError):
        return AttemptOutcome.PERMANENT
    return AttemptOutcome.UNKNOWN if error.effect_possible else AttemptOutcome.TRANSIENT


def standing_of(
    call: OutboundCall, plan: Plan, *, now: datetime, before: CallAttempt | None = None
) -> Standing:
    """What is known about a call now. `before`: look only at the attempts made before this one,
    with the same key."""
    effect_possible, status = False, None
    if before is None or before.number > 1:
        earlier = CallAttempt.objects.filter(call=call, idempotency_key=call.idempotency_key)
        if before is not None:
            earlier = earlier.filter(number__lt=before.number)
        effect_possible = earlier.may_have_worked().exists()
        status = earlier.order_by("-number").values_list("http_status", flat=True).first()
    return Standing(
        now=now,
        attempts=call.attempts,
        max_attempts=call.max_attempts,
        deadline_at=call.deadline_at,
        key_expires_at=call.key_expires_at,
        reads=plan.operation.reads,
        keyed=plan.operation.keyed,
        replays_failures=plan.operation.replays_failures,
        effect_possible_before=effect_possible,
        previous_status=status,
    )


def _log_attempt(claim: Claim, outcome: Reply | DeliveryError, delivery: Delivery | None) -> None:
    error = outcome if isinstance(outcome, DeliveryError) else None
    due_at = delivery.decision.due_at if delivery else None
    ended = attempt_outcome(error) if delivery else "lease_lost"
    names = (claim.call.adapter, claim.call.operation)
    metrics.attempts.labels(*names, ended).inc()
    metrics.attempt_seconds.labels(*names).observe(claim.context.exchange.duration)
    if claim.attempt.number > 1:
        metrics.retries.labels(*names).inc()
    logger.info(
        "attempt",
        call_id=str(claim.call.pk),
        adapter=claim.call.adapter,
        operation=claim.call.operation,
        attempt=claim.attempt.number,
        outcome=ended,
        status=delivery.decision.status if delivery else None,
        error_kind=error.kind if error else None,
        duration=round(claim.context.exchange.duration, 4),
        next_due=due_at.isoformat() if due_at else None,
        request_id=claim.call.request_id or None,
    )
