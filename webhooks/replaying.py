"""A replay of many events: a row that remembers how far it is, and steps that any worker takes.

Events are visited in the order of their rows' ids, behind the last one that was looked at, and only
those that were received before the replay began: so none is visited twice, and what the replay
itself sets going is never met again. A step's events and the mark of how far it came are committed
together; who lost the lease, or comes after a cancellation, commits nothing.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction

from outbound import clock, hints
from outbound.hints import Hint
from outbound.redaction import storable
from webhooks.announcements import hint_grace, process_hint, replay_hint
from webhooks.errors import IllegalMove, ReasonRequired, UnknownReplay, WrongFilter
from webhooks.filters import EventFilter
from webhooks.models import EventNote, Replay, WebhookEvent
from webhooks.states import ReplayStatus

logger = structlog.get_logger(__name__)

ROWS = "replays"
BATCH = 100  # events of one transaction
PACE = 50  # events a second: what is delivered meanwhile must not wait behind a replay
MAX_PACE = 1000

Announce = Callable[[Hint], None]


@dataclass(frozen=True, slots=True)
class ReplayCount:
    """What a filter finds, and how much of it can be replayed now."""

    found: int
    ready: int


def count_replay(*, events: EventFilter) -> ReplayCount:
    """A look beforehand. Raises WrongFilter."""
    events.demand_sane()
    found = _before(events, clock.now()).events()
    ready = found.finished().filter(body__isnull=False)
    return ReplayCount(found=found.count(), ready=ready.count())


@transaction.atomic
def start_replay(*, events: EventFilter, reason: str, actor: str = "", pace: int = PACE) -> Replay:
    """Have all these events handled once more, at most `pace` of them a second. Raises
    WrongFilter (also when there is none), ReasonRequired."""
    if not reason.strip():
        raise ReasonRequired("say why these events must be handled once more")
    if not 1 <= pace <= MAX_PACE:
        raise WrongFilter(f"the pace must be 1 to {MAX_PACE} events a second")
    now = clock.now()
    events = _before(events, now)
    found = count_replay(events=events).found
    if not found:
        raise WrongFilter("there is no such event")
    row = Replay.objects.create(
        source=events.source,
        event_type=events.event_type,
        event_status=events.status,
        since=events.since,
        until=events.until or now,
        event_ids=list(events.event_ids),
        total=found,
        pace=pace,
        due_at=now,
        hint_at=now + hint_grace(),
        created_by=storable(actor, limit=150),
        reason=storable(reason.strip(), limit=500),
        created_at=now,
        updated_at=now,
    )
    logger.info("replay_started", replay=str(row.pk), events=found, actor=actor or None)
    hints.announce_on_commit(replay_hint(row.pk))
    return row


@transaction.atomic
def cancel_replay(*, replay_id: object, actor: str = "", reason: str = "") -> Replay:
    """Stop it. What was handed to the handlers stays with them. Raises UnknownReplay,
    IllegalMove (it is over)."""
    row, now = Replay.objects.with_id(replay_id).first(), clock.now()
    if row is None:
        raise UnknownReplay(f"there is no replay {str(replay_id)[:60]!r}")
    moved = Replay.objects.filter(pk=row.pk).move_to(
        ReplayStatus.CANCELLED,
        now=now,
        lease_token=None,
        lease_expires_at=None,
        cancelled_by=storable(actor or "the application", limit=150),
        finished_at=now,
    )
    row.refresh_from_db()
    if not moved:
        raise IllegalMove(f"a replay that is {row.status} cannot be cancelled")
    logger.info("replay_cancelled", replay=str(row.pk), done=row.done, actor=actor, reason=reason)
    return row


def step(*, replay_id: object) -> Replay | None:
    """Replay a second's worth of events, in batches. Returns the row as it is then; None when
    there was nothing to take, or when the rest is somebody else's, or nobody's any more."""
    token, now = uuid.uuid4(), clock.latest()
    ours = Replay.objects.with_id(replay_id).ready(now)
    if not ours.move_to(ReplayStatus.RUNNING, now=now, **_lease(token, now)):
        return None
    row = Replay.objects.with_id(replay_id).get()
    ahead = row.pace
    while ahead > 0:
        size = min(ahead, BATCH)
        seen = _take_batch(row.pk, token, size=size)
        if seen is None:
            return None
        ahead = ahead - size if seen == size else 0
    _rest(row.pk, token, until=now + timedelta(seconds=1))
    row.refresh_from_db()
    return row


@transaction.atomic
def _take_batch(pk: uuid.UUID, token: uuid.UUID, *, size: int) -> int | None:
    """Look at the next `size` events and replay those that can be. Returns how many there were:
    fewer when that was the end. None when the lease was lost."""
    row = Replay.objects.select_for_update().leased(token).filter(pk=pk).first()
    if row is None:
        return None
    found = _next_events(row, size)
    armed = _arm(found, row)
    now = clock.now()
    done, skipped = row.done + armed, row.skipped + len(found) - armed
    if len(found) < size:
        skipped = max(skipped, row.total - done)  # what was counted and is not there any more
        _finish(row, token, now=now, done=done, skipped=skipped)
    else:
        Replay.objects.leased(token).update(
            reached=found[-1], done=done, skipped=skipped, updated_at=now, **_lease(token, now)
        )
    return len(found)


def _next_events(row: Replay, size: int) -> list[uuid.UUID]:
    events = filter_of(row).events()
    if row.reached is not None:
        events = events.filter(pk__gt=row.reached)
    return list(events.order_by("pk").values_list("pk", flat=True)[:size])


def _arm(found: Sequence[uuid.UUID], row: Replay) -> int:
    """Let those be handled anew that are at rest and have a body, and note it on each. The lock
    makes sure that the notes are on the same ones."""
    now = clock.now()
    fit = WebhookEvent.objects.finished().filter(pk__in=found, body__isnull=False)
    locked = list(fit.select_for_update().order_by("pk").values_list("pk", flat=True))
    WebhookEvent.objects.filter(pk__in=locked).arm(
        now=now,
        hint_at=now + hint_grace(),
        rule=f"replay by {row.created_by or 'the application'}"[:200],
    )
    EventNote.objects.bulk_create(
        EventNote(
            event_id=pk, at=now, actor=row.created_by, action="replay of many", reason=row.reason
        )
        for pk in locked
    )
    for pk in locked:
        hints.announce_on_commit(process_hint(pk))
    return len(locked)


def _finish(row: Replay, token: uuid.UUID, *, now: datetime, done: int, skipped: int) -> None:
    Replay.objects.leased(token).filter(pk=row.pk).move_to(
        ReplayStatus.FINISHED,
        now=now,
        lease_token=None,
        lease_expires_at=None,
        finished_at=now,
        done=done,
        skipped=skipped,
    )
    logger.info("replay_finished", replay=str(row.pk), done=done, skipped=skipped)


def _rest(pk: uuid.UUID, token: uuid.UUID, *, until: datetime) -> None:
    """Give the lease back until the next step; nothing when it is over."""
    Replay.objects.leased(token).filter(pk=pk).update(
        lease_token=None, lease_expires_at=None, due_at=until, hint_at=until + hint_grace()
    )


def _lease(token: uuid.UUID, now: datetime) -> dict[str, object]:
    ends = now + timedelta(seconds=settings.OUTBOUND_LEASE_SECONDS)
    return {"lease_token": token, "lease_expires_at": ends}


def filter_of(row: Replay) -> EventFilter:
    """What it was asked for."""
    return EventFilter(
        source=row.source,
        event_type=row.event_type,
        status=row.event_status,
        since=row.since,
        until=row.until,
        event_ids=tuple(row.event_ids),
    )


def _before(events: EventFilter, now: datetime) -> EventFilter:
    """The same, without what is yet to come. Raises WrongFilter: said before `until` is."""
    events.demand_sane()
    return replace(events, until=min(events.until or now, now))


def sweep(*, limit: int, announce: Announce | None = None) -> Counter[str]:
    """Announce the replays that nobody goes on with, such as those whose worker died."""
    if announce is None and hints.reaches_workers():
        announce = hints.announce
    announced = announce_due(limit=limit, announce=announce) if announce else 0
    return Counter(announced=announced)


def overdue() -> dict[str, int]:
    """How many replays a sweep would take up."""
    return {"announced": Replay.objects.unannounced(clock.now()).count()}


def announce_due(*, limit: int, announce: Announce) -> int:
    """Say again which replays could go on. Returns how many."""
    now, announced = clock.now(), 0
    again_at = now + timedelta(seconds=settings.OUTBOUND_REANNOUNCE_SECONDS)
    for pk in Replay.objects.unannounced(now).values_list("pk", flat=True)[:limit]:
        if Replay.objects.unannounced(now).filter(pk=pk).update(hint_at=again_at):
            announce(replay_hint(pk))
            announced += 1
    return announced


def forget_announcements() -> None:
    """Replays are announced anew: the messages went with a broker that lived in a worker."""
    now = clock.now()
    Replay.objects.ready(now).filter(hint_at__gt=now).update(hint_at=now)
