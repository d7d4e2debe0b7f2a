"""One try: claim, then handlers and mark in one transaction, or the failure in another."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F

from outbound import clock, hints
from outbound.redaction import sanitise
from webhooks import metrics, policy
from webhooks.announcements import hint_grace, process_hint
from webhooks.errors import NotOurs, NotYet
from webhooks.handlers import Event, handlers_for
from webhooks.models import EventNote, WebhookEvent
from webhooks.policy import Decision
from webhooks.signals import event_processed
from webhooks.sources import source_for
from webhooks.states import EventStatus

logger = structlog.get_logger(__name__)

BUSY_SECONDS = 5.0  # until an event is announced again that another one of its object kept out


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to handle one event, until the lease ends."""

    event_id: uuid.UUID  # of our row
    token: uuid.UUID


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one try. The row is as the try found it."""

    row: WebhookEvent
    decision: Decision


class LeaseLost(Exception):
    """The event was moved while its handlers were at work: their effects are undone."""


def process(event_id: str) -> Verdict | None:
    """Handle an event if it is due and nobody else has it; None otherwise, and also when the
    lease was lost: then another process decides.

    Whatever a handler raises ends up on the row. What is raised here is a bug, or the database
    is away: the row is left to the sweep.
    """
    started = time.monotonic()
    claim = claim_event(uuid.UUID(event_id))
    if claim is None:
        return None
    try:
        verdict = handle(claim)
    except NotYet as early:
        verdict = record_miss(claim, early)
    except Exception as error:
        logger.exception("handler_failed", event_row=event_id)
        verdict = record_failure(claim, error)
    _log_try(event_id, verdict, seconds=time.monotonic() - started)
    if verdict is not None:
        announce_next(verdict.row)
    if verdict is not None and verdict.decision.status == EventStatus.PROCESSED:
        send_processed(verdict.row)
    return verdict


def claim_event(event_id: uuid.UUID) -> Claim | None:
    """Take the event and count the try, in a transaction of its own so that a crash leaves a
    trace. None when a duplicate or stale hint came here and there is nothing to take, or when
    another event of its object is being handled."""
    token, now = uuid.uuid4(), clock.latest()
    wanted = WebhookEvent.objects.filter(pk=event_id).ready(now)
    try:
        with transaction.atomic():
            claimed = wanted.move_to(
                EventStatus.PROCESSING,
                now=now,
                lease_token=token,
                lease_expires_at=now + timedelta(seconds=settings.OUTBOUND_LEASE_SECONDS),
                attempts=F("attempts") + 1,
            )
    except IntegrityError:  # one at a time: see the constraint
        wanted.update(hint_at=now + timedelta(seconds=BUSY_SECONDS))
        return None
    return Claim(event_id, token) if claimed else None


def announce_next(row: WebhookEvent) -> None:
    """The event has left its handlers: the oldest of those that it kept out may come."""
    now = clock.latest()
    waiting = WebhookEvent.objects.ready(now).beside(row).order_by("received_at", "pk")
    following = waiting.values_list("pk", flat=True).first()
    if following is None:
        return
    WebhookEvent.objects.ready(now).filter(pk=following).update(hint_at=now + hint_grace())
    hints.announce_on_commit(process_hint(following))


@transaction.atomic
def handle(claim: Claim) -> Verdict | None:
    """Run the handlers and mark the event, all in this transaction. None when the lease was
    lost before it began: nothing is done then.

    Raises NotYet when a handler wants to see it later, and whatever else a handler raises; then
    nothing has happened either.
    """
    row = _owned(claim)
    if row is None:
        return None
    handled, missed = run_handlers(row)
    decision = policy.after_success(handled=handled, missed=missed)
    now = clock.now()
    processed_at = now if decision.status == EventStatus.PROCESSED else None
    if not _leave(claim, decision, now=now, error="", processed_at=processed_at):
        raise LeaseLost("the event was moved while its handlers were at work")
    if missed:
        EventNote.objects.create(event=row, at=now, action="not known", reason=decision.rule)
    return Verdict(row, decision)


def run_handlers(row: WebhookEvent) -> tuple[int, list[str]]:
    """How many handlers took the event, and what the others lacked.

    One that comes too early raises NotYet, unless that has gone on for long enough: then only
    its own effects are undone, and those of the others stand.
    """
    handlers = handlers_for(row.source, row.event_type)
    if not handlers:
        return 0, []
    last = policy.is_last_miss(misses_before=row.misses)
    event = open_event(row)
    missed: list[str] = []
    for handler in handlers:
        try:
            with transaction.atomic():
                handler(event)
        except NotYet as early:
            if not (last or isinstance(early, NotOurs)):
                raise
            missed.append(sanitise(str(early), limit=120))
    return len(handlers) - len(missed), missed


def open_event(row: WebhookEvent) -> Event:
    """The event as its handlers see it, read again from the stored bytes. Its signature was
    fresh when it came, and is not checked again. Raises ValueError, UnknownSource,
    MalformedBody, InvalidToken when that cannot be done any more."""
    if row.body is None:
        raise ValueError("the body is gone")
    for envelope in source_for(row.source).parse_stored(bytes(row.body), row.headers):
        if (envelope.event_id, envelope.account) == (row.event_id, row.account):
            return Event(
                id=row.pk, source=row.source, received_at=row.received_at, envelope=envelope
            )
    raise ValueError("the body has no event of this id")


@transaction.atomic
def record_failure(claim: Claim, error: Exception) -> Verdict | None:
    """Write down why a try failed, and when the next one is. None when the lease was lost."""
    row = _owned(claim)
    if row is None:
        return None
    failures = row.failures + 1
    decision = policy.after_failure(failures=failures, schedule=policy.retry_schedule())
    why = sanitise(f"{type(error).__name__}: {error}")
    _leave(claim, decision, now=clock.now(), error=why, failures=failures)
    return Verdict(row, decision)


@transaction.atomic
def record_miss(claim: Claim, early: NotYet) -> Verdict | None:
    """Write down that a try came too early. None when the lease was lost."""
    row = _owned(claim)
    if row is None:
        return None
    misses = row.misses + 1
    decision = policy.after_miss(misses=misses)
    _leave(claim, decision, now=clock.now(), error=sanitise(f"not yet: {early}"), misses=misses)
    return Verdict(row, decision)


def decision_changes(decision: Decision, *, now: datetime) -> dict[str, Any]:
    """The columns that a decision sets, whoever takes it."""
    changes: dict[str, Any] = {
        "rule": decision.rule, "lease_token": None, "lease_expires_at": None,
    }  # fmt: skip
    if decision.wait is not None:
        due_at = now + timedelta(seconds=decision.wait)
        changes |= {"due_at": due_at, "hint_at": due_at}
        if decision.countdown is not None:
            changes["hint_at"] += hint_grace()
    return changes


def send_processed(row: WebhookEvent) -> None:
    """Send the `event_processed` signal after commit; a receiver that fails is logged."""

    def send() -> None:
        row.refresh_from_db()
        for receiver, answer in event_processed.send_robust(WebhookEvent, event=row):
            if isinstance(answer, Exception):
                logger.error("signal_receiver_failed", receiver=repr(receiver), exc_info=answer)

    if event_processed.has_listeners(WebhookEvent):
        transaction.on_commit(send)


def _owned(claim: Claim) -> WebhookEvent | None:
    """The row, locked until the transaction ends, if the lease is still ours: the sweep leaves
    locked rows alone, so handlers that are slow but alive are not started twice. The body is
    left where it is until somebody wants it."""
    return (
        WebhookEvent.objects.select_for_update()
        .leased(claim.token)
        .filter(pk=claim.event_id)
        .defer("body")
        .first()
    )


def _leave(claim: Claim, decision: Decision, *, now: datetime, **changes: Any) -> int:
    return (
        WebhookEvent.objects.leased(claim.token)
        .filter(pk=claim.event_id)
        .move_to(decision.status, now=now, **decision_changes(decision, now=now), **changes)
    )


def _log_try(event_id: str, verdict: Verdict | None, *, seconds: float) -> None:
    row = verdict.row if verdict else None
    wait = verdict.decision.wait if verdict else None
    if verdict is not None:
        metrics.tries.labels(verdict.row.source, verdict.decision.status).inc()
    logger.info(
        "event_tried",
        event_row=event_id,
        source=row.source if row else None,
        event_type=row.event_type if row else None,
        attempt=row.attempts if row else None,
        status=verdict.decision.status if verdict else "not ours any more",
        duration=round(seconds, 4),
        next_due_in=None if wait is None else round(wait, 1),
    )
