"""The messages of this app: "these events may be due", and "this replay may go on"."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from outbound import hints
from outbound.hints import Hint

TASK = "webhooks.process_events"
QUEUE = "webhooks-v1"
REPLAY_TASK = "webhooks.go_on_replaying"


def process_hint(event_id: object, *, countdown: int | None = None) -> Hint:
    """The message that speaks of one event, `countdown` seconds from now."""
    return Hint(TASK, QUEUE, {"event_ids": [str(event_id)]}, countdown, (TASK, "event_ids"))


def replay_hint(replay_id: object, *, countdown: int | None = None) -> Hint:
    """The message that a replay may go on, `countdown` seconds from now."""
    return Hint(REPLAY_TASK, settings.MAINTENANCE_QUEUE, {"replay_id": str(replay_id)}, countdown)


def hint_grace() -> timedelta:
    """How long a message is given before the sweep says it again."""
    seconds = settings.OUTBOUND_HINT_GRACE_SECONDS if hints.reaches_workers() else 0
    return timedelta(seconds=seconds)
