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
from fractions import Fraction
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest

from outbound import clock
from outbound.models import CallAttempt, Circuit, Permit, RateBucket

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
        bucket = RateBucket.objects.filter(name=name)
        if bucket.filter(full_at__lte=start + (burst - 1) * interval).update(
            full_at=Greatest(F("full_at"), Value(start)) + interval
        ):
            return 0.0
        full_at = _full_at(name, latest=start + burst * interval)
        wait = _seconds(now, full_at - (burst - 1) * interval)
        if wait > 0:  # else it has been filled since
            return wait


def take_tokens(name: str, count: int, *, rate: float, burst: int, margin: int) -> bool:
    """Take several tokens at once, if the bucket is half full after that. It is left at least
    `margin` tokens less full than it could be, had nobody taken any but these."""
    interval, start = _interval(rate), _to_tick(clock.now())
    bucket = RateBucket.objects.filter(name=name)
    taken = bucket.filter(full_at__lte=start + (burst // 2 - count) * interval).update(
        full_at=Greatest(F("full_at"), Value(start + margin * interval)) + count * interval
    )
    return taken == 1


def return_token(name: str, *, rate: float, held: float = 0.0) -> None:
    """Give back a token whose call was not made after all, `held` seconds after it was taken: the
    bucket has filled up meanwhile, so only the rest of it still counts."""
    credit = _interval(rate) - math.ceil(held * TICKS) / TICKS
    if credit > 0:
        RateBucket.objects.filter(name=name).update(full_at=F("full_at") - credit)


@transaction.atomic
def take_turn(name: str, *, rate: float) -> float:
    """Queue up: the seconds until it is our turn, `rate` turns a second, one after another."""
    bucket = _locked(name)
    now = clock.now()
    bucket.full_at = max(bucket.full_at, _to_tick(now)) + _interval(rate)
    bucket.save(update_fields=["full_at"])
    return _seconds(now, bucket.full_at)


def turns_ahead(name: str) -> float:
    """The seconds until all who were given a turn have had it."""
    bucket = RateBucket.objects.filter(name=name).first()
    return max(_seconds(clock.now(), bucket.full_at), 0.0) if bucket else 0.0


def _full_at(name: str, *, latest: float = math.inf) -> float:
    """When the bucket will be full; a new one is. One that is far emptier than `latest` allows
    was left by another rate, or by a clock that went wrong: it is empty."""
    bucket = RateBucket.objects.filter(name=name)
    full_at = bucket.values_list("full_at", flat=True).first()
    if full_at is None:
        RateBucket.objects.bulk_create([RateBucket(name=name, full_at=0.0)], ignore_conflicts=True)
        return 0.0
    if full_at > latest + STRAY:
        bucket.filter(full_at__gt=latest + STRAY).update(full_at=latest)
        return latest
    return full_at


def _locked(name: str) -> RateBucket:
    """The row, which nobody else has until the end of the transaction."""
    rows = RateBucket.objects.select_for_update()
    return rows.get_or_create(name=name, defaults={"full_at": 0.0})[0]


def _interval(rate: float) -> float:
    """Seconds between two tokens, rounded up to a tick."""
    return math.ceil(TICKS / rate) / TICKS


def _to_tick(moment: datetime) -> float:
    """Unix time in seconds, rounded down to a tick."""
    return (_micros(moment) * TICKS // 1_000_000) / TICKS


def _seconds(now: datetime, target: float) -> float:
    """From `now` to the first microsecond that is not before `target`."""
    return (math.ceil(Fraction(target) * 1_000_000) - _micros(now)) / 1_000_000


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
    circuits = Circuit.objects.filter(adapter=adapter).values("name")
    return CallAttempt.objects.filter(circuit__in=circuits, started_at__gt=since, number=1).count()


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
    _locked(name)
    now, places = clock.now(), Permit.objects.filter(name=name)
    newest = places.order_by("-slot").first()
    number = newest.slot + 1 if newest is not None and newest.expires_at > now else 1
    in_the_way = places.filter(slot=number - allowed, expires_at__gt=now).first()
    if in_the_way is not None:
        return (in_the_way.expires_at - now).total_seconds()
    expired = places if number == 1 else places.filter(slot__lte=number - allowed)
    expired.delete()
    if number > LAST_NUMBER:
        places.update(slot=F("slot") - LAST_NUMBER // 2)
        number -= LAST_NUMBER // 2
    expires_at = now + timedelta(seconds=seconds)
    Permit.objects.create(name=name, slot=number, token=uuid.uuid4(), expires_at=expires_at)
    return 0.0
