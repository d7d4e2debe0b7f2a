"""Places that are held for a while: at most `slots` of a name at once, across all processes.

A place is a row; taking it is a conditional UPDATE, so two processes never hold the same one, and
one whose holder died is free again when it expires.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db.models import Min

from outbound import clock
from outbound.models import Permit


def take_permit(name: str, *, slots: int, seconds: float) -> uuid.UUID | None:
    """Hold one of the places of `name` for at most `seconds`; None when all are held."""
    now, token = clock.now(), uuid.uuid4()
    places = Permit.objects.filter(name=name, slot__lte=slots)
    if places.count() < slots:
        Permit.objects.bulk_create(
            [Permit(name=name, slot=slot, expires_at=now) for slot in range(1, slots + 1)],
            ignore_conflicts=True,
        )
    free = places.filter(expires_at__lte=now)
    for pk in list(free.order_by("?").values_list("pk", flat=True)):
        if free.filter(pk=pk).update(token=token, expires_at=now + timedelta(seconds=seconds)):
            return token
    return None


def return_permit(name: str, token: uuid.UUID) -> bool:
    """Give a place back. False when it had expired and another holds it now."""
    held = Permit.objects.filter(name=name, token=token)
    return held.update(token=None, expires_at=clock.now()) == 1


def next_permit_at(name: str, *, slots: int) -> datetime:
    """When the first of the places expires, unless it is given back before."""
    first = Permit.objects.filter(name=name, slot__lte=slots).aggregate(at=Min("expires_at"))["at"]
    return first or clock.now()
