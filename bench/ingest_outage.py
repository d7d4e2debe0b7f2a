"""What a provider notices when the broker stands still for 20 seconds: nothing; and no event is
lost.

The RabbitMQ is one of our own, and is stopped by SIGSTOP: it accepts, and answers nobody. Worker
and beat run beside the web processes, as in production.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bench.ingest import Provider, percentile, wrong_count
from bench.measuring import Effort
from bench.reports import Report, goal
from bench.serving import CONNECTIONS, Connection, celery, clients, has_broker, served
from tests.house.polling import wait_until
from tests.services.rabbitmq import PrivateRabbitMQ
from webhooks.models import WebhookEvent
from webhooks.states import FINISHED

GOAL = 1.0  # seconds, the slowest answer
RATE = 40.0  # deliveries per second
LIVELY, FROZEN = 5.0, 20.0  # seconds before and after, and of the stand-still
HANDLED_SECONDS = 180.0
UNHEARD_OF = "customer.tax_id.created"  # that no handler takes: IGNORED is its end
HEADER = ("", "deliveries", "p50 ms", "p99 ms", "max", f"<= {GOAL:g} s")
PHASES = ("before", f"broker frozen for {FROZEN:g} s", "after")


@dataclass(frozen=True, slots=True)
class Answer:
    """`at`: when it was asked for, in seconds since the beginning."""

    at: float
    seconds: float
    status: int


def measure(effort: Effort) -> Report:
    """The same load before, during and after; then the time until all are handled."""
    if not has_broker():
        return Report("no broker in this form: there is none that could stand still", ("",), [])
    rabbitmq = PrivateRabbitMQ()
    try:
        return _measure(rabbitmq)
    finally:
        rabbitmq.close()


def _measure(rabbitmq: PrivateRabbitMQ) -> Report:
    broker = rabbitmq.url("/")
    provider = Provider("/webhooks/stripe", event_type=UNHEARD_OF)
    sent = [provider.delivery() for _ in range(int(RATE * (2 * LIVELY + FROZEN)))]
    with (
        celery("worker", CELERY_BROKER_URL=broker),
        celery("beat", CELERY_BROKER_URL=broker),
        served("integrations_project.wsgi", CELERY_BROKER_URL=broker) as port,
        clients(port) as connections,
    ):
        warm_up(connections[0], provider)
        pauses = [threading.Timer(LIVELY, rabbitmq.freeze)]
        pauses += [threading.Timer(LIVELY + FROZEN, rabbitmq.thaw)]
        for pause in pauses:
            pause.start()
        answers = ask_steadily(connections, sent)
        for pause in pauses:
            pause.join()
        began, left = time.monotonic(), waiting_after(HANDLED_SECONDS)
        seconds = time.monotonic() - began
    return Report(
        f"{len(sent)} deliveries, {RATE:g} a second, over {CONNECTIONS} connections; gunicorn with"
        " 2 workers, a worker, beat",
        HEADER,
        [*_rows(answers)],
        notes=[f"all handled {seconds:.0f} s after the last answer"] if not left else [],
        failures=[
            *(f"answered {status}" for status in sorted({each.status for each in answers} - {200})),
            *wrong_count("POST", WebhookEvent.objects.count(), provider.distinct),
            *([f"{left} events were not handled within {HANDLED_SECONDS:g} s"] if left else []),
        ],
    )


def warm_up(connection: Connection, provider: Provider) -> None:
    """Until everybody is there: a first event has been handled."""
    connection.send(provider.delivery())
    connection.close()
    wait_until(partial(_waiting, 0), seconds=HANDLED_SECONDS, what="the worker is up")


def ask_steadily(connections: Sequence[Connection], requests: Sequence[bytes]) -> list[Answer]:
    """Send them at RATE, however long the answers take, as far as there are connections."""
    began = time.perf_counter()

    def ask(place: int) -> list[Answer]:
        found = []
        for number in range(place, len(requests), len(connections)):
            time.sleep(max(began + number / RATE - time.perf_counter(), 0))
            asked = time.perf_counter()
            status = connections[place].send(requests[number])
            found.append(Answer(asked - began, time.perf_counter() - asked, status))
        return found

    with ThreadPoolExecutor(len(connections)) as threads:
        return [each for part in threads.map(ask, range(len(connections))) for each in part]


def waiting_after(seconds: float) -> int:
    """How many events are not at their end, when all are or so many seconds have passed."""
    ends = time.monotonic() + seconds
    while (left := _left()) and time.monotonic() < ends:
        time.sleep(1)
    return left


def _waiting(expected: int) -> bool:
    return _left() == expected


def _left() -> int:
    return WebhookEvent.objects.exclude(status__in=FINISHED).count()


def _rows(answers: Sequence[Answer]) -> Iterator[tuple[str, ...]]:
    ends = (LIVELY, LIVELY + FROZEN, float("inf"))
    for name, begins, end in zip(PHASES, (0.0, *ends), ends, strict=False):
        waits = sorted(each.seconds for each in answers if begins <= each.at < end)
        yield (
            name,
            str(len(waits)),
            f"{statistics.median(waits) * 1000:.1f}",
            f"{percentile(waits) * 1000:.1f}",
            f"{waits[-1] * 1000:.1f}",
            goal(waits[-1] <= GOAL),
        )
