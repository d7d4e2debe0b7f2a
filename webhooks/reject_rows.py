"""What is refused, in the database: a capped sample of rows, and one alert for each burst.

All processes add to one row of a source. The guarded UPDATE that begins an incident has one winner,
who raises the alert; should it die before that, the sweep does.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import F, Q

from outbound import clock
from webhooks.models import Reject, RejectWatch
from webhooks.signals import rejects_burst

logger = structlog.get_logger(__name__)

KEPT = 1000  # rows of a source
WINDOW = timedelta(seconds=60)
QUIET = timedelta(minutes=5)  # without too many in a window, until an incident is over
UNTOLD = timedelta(seconds=10)  # after which the sweep says what a crashed process did not


@dataclass(frozen=True, slots=True)
class Sample:
    """One refusal, as it may be stored."""

    source: str
    kind: str
    status: int
    network: str
    user_agent: str
    length: int | None


def record(counts: Mapping[str, int], samples: Iterable[Sample]) -> None:
    """Add to what was refused, by source, and raise the alert when that makes it too many."""
    keep(samples)
    for source, number in counts.items():
        add(source, number)


def keep(samples: Iterable[Sample]) -> None:
    """Store them, and forget what is more than `KEPT` of their sources, the oldest first."""
    now, samples = clock.now(), list(samples)
    Reject.objects.bulk_create(Reject(received_at=now, **asdict(sample)) for sample in samples)
    for source in {sample.source for sample in samples}:
        rows = Reject.objects.filter(source=source)
        beyond = rows.order_by("-pk").values_list("pk", flat=True)[KEPT : KEPT + 1]
        for newest in list(beyond):
            rows.filter(pk__lte=newest).delete()


def add(source: str, number: int) -> None:
    """Count `number` refusals of a source in the window of all processes."""
    now = clock.now()
    fresh = RejectWatch(source=source, window_ends_at=now + WINDOW)
    RejectWatch.objects.bulk_create([fresh], ignore_conflicts=True)
    watch = RejectWatch.objects.filter(source=source)
    if not watch.filter(window_ends_at__lte=now).update(
        refused=number, window_ends_at=now + WINDOW
    ):
        watch.update(refused=F("refused") + number)
    too_many = watch.filter(refused__gte=settings.WEBHOOK_REJECTS_ALERT)
    if too_many.update(burst_at=now):
        incident = uuid.uuid4()
        if too_many.filter(incident=None).update(incident=incident, began_at=now, told_at=None):
            tell(source, incident)


def tell(source: str, incident: uuid.UUID) -> bool:
    """The log line and the signal of an incident; once, whoever calls it first."""
    ours = RejectWatch.objects.filter(source=source, incident=incident)
    if not ours.filter(told_at=None).update(told_at=clock.now()):
        return False
    watch = RejectWatch.objects.get(source=source)
    logger.warning("rejects_burst", source=source, refused=watch.refused, incident=str(incident))
    _send(watch, incident, began=True)
    return True


def settle(*, limit: int) -> int:
    """Tell of incidents whose winner died before it could, and end those that are over. Returns
    how many."""
    told = [
        tell(watch.source, watch.incident)
        for watch in RejectWatch.objects.filter(_untold())[:limit]
        if watch.incident is not None
    ]
    over = RejectWatch.objects.filter(_over())
    return sum(told) + sum(_end(watch) for watch in over[:limit])


def unsettled() -> int:
    """How many `settle` would take up."""
    return RejectWatch.objects.filter(_untold() | _over()).count()


def _untold() -> Q:
    late = clock.now() - UNTOLD
    return Q(incident__isnull=False, told_at=None, began_at__lte=late)


def _over() -> Q:
    return Q(incident__isnull=False, burst_at__lte=clock.now() - QUIET)


def _end(watch: RejectWatch) -> bool:
    incident, now = watch.incident, clock.now()
    ours = RejectWatch.objects.filter(_over(), pk=watch.pk, incident=incident)
    if incident is None or not ours.update(incident=None, ended_at=now):
        return False
    watch.refresh_from_db()
    logger.info("rejects_burst_over", source=watch.source, incident=str(incident))
    _send(watch, incident, began=False)
    return True


def _send(watch: RejectWatch, incident: uuid.UUID, *, began: bool) -> None:
    sent = rejects_burst.send_robust(RejectWatch, watch=watch, incident=incident, began=began)
    for receiver, answer in sent:
        if isinstance(answer, Exception):
            logger.error("signal_receiver_failed", receiver=repr(receiver), exc_info=answer)
