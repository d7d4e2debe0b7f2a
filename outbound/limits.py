"""How much one adapter may do at once, and how often: calls per second, and retries per window.

A rate is a token bucket kept as one number (GCRA): the time at which it will be full again. One
conditional UPDATE takes a token, so any number of processes share it without a lock of their own.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connection, transaction
from django.db.models import F

from outbound import clock
from outbound.models import Permit
from outbound.plain import changed, moment_in, moment_out, rows, token_in

BOUNDS: dict[str, tuple[float, float]] = {
    "rate": (1 / 86_400, 1_000_000),  # one a day
    "burst": (1, 1_000_000),
    "concurrency": (1, 1_000),
    "retry_ratio": (0, 100),
    "retry_window": (1, 86_400),
    "retry_floor": (1, 1_000_000),  # not 0: where all fail, no retry would ever find out
}
WHOLE = frozenset({"burst", "concurrency", "retry_floor"})
MAY_BE_NONE = frozenset({"rate", "concurrency"})

TICKS = 2**20  # in a second. Sums of whole ticks are exact in a float, so no rounding adds up
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_NUMBER = 2**31 - 1  # that the column holds
STRAY = 60.0  # a bucket may be this much emptier than empty, for clocks are read at their own times

# A bucket is full at `full_at`, or was before now. CASE: what is GREATEST to one database is MAX to
# the other.
TAKE_TOKENS = """UPDATE outbound_ratebucket
    SET full_at = CASE WHEN full_at > %s THEN full_at ELSE %s END + %s
    WHERE name = %s AND full_at <= %s
"""
GIVE_BACK = "UPDATE outbound_ratebucket SET full_at = full_at - %s WHERE name = %s"
CORRECT = "UPDATE outbound_ratebucket SET full_at = %s WHERE name = %s AND full_at > %s"
FULL_AT = "SELECT full_at FROM outbound_ratebucket WHERE name = %s"
NEW_BUCKET = """INSERT INTO outbound_ratebucket (name, full_at) VALUES (%s, 0)
    ON CONFLICT DO NOTHING
"""
TAKE_TURN = """INSERT INTO outbound_ratebucket AS bucket (name, full_at) VALUES (%s, %s)
    ON CONFLICT (name) DO UPDATE
    SET full_at = CASE WHEN bucket.full_at > %s THEN bucket.full_at ELSE %s END + %s
    RETURNING full_at
"""
FIRST_ATTEMPTS = """SELECT COUNT(*) FROM outbound_callattempt
    WHERE circuit IN (SELECT name FROM outbound_circuit WHERE adapter = %s)
        AND started_at > %s AND number = 1
"""
# The newest place and whether it is held still; until when the one is that is so many back; and
# the lowest number there is.
NEWEST_PLACE = """SELECT newest.slot, newest.expires_at > %s, back.expires_at,
        (SELECT MIN(slot) FROM outbound_permit WHERE name = newest.name)
    FROM outbound_permit newest LEFT JOIN outbound_permit back
        ON back.name = newest.name AND back.slot = newest.slot - %s AND back.expires_at > %s
    WHERE newest.name = %s ORDER BY newest.slot DESC LIMIT 1
