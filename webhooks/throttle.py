"""A bound on what unproven senders can make us verify: one bucket for each source and sender.

Only a failed proof costs a token, so a provider's genuine burst is never held up. An empty bucket
answers 429 before the body is read and before any signature work, and lets one delivery through
for each token that comes back.

A sender that has proved itself within a day is not held up at all: a flood may come from behind the
same address (NAT, the shared exits of a webhook service), and a delivery that is refused for its
neighbour's sake is what this is to prevent. What such a flood can cost is the verification alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from django.conf import settings

from webhooks.errors import Throttled

KEPT = 10_000  # senders of either sort; who was quiet for longest is forgotten first
MINUTE = 60.0
PROVEN_SECONDS = 86_400.0
NOTED_SECONDS = 60.0  # a proof is noted once in a while: nearly all deliveries only look

Key = tuple[str, str]


class Throttle:
    """The buckets of this process. Each is one number (GCRA): when it will be full again."""

    def __init__(
        self, *, kept: int = KEPT, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept = kept
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._full_at: OrderedDict[Key, float] = OrderedDict()
        self._proven_at: OrderedDict[Key, float] = OrderedDict()

    def admit(self, source: str, sender: str) -> None:
        """Raises Throttled when the sender has failed too often."""
        full_at = self._full_at.get((source, sender))
        if full_at is None:
            return
        limit = settings.WEBHOOK_FAILURES_PER_MINUTE
        now = self._monotonic()
        wait = full_at - now - (limit - 1) * MINUTE / limit
        if wait <= 0 or self._proven_at.get((source, sender), -math.inf) > now - PROVEN_SECONDS:
            return
        raise Throttled("too many deliveries that prove nothing", retry_after=math.ceil(wait))

    def failed(self, source: str, sender: str) -> None:
        """A proof has failed: take a token."""
        now = self._monotonic()
        with self._lock:
            full_at = max(self._full_at.get((source, sender), now), now)
            spent = MINUTE / settings.WEBHOOK_FAILURES_PER_MINUTE
            # never further than empty: those that were admitted together may fail together
            self._keep(self._full_at, (source, sender), min(full_at + spent, now + MINUTE))

    def proved(self, source: str, sender: str) -> None:
        """The sender is who it says."""
        now = self._monotonic()
        if self._proven_at.get((source, sender), -math.inf) > now - NOTED_SECONDS:
            return
        with self._lock:
            self._keep(self._proven_at, (source, sender), now)

    def _keep(self, entries: OrderedDict[Key, float], key: Key, value: float) -> None:
        entries[key] = value
        entries.move_to_end(key)
        while len(entries) > self._kept:
            entries.popitem(last=False)


throttle = Throttle()
"""This process's senders."""
