"""What people and providers' events do to a call or a circuit, outside of its ordinary way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F

from outbound import clock, hints, parking, registry
from outbound.engine import ENCRYPTED, nothing_happened
from outbound.errors import CallRefused, IllegalMove, KeyExpired, ReasonRequired
from outbound.hooks import run_settled_hooks, send_settled
from outbound.ids import uuid7
from outbound.models import CallAttempt, CallNote, Circuit, OutboundCall
from outbound.parking import deliver_hint
from outbound.redaction import storable
from outbound.settlement import revived_hooks
from outbound.states import WAITING, AttemptOutcome, CallStatus, CircuitMode, sources_of


@transaction.atomic
def operate_circuit(*, name: str, mode: CircuitMode, reason: str = "", actor: str = "") -> None:
    """Force a circuit open or closed, let it only observe, or let it decide by itself again.

    Raises CallRefused when there is no such circuit, ReasonRequired (not for AUTO)."""
    circuit = Circuit.objects.filter(pk=name).first()
    if circuit is None:
        raise CallRefused(f"there is no circuit {name[:60]!r}")
    breaker = registry.breaker_for(circuit.name, circuit.adapter)
    breaker.force(mode, reason=reason, actor=actor)
    transaction.on_commit(partial(parking.follow, circuit.name))


def find_call(call_id: object) -> OutboundCall | None:
    """The call of that id; None when there is none, or when it is no id at all."""
    # without its payload: what cannot be decrypted can still be looked at, and be cancelled
    return OutboundCall.objects.with_id(call_id).defer("payload").first()


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
    rows = OutboundCall.objects.select_for_update().defer(*ENCRYPTED)
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
        hint_at=now + hints.grace(),
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
        nothing_happened(call)
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
