"""Celery tasks: they choose only when. Unknown arguments are tolerated, since old workers meet
the messages of new code during a deploy."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.conf import settings

from api.sweep import BATCH, sweep
from outbound.leases import periodic_lease

ROUNDS = 200  # at the most, so that it ends within its lease: 1,600 keys a second are forgotten


@shared_task(name="api.forget_requests")
def forget_requests(**_: Any) -> None:
    """The periodic forgetting of expired idempotency keys."""
    with periodic_lease("api.forget_requests", seconds=settings.OUTBOUND_LEASE_SECONDS) as ours:
        for _round in range(ROUNDS if ours else 0):
            if sweep(limit=BATCH)["expired"] < BATCH:
                break
