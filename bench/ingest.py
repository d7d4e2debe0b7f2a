"""What receiving a webhook costs: signed deliveries of Stripe's, one in twenty a duplicate, against
a view as one writes it by hand (`bench/bare/views.py`)."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from django.db import connection

from bench.bare.models import Event
from bench.measuring import Effort, in_turns
from bench.reports import Report, goal, rated
from bench.serving import (
    CONNECTIONS,
    Connection,
    Load,
    ask_all,
    clients,
    declare_queues,
    request_bytes,
    served,
)
from webhooks.models import WebhookEvent

RATE_GOAL = 1.2  # times the deliveries of the bare view
WAIT_GOAL = 1.0  # times its 99th percentile
DUPLICATES = 20  # one in so many
BARE, OURS = "bare view", "POST /webhooks/stripe"

Loads = Mapping[str, list[Load]]
Sides = Mapping[str, tuple[list[Connection], "Provider"]]


@dataclass
class Provider:
    """Stripe, towards one address. `distinct`: how many events it has sent."""

    path: str
    event_type: str = "payment_intent.succeeded"
    distinct: int = 0
    _last: bytes = b""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def delivery(self) -> bytes:
        """A signed delivery; now and then one that was sent before."""
        number = next(self._numbers)
        if not self._last or number % DUPLICATES:
            self._last = self._event(number)
            self.distinct += 1
        return self._last

    def _event(self, number: int) -> bytes:
        document = {
            "id": f"evt_{number:024}",
            "object": "event",
            "created": int(time.time()),
            "type": self.event_type,
            "livemode": False,
            "data": {
                "object": {"id": f"pi_{number}", "amount": number, "metadata": {"n": "x" * 500}}
            },
        }
        body = json.dumps(document).encode()
        now, secret = str(int(time.time())), os.environ["STRIPE_WEBHOOK_SECRETS"].encode()
        digest = hmac.new(secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        signature = f"t={now},v1={digest}"
        headers = {"Content_Type": "application/json", "Stripe_Signature": signature}
        return request_bytes(self.path, body, **headers)


def measure(effort: Effort) -> Report:
    """Both addresses under the same load, in turns."""
    with connection.schema_editor() as editor:
        editor.create_model(Event)
    declare_queues()
    with (
        served("bench.bare.wsgi") as bare_port,
        served("integrations_project.wsgi") as port,
        clients(bare_port) as bare,
        clients(port) as ours,
    ):
        sides = {BARE: (bare, Provider("/events")), OURS: (ours, Provider("/webhooks/stripe"))}
        loads = loads_of(sides, effort)
    slowest = {name: percentile(waits_of(rounds)) for name, rounds in loads.items()}
    ratio = slowest[OURS] / slowest[BARE]
    return Report(
        title(effort),
        header(RATE_GOAL),
        table(loads, BARE, RATE_GOAL),
        notes=[f"p99 ratio {ratio:.2f}, at most {WAIT_GOAL}: {goal(ratio <= WAIT_GOAL)}"],
        failures=[
            *wrong_statuses(loads),
            *wrong_count(BARE, Event.objects.count(), sides[BARE][1].distinct),
            *wrong_count(OURS, WebhookEvent.objects.count(), sides[OURS][1].distinct),
        ],
    )


def loads_of(sides: Sides, effort: Effort) -> dict[str, list[Load]]:
    """In turns: a first round of each that is not counted, then `effort.rounds`."""

    def load(connections: list[Connection], provider: Provider) -> Load:
        sent = [provider.delivery() for _ in range(effort.calls * CONNECTIONS)]
        return ask_all(connections, sent)

    found = in_turns(
        {name: partial(load, *side) for name, side in sides.items()}, rounds=effort.rounds + 1
    )
    return {name: rounds[1:] for name, rounds in found.items()}


def title(effort: Effort) -> str:
    sent = f"{effort.rounds} rounds of {effort.calls * CONNECTIONS} deliveries"
    return f"{sent} over {CONNECTIONS} connections; gunicorn with 2 workers"


def header(least: float) -> tuple[str, ...]:
    return ("", "deliveries/s", "ratio", "half of rounds", f">= {least}", "p50 ms", "p99 ms", "max")


def table(loads: Loads, base: str, least: float) -> list[tuple[str, ...]]:
    """A row for each side. The ratio is that of a typical round to `base`."""
    return [_row(name, loads, base, least) for name in loads]


def _row(name: str, loads: Loads, base: str, least: float) -> tuple[str, ...]:
    rates = {side: [load.rate for load in rounds] for side, rounds in loads.items()}
    waits = waits_of(loads[name])
    return (
        *rated(name, rates[name], rates[base], least),
        f"{statistics.median(waits) * 1000:.1f}",
        f"{percentile(waits) * 1000:.1f}",
        f"{waits[-1] * 1000:.1f}",
    )


def waits_of(rounds: list[Load]) -> list[float]:
    """The seconds of all answers, the longest last."""
    return sorted(wait for load in rounds for wait in load.waits)


def percentile(waits: list[float]) -> float:
    """The 99th."""
    return waits[int(len(waits) * 0.99)]


def wrong_statuses(loads: Loads) -> Iterator[str]:
    for name, rounds in loads.items():
        for status in sorted({status for load in rounds for status in load.statuses} - {200}):
            yield f"{name}: answered {status}"


def wrong_count(name: str, rows: int, events: int) -> Iterator[str]:
    """As many rows as distinct events."""
    if rows != events:
        yield f"{name}: {rows} rows for {events} events"
