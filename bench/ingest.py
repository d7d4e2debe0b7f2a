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
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.core.management import call_command
from django.db import connection

from bench.bare.models import Event
from bench.measuring import Effort
from bench.reports import Report, goal
from bench.serving import CONNECTIONS, Connection, Load, ask_all, clients, request_bytes, served
from webhooks.models import WebhookEvent

RATE_GOAL = 1.2  # times the deliveries of the bare view
WAIT_GOAL = 1.0  # times its 99th percentile
DUPLICATES = 20  # one in so many
HEADER = (
    "",
    "deliveries/s",
    "ratio",
    "half of rounds",
    f">= {RATE_GOAL}",
    "p50 ms",
    "p99 ms",
    "p99 ratio",
)
BARE, OURS = "bare view", "POST /webhooks/stripe"


@dataclass
class Provider:
    """Stripe, towards one address. `distinct`: how many events it has sent."""

    path: str
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
            "type": "payment_intent.succeeded",
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
    if not os.environ["CELERY_BROKER_URL"].startswith("memory:"):
        call_command("setup_broker", verbosity=0)
    with (
        served("bench.bare.wsgi") as bare_port,
        served("integrations_project.wsgi") as port,
        clients(bare_port) as bare,
        clients(port) as ours,
    ):
        sides = {BARE: (bare, Provider("/events")), OURS: (ours, Provider("/webhooks/stripe"))}
        loads = _in_turns(sides, effort)
    return Report(
        f"{effort.rounds} rounds of {effort.calls * CONNECTIONS} deliveries over {CONNECTIONS}"
        " connections; gunicorn with 2 workers",
        HEADER,
        [_row(name, loads) for name in loads],
        failures=[*_wrong_statuses(loads), *_wrong_rows(sides[BARE][1], sides[OURS][1])],
    )


def _in_turns(
    sides: dict[str, tuple[list[Connection], Provider]], effort: Effort
) -> dict[str, list[Load]]:
    """A first round of each that is not counted, then `effort.rounds`."""
    order = list(sides)
    found: dict[str, list[Load]] = {name: [] for name in order}
    for _ in range(effort.rounds + 1):
        for name in order:
            connections, provider = sides[name]
            sent = [provider.delivery() for _ in range(effort.calls * CONNECTIONS)]
            found[name].append(ask_all(connections, sent))
        order.append(order.pop(0))
    return found


def _row(name: str, loads: dict[str, list[Load]]) -> tuple[str, ...]:
    rates = [_rate(load) for load in loads[name][1:]]
    each = [rate / _rate(bare) for rate, bare in zip(rates, loads[BARE][1:], strict=True)]
    low, typical, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
    waits, theirs = _waits(loads[name]), _waits(loads[BARE])
    slowest = _percentile(waits) / _percentile(theirs)
    return (
        name,
        f"{statistics.median(rates):.0f}",
        f"{typical:.2f}",
        "" if name == BARE else f"{low:.2f} to {high:.2f}",
        "" if name == BARE else goal(typical >= RATE_GOAL),
        f"{statistics.median(waits) * 1000:.1f}",
        f"{_percentile(waits) * 1000:.1f}",
        f"{slowest:.2f}" if name == BARE else f"{slowest:.2f}, {goal(slowest <= WAIT_GOAL)}",
    )


def _rate(load: Load) -> float:
    return len(load.statuses) / load.seconds


def _waits(rounds: list[Load]) -> list[float]:
    return sorted(wait for load in rounds[1:] for wait in load.waits)


def _percentile(waits: list[float]) -> float:
    return waits[int(len(waits) * 0.99)]


def _wrong_statuses(loads: dict[str, list[Load]]) -> Iterator[str]:
    for name, rounds in loads.items():
        for status in sorted({status for load in rounds for status in load.statuses} - {200}):
            yield f"{name}: answered {status}"


def _wrong_rows(bare: Provider, ours: Provider) -> Iterator[str]:
    """As many rows as distinct events."""
    for model, provider in ((Event, bare), (WebhookEvent, ours)):
        found = model._default_manager.count()  # noqa: SLF001 - Django's documented way in
        if found != provider.distinct:
            yield f"{found} rows of {model.__name__} for {provider.distinct} events"
