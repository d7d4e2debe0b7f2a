"""Tokens of a bucket taken a few at a time: a busy process writes once for many requests.

What a process holds is good for a second, and lost when it dies. It is still true that never more
than `burst + rate * t` tokens are used in any `t` seconds: a token may be used later than it was
taken, so whoever takes several leaves the bucket short of full by more than can flow into it
meanwhile. Once it is half empty tokens are taken one by one again, so that none are lost where
they are scarce, and the wait that is told is exact.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from outbound import clock, limits

GOOD_FOR = timedelta(seconds=1)
MARGIN_SECONDS = 2.0  # of inflow: GOOD_FOR, and as much again for clocks that differ
SHARE = 16  # what is taken at once: this part of a second's tokens, for there are many processes
MOST_TOKENS = 100
MOST_LEASES = 10_000


@dataclass(slots=True)
class _Lease:
    taken_at: datetime
    left: int

    def good(self, now: datetime) -> bool:
        return timedelta(0) <= now - self.taken_at < GOOD_FOR


class TokenLeases:
    """What one process holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, float, int], _Lease] = {}

    def take(self, name: str, *, rate: float, burst: int) -> float:
        """As `limits.take_token`, mostly without a statement where the rate is a high one."""
        count, margin = min(int(rate / SHARE), MOST_TOKENS), math.ceil(rate * MARGIN_SECONDS)
        if count < 2 or count + margin > burst // 2:
            return limits.take_token(name, rate=rate, burst=burst)
        key, now = (name, rate, burst), clock.now()
        if self._use(key, now):
            return 0.0
        if limits.take_tokens(name, count, rate=rate, burst=burst, margin=margin):
            self._keep(key, now, count - 1)
            return 0.0
        return limits.take_token(name, rate=rate, burst=burst)

    def _use(self, key: tuple[str, float, int], now: datetime) -> bool:
        with self._lock:
            lease = self._held.get(key)
            if lease is None or not lease.left or not lease.good(now):
                return False
            lease.left -= 1
            return True

    def _keep(self, key: tuple[str, float, int], now: datetime, count: int) -> None:
        """Beside what another thread has taken just now: all is good for as long as the older."""
        with self._lock:
            lease = self._held.get(key)
            if lease is not None and lease.good(now):
                lease.left += count
                lease.taken_at = min(lease.taken_at, now)
                return
            if len(self._held) >= MOST_LEASES:
                self._held.clear()
            self._held[key] = _Lease(now, count)


_ours = TokenLeases()


def take_token(name: str, *, rate: float, burst: int) -> float:
    """Take a token of the bucket `name`: 0.0. When there is none: the seconds until there is one.
    Not inside a transaction: the others would wait for its end."""
    return _ours.take(name, rate=rate, burst=burst)
