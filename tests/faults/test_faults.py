"""Whatever dies, the rows and the provider's ledger agree in the end. Each test names its
invariant: 2 nothing is lost, 3 one attempt at a time, 4 one effect, 7 a 2xx means stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.faults.harness import System
from tests.services.broker import Broker
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbitMQ

pytestmark = pytest.mark.faults
services = pytest.mark.services

QUEUE = "payments-v1"
CREATE_PAYMENT = "payments.services.create_payment"
ANSWER_LIMIT = 1.0  # seconds: what a webhook's sender may have to wait while the broker is frozen
FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 503},
    {"kind": "drop_before_effect"},
    {"kind": "drop_after_effect"},
]


def pay(system: System, numbers: Iterable[int]) -> None:
    """Ask for payments, one transaction each, eight at a time."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: pay_one(system, number), numbers))


def pay_one(system: System, number: int) -> None:
    system.call(
        CREATE_PAYMENT,
        {
            "amount": 1000 + number,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "reference": f"order-{number}",
        },
    )


def in_flight(system: System, least: int = 1) -> bool:
    return sum(call.status == "running" for call in system.rows.calls()) >= least


def come_to_rest(system: System) -> None:
    """Calls first, then the events that they have caused."""
    system.wait_for_rest()
    system.provider.wait_for_deliveries()
    system.wait_for_rest()


def all_paid(system: System, count: int) -> None:
    """Every payment once, by our rows and by the ledger."""
    books = system.check_invariants()
    assert Counter(call.status for call in books.calls) == {"succeeded": count}
    made = [e for e in books.effects if e.kind == "payment_intent.created"]
    assert len({effect.key for effect in made}) == len(made) == count


@services
def test_workers_killed_again_and_again(system: System) -> None:
    """2, 3, 4: workers die by SIGKILL in the middle of calls, at a provider that fails, too."""
    system.provider.change_settings(latency=0.5)
    system.provider.set_mix(rate=0.2, kinds=FAULTS, method="POST")
    system.start_web()
    system.start_worker("first", concurrency=4)
    system.start_worker("second", concurrency=4)
    system.start_beat()
    for round_, name in enumerate(("first", "second", "first", "second")):
        pay(system, range(10 * round_, 10 * round_ + 10))
        system.wait_until(lambda: in_flight(system, 3), what="calls are in flight")
        system.kill(name)
        system.start(name)
    come_to_rest(system)
    all_paid(system, 40)


def test_embedded_worker_killed_again_and_again(embedded_system: System) -> None:
    """2, 3, 4: the embedded form keeps the same promises, its queue in memory and all."""
    system = embedded_system
    system.provider.change_settings(latency=0.5)
    system.provider.set_mix(rate=0.2, kinds=FAULTS, method="POST")
    system.start_web()
    system.start_worker(concurrency=4)
    for round_ in range(3):
        pay(system, range(10 * round_, 10 * round_ + 10))
        system.wait_until(lambda: in_flight(system, 2), what="calls are in flight")
        system.kill("worker")
        system.start("worker")
    come_to_rest(system)
    all_paid(system, 30)


@services
def test_late_finisher(system: System) -> None:
    """3, 4: a worker that is frozen past its lease and thawed again writes nothing."""
    system.start_web()
    system.provider.hold_webhooks()
    system.provider.add_fault("latency", seconds=1.5)
    system.start_worker("slow", concurrency=2)
    system.start_beat()
    pay_one(system, 1)
    system.wait_until(system.provider.requests, what="the call is at the provider")
    system.freeze("slow")
    system.start_worker("other", concurrency=2)

    def other_has_it() -> bool:
        return [a.outcome for a in system.rows.attempts()] == ["crashed", "succeeded"]

    system.wait_until(other_has_it, what="the other worker has made the call")
    before = system.rows.calls(), system.rows.attempts()
    system.thaw("slow")
    system.wait_until(
        lambda: "lease_lost" in system.process("slow").log.read_text(), what="the lease is missed"
    )
    assert (system.rows.calls(), system.rows.attempts()) == before
    system.provider.release_webhooks()
    come_to_rest(system)
    system.check_invariants(client_frozen=True)


