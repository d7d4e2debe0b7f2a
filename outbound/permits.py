"""Places that are held for a while: at most `slots` of a name at once, across all processes.

A place is a row; taking it is a conditional UPDATE, so two processes never hold the same one, and
one whose holder died is free again when it expires.
"""

from __future__ import annotations

import random
import uuid
from datetime import datetime, timedelta

from outbound import clock
from outbound.models import Permit
from outbound.plain import changed, moment_in, moment_out, rows, token_in

PLACES = """SELECT slot, token IS NOT NULL AND expires_at > %s FROM outbound_permit WHERE name = %s
"""
TAKE = """UPDATE outbound_permit SET token = %s, expires_at = %s
    WHERE name = %s AND slot = %s AND (token IS NULL OR expires_at <= %s)
"""
RETURN = "UPDATE outbound_permit SET token = NULL WHERE name = %s AND token = %s"
END = """SELECT expires_at FROM outbound_permit
    WHERE name = %s AND token IS NOT NULL AND expires_at > %s
    ORDER BY expires_at DESC LIMIT 1 OFFSET %s
"""
HELD = """SELECT COUNT(*) FROM outbound_permit
    WHERE name = %s AND token IS NOT NULL AND expires_at > %s
"""


def take_permit(name: str, *, slots: int, seconds: float) -> uuid.UUID | None:
    """Hold one of the places of `name` for at most `seconds`; None when all are held."""
    now, token = clock.fresh(), uuid.uuid4()
    ends, stored = moment_in(now + timedelta(seconds=seconds)), moment_in(now)
    for slot in _free_slots(name, slots, now):
        if changed(TAKE, [token_in(token), ends, name, slot, stored]):
            return token
    return None


def _free_slots(name: str, slots: int, now: datetime) -> list[int]:
    """The places that may be taken, in any order: who asks at the same time tries others first.

    Where `slots` has become smaller, places with higher numbers may still be held. For each of
    them the highest free place is left alone; so many remain free whatever others do meanwhile.
    """
    places = dict(rows(PLACES, [moment_in(now), name]))
    missing = [slot for slot in range(1, slots + 1) if slot not in places]
    if missing:
        Permit.objects.bulk_create(
            [Permit(name=name, slot=slot, expires_at=now) for slot in missing],
            ignore_conflicts=True,
        )
    free = [slot for slot in range(1, slots + 1) if not places.get(slot)]
    beyond = sum(slot > slots for slot, taken in places.items() if taken)
    free = free[: max(len(free) - beyond, 0)]
    random.shuffle(free)
    return free


def return_permit(name: str, token: uuid.UUID) -> bool:
    """Give a place back. False when it had expired and another holds it now."""
    return changed(RETURN, [name, token_in(token)]) == 1


def next_permit_at(name: str, *, slots: int) -> datetime:
    """When there will be a place, if none is given back before."""
    now = clock.now()
    ends = rows(END, [name, moment_in(now), slots - 1])
    return moment_out(ends[0][0]) if ends else now


def held(name: str) -> int:
    """How many of the places are held now."""
    ((count,),) = rows(HELD, [name, moment_in(clock.now())])
    return int(count)
