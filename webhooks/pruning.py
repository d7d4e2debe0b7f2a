"""Retention: bodies go first, rows later, in bounded batches; what is not finished stays.

A row is also the memory by which a duplicate is known: an event that is delivered again after its
row is gone is handled again. No provider repeats for that long.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from outbound import clock
from webhooks.models import EventQuerySet, Reject, WebhookEvent

BATCH = 500


def prune(*, limit: int = BATCH) -> dict[str, int]:
    """Forget at most `limit` bodies, rows and rejects, the oldest first. Returns how many."""
    now = clock.now()
    rows = _forget(without_row(now), limit=limit)
    bodies = _empty(without_body(now), limit=limit)
    oldest = old_rejects(now).order_by("received_at").values_list("pk", flat=True)[:limit]
    rejects, _ = Reject.objects.filter(pk__in=list(oldest)).delete()
    return {"bodies": bodies, "rows": rows, "rejects": rejects}


def overdue() -> dict[str, int]:
    """How many there are to forget. A row that goes takes its body along."""
    now = clock.now()
    rows = without_row(now)
    bodies = without_body(now).filter(received_at__gte=_before(now, settings.WEBHOOK_ROW_DAYS))
    rejects = old_rejects(now)
    return {"bodies": bodies.count(), "rows": rows.count(), "rejects": rejects.count()}


def without_body(now: datetime) -> EventQuerySet:
    """Finished events whose body has been kept for long enough."""
    return WebhookEvent.objects.finished().filter(
        body__isnull=False, received_at__lt=_before(now, settings.WEBHOOK_BODY_DAYS)
    )


def without_row(now: datetime) -> EventQuerySet:
    """Finished events that have been kept for long enough."""
    return WebhookEvent.objects.finished().filter(
        received_at__lt=_before(now, settings.WEBHOOK_ROW_DAYS)
    )


def old_rejects(now: datetime) -> QuerySet[Reject]:
    """Samples of what was refused, which are kept for as long as bodies are."""
    return Reject.objects.filter(received_at__lt=_before(now, settings.WEBHOOK_BODY_DAYS))


def _before(now: datetime, days: int) -> datetime:
    return now - timedelta(days=days)


def _empty(events: EventQuerySet, *, limit: int) -> int:
    """The condition stands in the UPDATE as well: what has been armed anew meanwhile stays."""
    batch = list(events.order_by("received_at").values_list("pk", flat=True)[:limit])
    return events.filter(pk__in=batch).update(body=None) if batch else 0


@transaction.atomic
def _forget(events: EventQuerySet, *, limit: int) -> int:
    """Locked first: what is armed anew meanwhile stays, and its notes with it."""
    oldest = events.order_by("received_at").select_for_update(skip_locked=True)
    batch = list(oldest.values_list("pk", flat=True)[:limit])
    if not batch:
        return 0
    _, by_model = WebhookEvent.objects.filter(pk__in=batch).delete()
    return by_model.get(WebhookEvent._meta.label, 0)  # noqa: SLF001 - Django's documented API
