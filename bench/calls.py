"""What a call costs from the view to its settled row: through the engine, against a plain Celery
task that makes the same request and keeps no rows (`bench/bare/tasks.py`).

Each has one worker with 16 threads, and somebody who asks for one call after the other, as views
do. It is over when the last has been answered and, in ours, settled.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from django.db import transaction

from bench.bare.tasks import create_customer
from bench.measuring import Effort, in_turns
from bench.reports import Report, rated
from bench.serving import celery, declare_queues, has_broker, started
from outbound.models import OutboundCall
from outbound.services import enqueue_call
from outbound.states import CallStatus
from sandbox.control import Sandbox
from tests.house.polling import wait_until

GOAL = 0.7  # times the calls of the plain task
THREADS = 16
LATENCIES = (0.0, 0.05)  # seconds until the provider answers
EMAIL = "a@example.com"
BARE, OURS = "plain task", "outbound call"
HEADER = ("", "calls/s", "ratio", "half of rounds", f">= {GOAL}")
ENDED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Side:
    """One way to make calls. `ask`: for one; `ended`: how many there have been."""

    ask: Callable[[], object]
    ended: Callable[[], int]


def measure(effort: Effort) -> Report:
    """Both in turns, with a provider that answers at once and one that takes its time."""
    if not has_broker():
        return Report("no broker in this form: a plain task would have none either", ("",), [])
    declare_queues()
    calls = effort.calls * THREADS
    rows: list[tuple[str, ...]] = []
    wrong: list[str] = []
    with Sandbox.start() as provider:
        os.environ["STRIPE_API_BASE"] = provider.url
        sides = {
            BARE: Side(_publish, lambda: _effects(provider)),
            OURS: Side(_enqueue, OutboundCall.objects.filter(status=CallStatus.SUCCEEDED).count),
        }

        def run(name: str, latency: float) -> float:
            provider.reset()
            provider.change_settings(latency=latency)
            rate = _rate(sides[name], calls)
            if _effects(provider) != calls:
                wrong.append(f"{name}: {_effects(provider)} effects of {calls} calls")
            return rate

        with _workers():
            for latency in LATENCIES:
                acts = {name: partial(run, name, latency) for name in sides}
                found = in_turns(acts, rounds=effort.rounds + 1)
                rates = {name: each[1:] for name, each in found.items()}  # the first warms up
                rows += [
                    rated(f"{latency * 1000:g} ms: {name}", rates[name], rates[BARE], GOAL)
                    for name in sides
                ]
    return Report(
        f"{effort.rounds} rounds of {calls} calls; one worker with {THREADS} threads; by the time"
        " that the provider takes",
        HEADER,
        rows,
        failures=wrong,
    )


@contextmanager
def _workers() -> Iterator[None]:
    """One for each side; who is not asked is idle."""
    command = [sys.executable, "-m", "celery", "-A", "bench.bare.tasks", "worker"]
    options = ["-n", "plain@%h", "-P", "threads", "-c", str(THREADS), "-l", "ERROR"]
    with (
        started("plain worker", [*command, *options]),
        celery("worker", WORKER_CONCURRENCY=str(THREADS)),
    ):
        yield


def _effects(provider: Sandbox) -> int:
    return int(provider.summary()["effects"])


def _publish() -> None:
    create_customer.delay(EMAIL, uuid.uuid4().hex)


def _enqueue() -> None:
    with transaction.atomic():
        enqueue_call(adapter="stripe", operation="create_customer", payload={"email": EMAIL})


def _rate(side: Side, calls: int) -> float:
    """Calls a second, from the first that is asked for to the last that has ended."""
    wanted = side.ended() + calls
    began = time.perf_counter()
    for _ in range(calls):
        side.ask()
    wait_until(lambda: side.ended() >= wanted, seconds=ENDED_SECONDS, what="all calls have ended")
    return calls / (time.perf_counter() - began)
