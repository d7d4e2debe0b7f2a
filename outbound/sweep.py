"""The repair that makes every loss temporary: run every few seconds, in bounded batches.

Every change is a guarded UPDATE, so a sweep that runs twice, or late, does no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from outbound import clock, hints, metrics, parking, registry
from outbound.adapters import Reply
from outbound.circuits import tell_untold, untold
from outbound.engine import (
    ENCRYPTED,
    context_for,
    decision_changes,
    hiding_text,
    load_payload,
    nothing_happened,
    outcome_changes,
    plan_for,
    standing_of,
)
from outbound.errors import CallRefused, DeliveryError, DidNotHappen
from outbound.gates import DATABASE_AWAY
from outbound.hints import Hint
from outbound.hooks import run_settled_hooks, send_settled
from outbound.models import CallAttempt, Circuit, OutboundCall
from outbound.policy import Decision, after_crash, give_up, lookup_delay
from outbound.redaction import sanitise
from outbound.states import SETTLED, AttemptOutcome, CallStatus

logger = structlog.get_logger(__name__)

ROWS = "calls"
BATCH = 500
RESOLVE_TASK = "outbound.resolve_call"

Announce = Callable[[Hint], None]


def sweep(*, limit: int = BATCH, announce: Announce | None = None) -> Counter[str]:
    """Everything that is overdue, at most `limit` rows of each sort. Returns counts by sort.

    Without `announce`, hints are published where they can reach a worker; in the embedded form
    it is the dispatcher that announces. One sort that fails does not keep the others from being
    done; what failed is raised at the end, together.
    """
    done: Counter[str] = Counter()
    failures: list[Exception] = []
    steps: dict[str, Callable[[], int]] = {
        "leases_expired": lambda: expire_leases(limit=limit),
        "out_of_time": lambda: end_out_of_time(limit=limit),
        "hooks_run": lambda: run_owed_hooks(limit=limit),
        "circuits_told": lambda: tell_untold(limit=limit),
    }
    if announce is None and hints.reaches_workers():
        announce = hints.announce
    if announce is not None:
        steps["lookups_announced"] = partial(announce_lookups, limit=limit, announce=announce)
        steps["announced"] = partial(announce_calls, limit=limit, announce=announce)
    for name, step in steps.items():
        try:
            done[name] = step()
        except Exception as error:  # noqa: BLE001 - each sort stands alone; raised below
            failures.append(error)
    if any(done.values()):
        logger.info("sweep", **done)
    if failures:
        raise ExceptionGroup("the sweep could not do everything", failures)
    return done


def overdue() -> dict[str, int]:
    """How many calls a sweep would take up, by sort."""
    now, calls = clock.now(), OutboundCall.objects
    return {
        "leases_expired": calls.expired_leases(now).count(),
        "out_of_time": calls.out_of_time(now).count(),
        "hooks_run": calls.owing_hooks(now).count(),
        "circuits_told": untold().count(),
        "lookups_announced": calls.unknown().filter(due_at__lte=now).count(),
        "announced": calls.unannounced(now).count(),
    }


def expire_leases(*, limit: int = BATCH) -> int:
    """Calls whose worker never reported back go on where that is safe, else become UNKNOWN."""
    expired = OutboundCall.objects.expired_leases(clock.now()).order_by("lease_expires_at")
    return _each(_expire_lease, expired.defer(*ENCRYPTED)[:limit])


def _each(repair: Callable[[OutboundCall], bool], calls: Iterable[OutboundCall]) -> int:
    """How many of the calls were repaired. One that cannot be does not keep the others waiting."""
    repaired = 0
    for call in calls:
        try:
            repaired += repair(call)
        except DATABASE_AWAY:
            raise
        except Exception:
            logger.exception("sweep_failed", call_id=str(call.pk), repair=repair.__name__)
    return repaired


@transaction.atomic
def _expire_lease(call: OutboundCall) -> bool:
    now = clock.now()
    try:
        standing = standing_of(call, plan_for(call), now=now)
    except (ImproperlyConfigured, CallRefused) as error:
        decision = Decision(
            CallStatus.UNKNOWN, sanitise(f"the worker was lost, and {error}")[:200], now
        )
    else:
        decision = after_crash(standing)
    owned = OutboundCall.objects.filter(
        pk=call.pk, lease_token=call.lease_token, lease_expires_at__lte=now
    ).move_to(
        decision.status,
        sources={CallStatus.RUNNING},
        now=now,
        lease_token=None,
        lease_expires_at=None,
        **decision_changes(decision, now=now),
        error_kind="crashed",
        error_message="the worker never reported back",
    )
    if not owned:
        return False
    CallAttempt.objects.filter(call=call).finish(
        AttemptOutcome.CRASHED, now=now, error_kind="crashed"
    )
    metrics.attempts.labels(call.adapter, call.operation, AttemptOutcome.CRASHED).inc()
    logger.warning(
        "lease_expired", call_id=str(call.pk), adapter=call.adapter, status=decision.status
    )
    _tell(call)
    return True


def end_out_of_time(*, limit: int = BATCH) -> int:
    """Waiting calls past their age limit, or past their key's promise, are not sent any more."""
    late = OutboundCall.objects.out_of_time(clock.now()).order_by("deadline_at")
    return _each(_end_out_of_time, late.defer(*ENCRYPTED)[:limit])


