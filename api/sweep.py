"""Requests whose keys have expired are forgotten, in bounded batches."""

from __future__ import annotations

from collections.abc import Callable

from api.models import IdempotentRequest
from outbound import clock
from outbound.hints import Hint

ROWS = "keys"
BATCH = 500


def sweep(*, limit: int = BATCH) -> dict[str, int]:
    """Forget at most `limit` expired requests. Returns how many."""
    expired = IdempotentRequest.objects.expired(clock.now()).order_by("expires_at")
    batch = list(expired.values_list("pk", flat=True)[:limit])
    forgotten, _ = IdempotentRequest.objects.filter(pk__in=batch).delete()
    return {"expired": forgotten}


def overdue() -> dict[str, int]:
    """How many a sweep would forget."""
    return {"expired": IdempotentRequest.objects.expired(clock.now()).count()}


def announce_due(*, limit: int, announce: Callable[[Hint], None]) -> int:
    """Nobody works on these rows, so there is nothing to announce."""
    return 0


def forget_announcements() -> None:
    """See announce_due."""
