"""The repair that makes every loss temporary: run every few seconds, in bounded batches.

Every change is a guarded UPDATE, so a sweep that runs twice, or late, does no harm.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction

from outbound import clock, hints
from outbound.hints import Hint
from outbound.redaction import storable
from webhooks import policy, reject_rows
from webhooks.announcements import process_hint
from webhooks.engine import announce_next, decision_changes
from webhooks.models import WebhookEvent

logger = structlog.get_logger(__name__)

ROWS = "events"
BATCH = 500

Announce = Callable[[Hint], None]


def sweep(*, limit: int = BATCH, announce: Announce | None = None) -> Counter[str]:
    """Everything that is overdue, at most `limit` rows of each sort. Returns counts by sort.

    Without `announce`, hints are published where they can reach a worker; in the embedded form
    it is the dispatcher that announces. One sort that fails does not keep the other from being
    done; what failed is raised at the end, together.
    """
    done: Counter[str] = Counter()
    failures: list[Exception] = []
    steps: dict[str, Callable[[], int]] = {
        "leases_expired": lambda: expire_leases(limit=limit),
        "bursts_settled": lambda: reject_rows.settle(limit=limit),
    }
    if announce is None and hints.reaches_workers():
        announce = hints.announce
    if announce is not None:
        steps["announced"] = partial(announce_due, limit=limit, announce=announce)
    for name, step in steps.items():
        try:
            done[name] = step()
        except Exception as error:  # noqa: BLE001 - each sort stands alone; raised below
            failures.append(error)
    if any(done.values()):
        logger.info("event_sweep", **done)
    if failures:
        raise ExceptionGroup("the sweep could not do everything", failures)
    return done


def overdue() -> dict[str, int]:
    """How many events a sweep would take up, by sort."""
    now, events = clock.now(), WebhookEvent.objects
    return {
        "leases_expired": events.expired_leases(now).count(),
        "bursts_settled": reject_rows.unsettled(),
        "announced": events.unannounced(now).count(),
    }


def expire_leases(*, limit: int = BATCH) -> int:
    """Events whose worker never reported back are tried again, or given up after many crashes.
    Returns how many there were."""
    expired = WebhookEvent.objects.expired_leases(clock.now()).order_by("lease_expires_at")
    return sum(_expire_lease(pk) for pk in expired.values_list("pk", flat=True)[:limit])


@transaction.atomic
def _expire_lease(pk: uuid.UUID) -> bool:
    """A row that is locked is being handled by somebody slow: it is left alone."""
    now = clock.now()
    row = (
        WebhookEvent.objects.select_for_update(skip_locked=True)
        .expired_leases(now)
        .filter(pk=pk)
        .defer("body")
        .first()
    )
    if row is None:
        return False
    crashes = row.crashes + 1
    decision = policy.after_crash(crashes=crashes, schedule=policy.retry_schedule())
    WebhookEvent.objects.filter(pk=pk).leased(row.lease_token).move_to(
        decision.status,
        now=now,
        **decision_changes(decision, now=now),
        crashes=crashes,
        error="the worker never reported back",
    )
    announce_next(row)
    logger.warning("event_lease_expired", event_row=str(pk), status=decision.status)
    return True


def announce_due(*, limit: int = BATCH, announce: Announce) -> int:
    """Say again which events are due and that nobody took. `hint_at` moves on with it, so that
    a long queue is not announced over and over. Returns how many were announced."""
    now = clock.now()
    again_at = now + timedelta(seconds=settings.OUTBOUND_REANNOUNCE_SECONDS)
    unannounced = WebhookEvent.objects.unannounced(now)
    announced = 0
    for pk in unannounced.values_list("pk", flat=True)[:limit]:
        if WebhookEvent.objects.unannounced(now).filter(pk=pk).update(hint_at=again_at):
            announce(process_hint(pk))
            announced += 1
    return announced


def forget_announcements() -> None:
    """Due events that were announced are announced anew: the messages went with a broker that
    lived in a worker's memory."""
    now = clock.now()
    WebhookEvent.objects.ready(now).filter(hint_at__gt=now).update(hint_at=now)


def mark_dead_letter(*, event_ids: Collection[object], reason: str) -> int:
    """Note on events that a message about them was given up: a suspicion, not a verdict. The
    sweep announces them anew while they wait. Returns how many there are."""
    now, reason = clock.now(), storable(reason, limit=200)
    return sum(
        WebhookEvent.objects.with_id(event_id).update(dead_letter_reason=reason, updated_at=now)
        for event_id in event_ids
    )
