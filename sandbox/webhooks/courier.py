"""Carries one provider's events to its endpoint: held, shuffled, late, twice, and again when
refused.

A bounded number of deliveries runs at a time, so that a slow receiver costs the API nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from sandbox.limits import MAX_WAITING_DELIVERIES
from sandbox.recent import Recent
from sandbox.records import Delivery
from sandbox.webhooks.policy import Endpoint, Policy, covers
from sandbox.webhooks.posting import Target, post
from sandbox.webhooks.sealing import Parcel, Seal, Tidings

AT_A_TIME = 16


class Courier:
    """All deliveries of one provider. Starts with `start()`, in a running loop."""

    def __init__(
        self,
        *,
        provider: str,
        seal: Seal,
        seed: int | None,
        endpoint: Endpoint,
        log: Recent[Delivery],
    ) -> None:
        self.endpoint = endpoint
        self.log = log
        self.provider = provider
        self._seal = seal
        self.held: deque[Parcel] = deque()
        self.pending = 0  # on the way, late or waiting; not those held
        self._seed = seed
        self._first_endpoint = endpoint
        self._chance = random.Random(seed)
        self._ready: asyncio.Queue[Parcel] = asyncio.Queue()
        self._buffer: list[Parcel] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver."""
        self._tasks = [asyncio.create_task(self._deliver_all()) for _ in range(AT_A_TIME)]

    def listeners(self) -> int:
        """How many URLs hear of an event."""
        return 1 if self.endpoint.target else 0

    def accept(self, events: Iterable[Tidings], *, policy: Policy | None = None) -> None:
        """Take events over, to be delivered as the endpoint's policy says, or this one."""
        for event in events:
            if self._target_of(event) and covers(self.endpoint.types, event.type):
                self._take(event, policy or self.endpoint.policy_for(event.type, self._chance))

    def release(
        self, *, types: tuple[str, ...] | None = None, limit: int | None = None, shuffle: bool
    ) -> int:
        """Let held ones go. How many."""
        chosen = [parcel for parcel in self.held if covers(types, parcel.event.type)][:limit]
        gone = set(map(id, chosen))
        self.held = deque(parcel for parcel in self.held if id(parcel) not in gone)
        if shuffle:
            self._chance.shuffle(chosen)
        for parcel in chosen:
            self._send_after(parcel, parcel.policy.delay)
        return len(chosen)

    def reset(self) -> None:
        """As at the start, with nothing on the way."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        self._ready = asyncio.Queue()
        self._buffer.clear()
        self.held.clear()
        self.pending = 0
        self.endpoint = self._first_endpoint
        self._chance.seed(self._seed)
        self.start()

    def _target_of(self, event: Tidings) -> Target | None:
        """The event's own address, where it has one."""
        return event.target or self.endpoint.target

    def _take(self, event: Tidings, policy: Policy) -> None:
        for copy in range(1, policy.duplicates + 2):
            parcel = Parcel(event, policy, copy)
            if policy.drop:
                self._write_down(parcel, outcome="dropped", error="as told")
            elif self.pending + len(self.held) >= MAX_WAITING_DELIVERIES:
                self._write_down(parcel, outcome="dropped", error="too many are waiting")
            elif policy.hold:
                self.held.append(parcel)
            elif policy.reorder > 1:
                self._collect(parcel)
            else:
                self._send_after(parcel, policy.delay)

    def _collect(self, parcel: Parcel) -> None:
        self.pending += 1
        self._buffer.append(parcel)
        if len(self._buffer) >= parcel.policy.reorder:
            self._shuffle_out()
        elif len(self._buffer) == 1:
            self._after(parcel.policy.reorder_seconds, self._shuffle_out)

    def _shuffle_out(self) -> None:
        parcels, self._buffer = self._buffer, []
        self._chance.shuffle(parcels)
        self.pending -= len(parcels)
        for parcel in parcels:
            self._send_after(parcel, parcel.policy.delay)

    def _send_after(self, parcel: Parcel, seconds: float) -> None:
        self.pending += 1
        if seconds:
            self._after(seconds, partial(self._ready.put_nowait, parcel))
        else:
            self._ready.put_nowait(parcel)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            act()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)

    async def _deliver_all(self) -> None:
        while True:
            parcel = await self._ready.get()
            await self._deliver(parcel)
            self.pending -= 1

    async def _deliver(self, parcel: Parcel) -> None:
        target, began = self._target_of(parcel.event), time.time()
        if target is None:
            self._write_down(parcel, outcome="dropped", error="there is no URL any more")
            return
        clock = time.perf_counter()
        status, error = await self._post(parcel, target)
        delivered = status is not None and 200 <= status < 300
        outcome = "delivered" if delivered else "failed" if status is None else "refused"
        seconds = time.perf_counter() - clock
        self._write_down(
            parcel, outcome=outcome, status=status, error=error, at=began, seconds=seconds
        )
        retries = self.endpoint.retry_seconds
        if not delivered and parcel.attempt <= len(retries):
            self._send_after(
                replace(parcel, attempt=parcel.attempt + 1), retries[parcel.attempt - 1]
            )

    async def _post(self, parcel: Parcel, target: Target) -> tuple[int | None, str]:
        headers, body = self._seal(parcel, self.endpoint.secrets, target)
        return await post(target, headers=headers, body=body, patience=self.endpoint.timeout)

    def _write_down(
        self,
        parcel: Parcel,
        *,
        outcome: str,
        status: int | None = None,
        error: str = "",
        at: float | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.log.add(
            lambda seq: Delivery(
                seq=seq,
                event=parcel.event.id,
                type=parcel.event.type,
                copy=parcel.copy,
                attempt=parcel.attempt,
                outcome=outcome,
                status=status,
                error=error,
                at=time.time() if at is None else at,
                seconds=round(seconds, 6),
                provider=self.provider,
            )
        )