@services
def test_soft_shutdown_finishes_what_it_has(system: System) -> None:
    """3: SIGTERM lets a call that is in flight come to its end: no attempt is cut."""
    system.start_web()
    system.provider.add_fault("latency", seconds=1)
    system.start_worker()
    pay_one(system, 1)
    system.wait_until(system.provider.requests, what="the call is at the provider")
    system.stop("worker")
    assert [attempt.outcome for attempt in system.rows.attempts()] in (
        ["succeeded"],
        ["superseded"],
    )
    system.start("worker")
    come_to_rest(system)
    all_paid(system, 1)


@services
def test_web_killed_between_commit_and_hint(
    system: System, private_rabbitmq: PrivateRabbitMQ
) -> None:
    """2, 7: events are stored and answered, and the process dies before a hint has left."""
    system.start_web()
    private_rabbitmq.freeze()
    for number in range(10):
        system.provider.emit_event("plan.created", {"id": f"plan_{number}", "object": "plan"})
    system.provider.wait_for_deliveries()
    system.kill("web")
    private_rabbitmq.thaw()
    assert {event.status for event in system.rows.events()} == {"received"}
    system.start("web")
    system.start_worker()
    system.start_beat()
    come_to_rest(system)
    books = system.check_invariants()
    assert len(books.events) == 10


@services
def test_frozen_broker(system: System, private_rabbitmq: PrivateRabbitMQ) -> None:
    """2, 7: while the broker is frozen, every webhook is answered 200 within a second, calls are
    still taken, and nothing of it is lost."""
    system.start_web()
    system.start_worker()
    system.start_beat()
    private_rabbitmq.freeze()
    for number in range(30):
        system.provider.emit_event("plan.created", {"id": f"plan_{number}", "object": "plan"})
    pay(system, range(10))
    system.provider.wait_for_deliveries()
    first = [delivery for delivery in system.provider.deliveries() if delivery.attempt == 1]
    assert {delivery.status for delivery in first} == {200}
    assert max(delivery.seconds for delivery in first) < ANSWER_LIMIT
    private_rabbitmq.thaw()
    come_to_rest(system)
    all_paid(system, 10)


@services
def test_broker_stopped_and_started(system: System, private_rabbitmq: PrivateRabbitMQ) -> None:
    """2, 4: calls that are asked for while there is no broker are made when it is back."""
    system.start_web()
    system.start_worker()
    system.start_beat()
    pay(system, range(5))
    private_rabbitmq.stop()
    pay(system, range(5, 15))
    private_rabbitmq.start()
    come_to_rest(system)
    all_paid(system, 15)


@services
def test_broker_killed_and_wiped(system: System, private_rabbitmq: PrivateRabbitMQ) -> None:
    """2, 4: a broker that comes back empty is given its queues again, and loses nothing of ours."""
    system.start_web()
    system.start_worker()
    system.start_beat()
    pay(system, range(5))
    private_rabbitmq.kill()
    private_rabbitmq.wipe()
    pay(system, range(5, 15))
    come_to_rest(system)
    all_paid(system, 15)


def announced(broker: Broker) -> int:
    """Of how many calls the messages speak."""
    told = [json.loads(body)[1] for body in broker.bodies(QUEUE)]
    return sum(len(kwargs.get("call_ids", [None])) for kwargs in told)


@services
def test_purged_queue(system: System) -> None:
    """2: the messages are gone, the rows are not."""
    assert system.broker
    broker = system.broker
    system.start_web()
    assert system.manage("setup_broker").returncode == 0
    pay(system, range(10))
    system.wait_until(lambda: announced(broker) == 10, what="ten calls are announced")
    messages = len(broker.bodies(QUEUE))
    system.wait_until(lambda: broker.queue_length(QUEUE) == messages, what="they are given back")
    assert broker.purge(QUEUE) == messages
    system.start_worker()
    system.start_beat()
    come_to_rest(system)
    all_paid(system, 10)


@services
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_restart(system: System, private_postgres: PrivatePostgres, mode: str) -> None:
    """2, 3, 4, 7: the database restarts while calls are in flight and events arrive: these are
    answered 503 and come again, a known answer is written when it is back."""
    system.provider.change_settings(latency=0.5)
    system.start_web()
    system.start_worker()
    system.start_beat()
    pay(system, range(20))
    system.wait_until(lambda: in_flight(system, 3), what="calls are in flight")
    private_postgres.restart(mode)
    pay(system, range(20, 25))
    come_to_rest(system)
    all_paid(system, 25)