@transaction.atomic
def _end_out_of_time(call: OutboundCall) -> bool:
    now = clock.now()
    passed = call.deadline_at <= now
    why = "the age limit has passed" if passed else "the idempotency key has expired"
    try:
        standing = standing_of(call, plan_for(call), now=now)
    except (ImproperlyConfigured, CallRefused):
        maybe = CallAttempt.objects.filter(
            call=call, idempotency_key=call.idempotency_key
        ).may_have_worked().exists()  # fmt: skip
        decision = Decision(CallStatus.UNKNOWN if maybe else CallStatus.FAILED, why, now)
    else:
        decision = give_up(
            standing, why, maybe=standing.effect_possible_before and not standing.reads
        )
    error: dict[str, object] = {}
    if not call.error_kind:
        error = {"error_kind": "expired", "error_message": why, "error_http_status": 504}
    moved = OutboundCall.objects.out_of_time(now).filter(pk=call.pk).move_to(
        decision.status, sources={CallStatus(call.status)}, now=now,
        **decision_changes(decision, now=now), **error,
    )  # fmt: skip
    if moved:
        _tell(call)
    return bool(moved)


def _tell(call: OutboundCall) -> None:
    call.refresh_from_db()
    if call.status in SETTLED:
        run_settled_hooks(call, now=clock.now())
        send_settled(call)


def run_owed_hooks(*, limit: int = BATCH) -> int:
    """Hooks that failed are run again. Returns how many calls are square with their tenant."""
    owing = OutboundCall.objects.owing_hooks(clock.now()).order_by("hook_due_at")
    return _each(_run_owed_hooks, owing.only("pk")[:limit])


@transaction.atomic
def _run_owed_hooks(owing: OutboundCall) -> bool:
    now = clock.now()
    locked = OutboundCall.objects.select_for_update().owing_hooks(now).defer(*ENCRYPTED)
    call = locked.filter(pk=owing.pk).first()
    return call is not None and run_settled_hooks(call, now=now)


def announce_due(*, limit: int, announce: Announce) -> int:
    """Everything that a worker could do now, at most `limit` rows; what the embedded dispatcher
    feeds from. Returns how many were announced."""
    announced = announce_calls(limit=limit, announce=announce)
    return announced + announce_lookups(limit=limit - announced, announce=announce)