"""
LEAVE_PLACES = "DELETE FROM outbound_permit WHERE name = %s AND slot <= %s"
TAKE_PLACE = """INSERT INTO outbound_permit (name, slot, token, expires_at) VALUES (%s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one adapter. Raises ImproperlyConfigured when one is out of range.

    `rate`: calls per second that may start, in the whole fleet and per account; None: any number.
    `burst`: how many may start at once after a quiet time. `concurrency`: calls in flight, in the
    whole fleet and per account; None: any number. In any `retry_window` seconds there are at most
    `retry_ratio` retries per first attempt, but `retry_floor` are always allowed.
    """

    rate: float | None = None
    burst: int = 1
    concurrency: int | None = None
    retry_ratio: float = 0.2
    retry_window: float = 60.0
    retry_floor: int = 10

    def __post_init__(self) -> None:
        for key, (lowest, highest) in BOUNDS.items():
            value = getattr(self, key)
            if value is None and key in MAY_BE_NONE:
                continue
            kind = int if key in WHOLE else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind):
                what = "a whole number" if key in WHOLE else "a number"
                raise ImproperlyConfigured(f"limit {key!r} must be {what}, not {value!r}")
            if not lowest <= value <= highest:
                raise ImproperlyConfigured(
                    f"limit {key!r} must be {lowest:g} to {highest:g}, not {value!r}"
                )


def build_limits(entry: Mapping[str, Any]) -> Limits:
    """The limits of a settings entry's LIMITS. A burst that is not set is one second's calls.
    Raises ImproperlyConfigured."""
    if not isinstance(entry, Mapping):
        raise ImproperlyConfigured(f"limits must be a dict, not {entry!r}")
    unknown = entry.keys() - {field.name for field in fields(Limits)}
    if unknown:
        raise ImproperlyConfigured(f"unknown limit {min(map(str, unknown))!r}")
    limits = Limits(**entry)
    if limits.rate is None or "burst" in entry:
        return limits
    return Limits(**{**entry, "burst": math.ceil(limits.rate)})


def bulkhead_name(adapter: str, account: str = "") -> str:
    """The permits that the calls in flight hold."""
    return f"bulkhead:{_whose(adapter, account)}"


def bucket_name(adapter: str, account: str = "") -> str:
    """The bucket from which calls take a token to start."""
    return f"rate:{_whose(adapter, account)}"


def retries_name(adapter: str) -> str:
    """The permits that the retries of the last window hold."""
    return f"retries:{adapter}"


def _whose(adapter: str, account: str) -> str:
    return f"{adapter}:{account}" if account else adapter


def take_token(name: str, *, rate: float, burst: int) -> float:
    """Take a token of the bucket `name`: 0.0. When there is none: the seconds until there is one,
    and nothing is taken. Never are more than `burst + rate * t` taken in any `t` seconds.

    Not inside a transaction: the others would wait for its end.
    """
    interval = _interval(rate)
    while True:
        now = clock.now()
        start = _to_tick(now)
        not_after = start + (burst - 1) * interval
        if changed(TAKE_TOKENS, [start, start, interval, name, not_after]):
            return 0.0
        full_at = _full_at(name, latest=start + burst * interval)
        wait = _seconds(now, full_at - (burst - 1) * interval)
        if wait > 0:  # else it has been filled since
            return wait


def take_tokens(name: str, count: int, *, rate: float, burst: int, margin: int) -> bool:
    """Take several tokens at once, if the bucket is half full after that. It is left at least
    `margin` tokens less full than it could be, had nobody taken any but these."""
    interval, start = _interval(rate), _to_tick(clock.now())
    least, not_after = start + margin * interval, start + (burst // 2 - count) * interval
    return changed(TAKE_TOKENS, [least, least, count * interval, name, not_after]) == 1


def return_token(name: str, *, rate: float, held: float = 0.0) -> None:
    """Give back a token whose call was not made after all, `held` seconds after it was taken: the
    bucket has filled up meanwhile, so only the rest of it still counts."""
    credit = _interval(rate) - math.ceil(held * TICKS) / TICKS
    if credit > 0:
        changed(GIVE_BACK, [credit, name])


def take_turn(name: str, *, rate: float) -> float:
    """Queue up: the seconds until it is our turn, `rate` turns a second, one after another."""
    now, interval = clock.now(), _interval(rate)
    start = _to_tick(now)
    ((full_at,),) = rows(TAKE_TURN, [name, start + interval, start, start, interval])
    return _seconds(now, full_at)


def turns_ahead(name: str) -> float:
    """The seconds until all who were given a turn have had it."""
    found = rows(FULL_AT, [name])
    return max(_seconds(clock.now(), found[0][0]), 0.0) if found else 0.0


def _full_at(name: str, *, latest: float) -> float:
    """When the bucket will be full; a new one is. One that is far emptier than `latest` allows
    was left by another rate, or by a clock that went wrong: it is empty."""
    found = rows(FULL_AT, [name])
    if not found:
        changed(NEW_BUCKET, [name])
        return 0.0
    full_at: float = found[0][0]
    if full_at > latest + STRAY:
        changed(CORRECT, [latest, name, latest + STRAY])
        return latest
    return full_at


def _lock(name: str) -> None:
    """Nobody else gets past here until the end of the transaction."""
    for_update = " FOR UPDATE" if connection.features.has_select_for_update else ""
    while not rows(f"{FULL_AT}{for_update}", [name]):
        changed(NEW_BUCKET, [name])


def _interval(rate: float) -> float:
    """Seconds between two tokens, rounded up to a tick."""
    return math.ceil(TICKS / rate) / TICKS


def _to_tick(moment: datetime) -> float:
    """Unix time in seconds, rounded down to a tick."""
    return (_micros(moment) * TICKS // 1_000_000) / TICKS


def _seconds(now: datetime, target: float) -> float:
    """From `now` to the first microsecond that is not before `target`."""
    whole, parts = target.as_integer_ratio()
    return (-(-whole * 1_000_000 // parts) - _micros(now)) / 1_000_000


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def take_retry(adapter: str, limits: Limits) -> float:
    """May one more retry go? 0.0 when it may, and is counted; else the seconds until one may, if
    there are no more first attempts until then."""
    window = limits.retry_window
    share = math.floor(limits.retry_ratio * recent_first_attempts(adapter, window))
    allowed = max(share, limits.retry_floor)
    return _take_place(retries_name(adapter), allowed=allowed, seconds=window)


_counted: dict[tuple[str, float], tuple[datetime, int]] = {}


def recent_first_attempts(adapter: str, window: float) -> int:
    """How many calls of the adapter were attempted for the first time in the last `window`
    seconds, at the least. Counted once in a while, for there may be many: without those that may
    have left the window before they are counted again."""
    now, moment = clock.now(), timedelta(seconds=window / 60)
    counted_at, count = _counted.get((adapter, window), (None, 0))
    if counted_at is None or not counted_at <= now < counted_at + moment:
        count = _first_attempts(adapter, since=now + moment - timedelta(seconds=window))
        _counted[adapter, window] = now, count
    return count


def _first_attempts(adapter: str, *, since: datetime) -> int:
    ((count,),) = rows(FIRST_ATTEMPTS, [adapter, moment_in(since)])
    return int(count)


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith("OUTBOUND_"):
        _counted.clear()


setting_changed.connect(_forget)


@transaction.atomic
def _take_place(name: str, *, allowed: int, seconds: float) -> float:
    """Hold a place of `name` for so long, if fewer than `allowed` are held: 0.0, or the seconds
    until there is one.

    Places are numbered in the order in which they were taken, so they expire in that order too:
    there is room when the one `allowed` numbers back has expired. Nobody has to count them.
    """
    _lock(name)
    now = clock.now()
    number, lowest, ends = _next_place(name, allowed, now)
    if ends is not None:
        return (ends - now).total_seconds()
    expired = LAST_NUMBER if number == 1 else number - allowed
    if lowest <= expired:
        changed(LEAVE_PLACES, [name, expired])
    if number > LAST_NUMBER:
        Permit.objects.filter(name=name).update(slot=F("slot") - LAST_NUMBER // 2)
        number -= LAST_NUMBER // 2
    expires_at = now + timedelta(seconds=seconds)
    changed(TAKE_PLACE, [name, number, token_in(uuid.uuid4()), moment_in(expires_at)])
    return 0.0


def _next_place(name: str, allowed: int, now: datetime) -> tuple[int, int, datetime | None]:
    """Its number; the lowest number there is; and if it is not free, when it will be."""
    stored = moment_in(now)
    found = rows(NEWEST_PLACE, [stored, allowed - 1, stored, name])
    if not found:
        return 1, LAST_NUMBER + 1, None
    newest, is_held, in_the_way, lowest = found[0]
    if not is_held:
        return 1, lowest, None
    return newest + 1, lowest, None if in_the_way is None else moment_out(in_the_way)
