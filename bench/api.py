"""What the HTTP API costs: `POST /refunds` against a bare view that inserts one row, and an answer
that is waited for against a request to the provider of one's own."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import requests
from django.db import connection

from api.models import IdempotentRequest
from api.services import MAX_RATE, create_client
from bench.bare.models import Row
from bench.measuring import Effort, Rounds, in_turns, interleaved, median
from bench.reports import Report, rated
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
from outbound.clock import now
from outbound.models import OutboundCall
from payments.models import Payment
from payments.states import PaymentStatus
from sandbox.control import Sandbox

GOAL = 0.5  # times the requests of the bare view
PAYMENTS = 50
CAPTURED = 99_999_999  # minor units: more than all refunds together
HEADER = ("", "requests/s", "ratio", "half of rounds", f">= {GOAL}", "median ms", "p99 ms")
BARE, OURS = "bare view", "POST /refunds"
DIRECT, WAITED = "request to the provider", "POST /customers, Prefer: wait"
CREATED = (200, 201)

Loads = dict[str, list[Load]]


class Caller:
    """Who asks: each request with a key of its own."""

    def __init__(self, key: str) -> None:
        self._authorization = f"Bearer {key}"
        self._intents = itertools.cycle(make_payments())

    def refund(self) -> bytes:
        body = {"payment_intent": next(self._intents), "amount": 1, "reference": "bench"}
        return self._request("/api/v1/refunds", body)

    def customer(self) -> bytes:
        return self._request("/api/v1/customers", {"email": "a@example.com"}, Prefer="wait=10")

    def row(self) -> bytes:
        """The same for the bare view."""
        return self.refund().replace(b"/api/v1/refunds", b"/rows", 1)

    def _request(self, path: str, body: Mapping[str, object], **headers: str) -> bytes:
        return request_bytes(
            path,
            json.dumps(body).encode(),
            Authorization=self._authorization,
            Content_Type="application/json",
            Idempotency_Key=uuid.uuid4().hex,
            **headers,
        )


def measure(effort: Effort) -> Report:
    """Both views under the same load, in turns; then both ways to the provider, in turns."""
    prepare()
    caller = Caller(str(create_client(name="bench", scopes=["payments:write"], rate=MAX_RATE)))
    with Sandbox.start() as provider:
        os.environ["STRIPE_API_BASE"] = provider.url
        with (
            served("bench.bare.wsgi") as bare_port,
            served("integrations_project.wsgi") as port,
            clients(bare_port) as bare,
            clients(port) as ours,
        ):

            def load(connections: list[Connection], make: Callable[[], bytes]) -> Load:
                return ask_all(connections, [make() for _ in range(effort.calls * CONNECTIONS)])

            sides = {
                BARE: partial(load, bare, caller.row),
                OURS: partial(load, ours, caller.refund),
            }
            loads = in_turns(sides, rounds=effort.rounds + 1)  # the first is not counted
            waits, wrong = _waits(provider, ours[0], caller, effort)
    return Report(
        f"{effort.rounds} rounds of {effort.calls * CONNECTIONS} requests over {CONNECTIONS}"
        " connections; gunicorn with 2 workers",
        HEADER,
        [_row(name, loads) for name in loads],
        notes=_waited(waits),
        failures=[*_wrong_statuses(loads), *wrong, *_wrong_rows(loads, waits)],
    )


def prepare() -> None:
    """The bare view's table, and queues where there is a broker."""
    with connection.schema_editor() as editor:
        editor.create_model(Row)
    declare_queues()


def make_payments() -> list[str]:
    """Payments that were captured; the provider's ids of them."""
    made = [
        Payment(
            amount=CAPTURED,
            amount_captured=CAPTURED,
            currency="usd",
            status=PaymentStatus.SUCCEEDED,
            provider_id=f"pi_bench{number}",
            created_at=now(),
            updated_at=now(),
        )
        for number in range(PAYMENTS)
    ]
    return [payment.provider_id or "" for payment in Payment.objects.bulk_create(made)]


def _row(name: str, loads: Loads) -> tuple[str, ...]:
    rates = {side: [load.rate for load in rounds[1:]] for side, rounds in loads.items()}
    waits = sorted(wait for load in loads[name][1:] for wait in load.waits)
    return (
        *rated(name, rates[name], rates[BARE], GOAL),
        f"{statistics.median(waits) * 1000:.1f}",
        f"{waits[int(len(waits) * 0.99)] * 1000:.1f}",
    )


def _waits(
    provider: Sandbox, ours: Connection, caller: Caller, effort: Effort
) -> tuple[dict[str, Rounds], list[str]]:
    """The seconds of single requests, and what was not answered as it should be."""
    wrong: list[str] = []
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {os.environ['STRIPE_SECRET_KEY']}"

    def check(name: str, status: int) -> None:
        if status not in CREATED:
            wrong.append(f"{name}: answered {status}")

    def direct() -> None:
        answer = session.post(
            f"{provider.url}/v1/customers",
            data={"email": "a@example.com"},
            headers={"Idempotency-Key": uuid.uuid4().hex},
            timeout=10,
        )
        check(DIRECT, answer.status_code)

    def waited() -> None:
        check(WAITED, ours.send(caller.customer()))

    acts = {DIRECT: direct, WAITED: waited}
    found = interleaved(acts, rounds=effort.rounds, calls=effort.calls)
    return found, sorted(set(wrong))


def _waited(waits: dict[str, Rounds]) -> list[str]:
    added = median(waits[WAITED]) - median(waits[DIRECT])
    return [
        f"{name}: {median(rounds) * 1000:.1f} ms, one at a time" for name, rounds in waits.items()
    ] + [f"added by the wait, with its row, its attempt and its key: {added * 1000:.1f} ms"]


def _wrong_statuses(loads: Loads) -> Iterator[str]:
    for name, rounds in loads.items():
        for status in sorted({status for load in rounds for status in load.statuses} - {202}):
            yield f"{name}: answered {status}"


def _wrong_rows(loads: Loads, waits: dict[str, Rounds]) -> Iterator[str]:
    """As many rows as requests, no more and no fewer."""
    waited = sum(map(len, waits[WAITED]))
    asked = {name: sum(len(load.statuses) for load in rounds) for name, rounds in loads.items()}
    expected = {
        Row: asked[BARE],
        OutboundCall: asked[OURS] + waited,
        IdempotentRequest: asked[OURS] + waited,
    }
    for model, count in expected.items():
        found = model._default_manager.count()  # noqa: SLF001 - Django's documented way in
        if found != count:
            yield f"{found} rows of {model.__name__} for {count} requests"
