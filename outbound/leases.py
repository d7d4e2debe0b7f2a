"""A lease on a periodic piece of work: two schedulers, or two beats, do it once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from outbound import clock
from outbound.models import PeriodicLease


@contextmanager
def periodic_lease(name: str, *, seconds: float) -> Iterator[bool]:
    """Hold the lease `name` while the block runs, for `seconds` at most. Yields whether we do."""
    token = _take(name, seconds)
    try:
        yield token is not None
    finally:
        if token is not None:
            PeriodicLease.objects.filter(name=name, token=token).update(
                token=None, expires_at=clock.now()
            )


def _take(name: str, seconds: float) -> uuid.UUID | None:
    token, now = uuid.uuid4(), clock.now()
    expires_at = now + timedelta(seconds=seconds)
    PeriodicLease.objects.bulk_create(
        [PeriodicLease(name=name, expires_at=now)], ignore_conflicts=True
    )
    taken = PeriodicLease.objects.filter(name=name, expires_at__lte=now).update(
        token=token, expires_at=expires_at
    )
    return token if taken else None
