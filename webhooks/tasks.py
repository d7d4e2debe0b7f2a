"""Celery tasks: they choose only when. Ids in, nothing out; unknown arguments are tolerated,
since old workers meet the messages of new code during a deploy."""

from __future__ import annotations

import math
from typing import Any

import structlog
from celery import shared_task
from django.conf import settings

from outbound import clock, hints
from outbound.dead_letters import DeadLetter, on_dead_letter
from outbound.leases import periodic_lease
from webhooks import engine, replaying
from webhooks.announcements import process_hint, replay_hint
from webhooks.catching_up import catch_up, listing_sources
from webhooks.errors import CannotCatchUp
from webhooks.pruning import BATCH, prune
from webhooks.states import UNDER_WAY
from webhooks.sweep import mark_dead_letter
from webhooks.sweep import sweep as sweep_once

logger = structlog.get_logger(__name__)

REPLAYS = 100  # announced by one sweep at the most
PRUNE_ROUNDS = 50  # at the most, so that a worker's thread is not taken for long
PRUNE_SECONDS = 300.0


@shared_task(name="webhooks.process_events")
def process_events(*, event_ids: list[str], **_: Any) -> None:
    """Handle events, each in its own transaction and with its own retry: one that spoils its
    try does not hold up its neighbours."""
    for event_id in event_ids:
        try:
            verdict = engine.process(event_id)
        except Exception:  # the row is left to the sweep, and the neighbours are not to blame
            logger.exception("event_left_to_sweep", event_row=str(event_id))
            continue
        wait = verdict.decision.countdown if verdict else None
        if wait is not None:
            hints.announce(process_hint(event_id, countdown=math.ceil(wait)))


@shared_task(name="webhooks.sweep_events")
def sweep_events(**_: Any) -> None:
    """The periodic repair."""
    with periodic_lease("webhooks.sweep_events", seconds=settings.OUTBOUND_LEASE_SECONDS) as ours:
        if ours:
            replaying.sweep(limit=REPLAYS)
            sweep_once()


@shared_task(name="webhooks.go_on_replaying")
def go_on_replaying(*, replay_id: str, **_: Any) -> None:
    """Take one step of a replay, and have the next one taken when its pace allows it."""
    row = replaying.step(replay_id=replay_id)
    if row is not None and row.status in UNDER_WAY:
        wait = math.ceil((row.due_at - clock.now()).total_seconds())
        hints.announce(replay_hint(row.pk, countdown=wait if wait > 0 else None))


@shared_task(name="webhooks.prune_events")
def prune_events(**_: Any) -> None:
    """The periodic forgetting."""
    with periodic_lease("webhooks.prune_events", seconds=PRUNE_SECONDS) as ours:
        for _round in range(PRUNE_ROUNDS if ours else 0):
            if max(prune(limit=BATCH).values()) < BATCH:
                break


@shared_task(name="webhooks.catch_up")
def catch_up_all(**_: Any) -> None:
    """Ask every provider that can be asked what it has failed to deliver."""
    for source in listing_sources():
        try:
            catch_up(source=source)
        except CannotCatchUp as error:  # logged there; the next time goes on from there
            logger.warning("catch_up_broke_off", source=source, reason=str(error))


@on_dead_letter("webhooks.process_events")
def mark_events(letter: DeadLetter) -> None:
    """The reason on the events' rows; the rows themselves go on by the sweep."""
    ids = letter.kwargs.get("event_ids")
    if isinstance(ids, list):
        reason = f"given up by {letter.queue}: {letter.reason} ({letter.count}x)"
        mark_dead_letter(event_ids=ids, reason=reason)
