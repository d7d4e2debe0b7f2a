"""Places that are held for a while: at most `slots` of a name at once, across all processes.

A place is a row; taking it is a conditional UPDATE, so two processes never hold the same one, and
one whose holder died is free again when it expires.
"""

from __future__ import annotations

import random
import uuid
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from outbound import clock
from outbound.models import Permit


def take_permit(name: str, *, slots: int, seconds: float) -> uuid.UUID | None:
    """Hold one of the places of `name` for at most `seconds`; None when all are held."""
    now, token = clock.fresh(), uuid.uuid4()
    expires_at = now + timedelta(seconds=seconds)
    free = Permit.objects.filter(Q(token=None) | Q(expires_at__lte=now), name=name)
    for slot in _free_slots(name, slots, now):
        if free.filter(slot=slot).update(token=token, expires_at=expires_at):
            return token
    return None


def _free_slots(name: str, slots: int, now: datetime) -> list[int]:
    """The places that may be taken, in any order: who asks at the same time tries others first.

    Where `slots` has become smaller, places with higher numbers may still be held. For each of
    them the highest free place is left alone; so many remain free whatever others do meanwhile.
    """
    places = {place.slot: place for place in Permit.objects.filter(name=name)}
    missing = [slot for slot in range(1, slots + 1) if slot not in places]
    if missing:
        Permit.objects.bulk_create(
            [Permit(name=name, slot=slot, expires_at=now) for slot in missing],
            ignore_conflicts=True,
        )
    taken = {slot for slot, place in places.items() if place.token and place.expires_at > now}
    free = [slot for slot in range(1, slots + 1) if slot not in taken]
    beyond = sum(slot > slots for slot in taken)
    free = free[: max(len(free) - beyond, 0)]
    random.shuffle(free)
    return free


def return_permit(name: str, token: uuid.UUID) -> bool:
    """Give a place back. False when it had expired and another holds it now."""
    return Permit.objects.filter(name=name, token=token).update(token=None) == 1


def next_permit_at(name: str, *, slots: int) -> datetime:
    """When there will be a place, if none is given back before."""
    now = clock.now()
    ends = sorted(_held(name, now).values_list("expires_at", flat=True))
    return ends[len(ends) - slots] if len(ends) >= slots else now


def held(name: str) -> int:
    """How many of the places are held now."""
    return _held(name, clock.now()).count()


def _held(name: str, now: datetime) -> QuerySet[Permit]:
    return Permit.objects.filter(name=name, token__isnull=False, expires_at__gt=now)
