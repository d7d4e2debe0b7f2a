"""Celery tasks: they choose only when. Unknown arguments are tolerated, since old workers meet
the messages of new code during a deploy."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.conf import settings

from notifications.sweep import sweep
from outbound.leases import periodic_lease

LEASE = "notifications.sweep_messages"


@shared_task(name="notifications.sweep_messages")
def sweep_messages(**_: Any) -> None:
    """The periodic repair."""
    with periodic_lease(LEASE, seconds=settings.OUTBOUND_LEASE_SECONDS) as ours:
        if ours:
            sweep()