def announce_calls(*, limit: int = BATCH, announce: Announce) -> int:
    """Say again which calls are due and that nobody took. `hint_at` moves on with it, so that a
    long queue is not announced over and over. Of a circuit that is open, or has just closed, only
    those that may go now."""
    now = clock.now()
    again_at = now + timedelta(seconds=settings.OUTBOUND_REANNOUNCE_SECONDS)
    announced = 0
    held = parking.held_circuits()
    due = parking.unheld(OutboundCall.objects.unannounced(now), held)
    for call in due.only("pk", "adapter")[:limit]:
        won = OutboundCall.objects.unannounced(now).filter(pk=call.pk).update(hint_at=again_at)
        if won:
            announce(parking.deliver_hint(call))
            announced += 1
    for circuit in held:
        announced += parking.let_go(circuit, limit=limit - announced, announce=announce)
    return announced


def forget_announcements() -> None:
    """Due calls that were announced are announced anew: the messages went with a broker that
    lived in a worker's memory."""
    now = clock.now()
    OutboundCall.objects.waiting().filter(due_at__lte=now, hint_at__gt=now).update(hint_at=now)


def announce_lookups(*, limit: int = BATCH, announce: Announce) -> int:
    """UNKNOWN calls whose adapter can look them up, when the next look-up is due."""
    now = clock.now()
    due = OutboundCall.objects.unknown().filter(due_at__lte=now).order_by("due_at")
    due = due.exclude(circuit__in=Circuit.objects.blocking().values("name"))
    announced = 0
    for call in due.only("pk", "adapter", "lookups", "due_at", "created_at")[:limit]:
        looks = _can_resolve(call.adapter)
        wait = lookup_delay(call.lookups) if looks else timedelta(days=1)
        won = OutboundCall.objects.unknown().filter(pk=call.pk, due_at=call.due_at).update(
            due_at=now + wait, lookups=call.lookups + 1 if looks else call.lookups
        )  # fmt: skip
        if won and looks:
            queue = parking.queue_of(call.adapter)
            announce(Hint(RESOLVE_TASK, queue, {"call_id": str(call.pk)}))
            announced += 1
    return announced


def _can_resolve(adapter: str) -> bool:
    try:
        return registry.adapter_class(adapter).can_resolve()
    except (ImproperlyConfigured, CallRefused):
        return False


def look_up(call_id: str) -> bool:
    """Ask the provider whether an UNKNOWN call happened. Returns whether that settled it."""
    call = OutboundCall.objects.unknown().filter(pk=call_id).defer(*ENCRYPTED).first()
    if call is None:
        return False
    try:
        plan = plan_for(call)
        payload = load_payload(call, plan.operation)
        context = replace(
            context_for(call, plan.policy, operation=plan.operation), asked_at=_asked_at(call)
        )
        with hiding_text(call):
            reply = plan.adapter.resolve(call.operation, payload, context)
    except DidNotHappen as proof:
        return _settle_lookup(call, CallStatus.FAILED, proof)
    except (DeliveryError, ImproperlyConfigured, CallRefused) as error:
        logger.warning(
            "lookup_failed", call_id=str(call.pk), adapter=call.adapter, error=type(error).__name__
        )
        return False
    if reply is None:
        logger.info("lookup_found_nothing", call_id=str(call.pk), lookups=call.lookups)
        return False
    return _settle_lookup(call, CallStatus.SUCCEEDED, reply)


def _asked_at(call: OutboundCall) -> datetime | None:
    attempts = CallAttempt.objects.filter(call=call).order_by("-number")
    return attempts.values_list("started_at", flat=True).first()


@transaction.atomic
def _settle_lookup(call: OutboundCall, status: CallStatus, found: Reply | DeliveryError) -> bool:
    now = clock.now()
    failed = status == CallStatus.FAILED
    # what was found says nothing about an attempt that was made meanwhile
    same = {"idempotency_key": call.idempotency_key, "attempts": call.attempts}
    moved = OutboundCall.objects.filter(pk=call.pk, **same).move_to(
        status,
        sources={CallStatus.UNKNOWN},
        now=now,
        finished_at=now,
        rule="the provider shows that it failed" if failed else "found at the provider",
        **outcome_changes(found),
    )
    if moved and failed:
        nothing_happened(call)
    if moved:
        _tell(call)
    return bool(moved)
