"""The states of an event and of a replay, and the moves between them. There are no others."""

from __future__ import annotations

from django.db.models import TextChoices


class EventStatus(TextChoices):
    """Where an event stands."""

    RECEIVED = "received", "Received"  # stored, waits for its handlers
    PROCESSING = "processing", "Processing"  # its handlers are at work, under a lease
    PROCESSED = "processed", "Processed"  # its handlers' effects are committed
    IGNORED = "ignored", "Ignored"  # nobody wants it, or it speaks of something we do not have
    RETRYING = "retrying", "Retrying"  # waits for another try
    FAILED = "failed", "Failed"  # tried for long enough: a person, or a new delivery, goes on


S = EventStatus

MOVES: dict[EventStatus, frozenset[EventStatus]] = {
    S.RECEIVED: frozenset({S.PROCESSING}),
    S.PROCESSING: frozenset({S.PROCESSED, S.IGNORED, S.RETRYING, S.FAILED}),
    S.RETRYING: frozenset({S.PROCESSING}),
    S.PROCESSED: frozenset({S.RECEIVED}),
    S.IGNORED: frozenset({S.RECEIVED}),
    S.FAILED: frozenset({S.RECEIVED}),
}

WAITING = frozenset({S.RECEIVED, S.RETRYING})
FINISHED = frozenset({S.PROCESSED, S.IGNORED, S.FAILED})


def sources_of(target: EventStatus) -> frozenset[EventStatus]:
    """The statuses from which `target` may be reached."""
    return frozenset(source for source, targets in MOVES.items() if target in targets)


class ReplayStatus(TextChoices):
    """Where a replay of many events stands."""

    PENDING = "pending", "Pending"  # nobody has begun
    RUNNING = "running", "Running"  # some of it is done, or may be
    FINISHED = "finished", "Finished"  # the last event was reached
    CANCELLED = "cancelled", "Cancelled"  # a person stopped it; what was done stays done


R = ReplayStatus

REPLAY_MOVES: dict[ReplayStatus, frozenset[ReplayStatus]] = {
    R.PENDING: frozenset({R.RUNNING, R.CANCELLED}),
    R.RUNNING: frozenset({R.RUNNING, R.FINISHED, R.CANCELLED}),
    R.FINISHED: frozenset(),
    R.CANCELLED: frozenset(),
}

UNDER_WAY = frozenset({R.PENDING, R.RUNNING})
