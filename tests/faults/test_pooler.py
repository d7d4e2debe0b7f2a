"""A pooler between the processes and PostgreSQL, which nobody has told them of: each of their
transactions may meet another server process, which knows nothing of the one before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.control import Sandbox
from tests.faults.conftest import migrated_database
from tests.faults.harness import System
from tests.faults.test_faults import come_to_rest, in_flight
from tests.services.environment import with_option
from tests.services.pgbouncer import PrivatePgBouncer
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbitMQ

pytestmark = [pytest.mark.faults, pytest.mark.services]

COUNT = 24


@pytest.fixture
def system(
    private_postgres: PrivatePostgres,
    private_rabbitmq: PrivateRabbitMQ,
    pgbouncer: PrivatePgBouncer,
    sandbox: Sandbox,
    tmp_path: Path,
) -> Iterator[System]:
    """The production profile with a pooler in the middle."""
    template = migrated_database(private_postgres)
    with (
        private_postgres.database(template=template) as direct,
        private_rabbitmq.vhost() as broker,
    ):
        url = pgbouncer.url(direct)
        system = System(folder=tmp_path, database_url=url, broker=broker, provider=sandbox)
        yield system
        system.close()


def test_payments_and_refunds(system: System) -> None:
    """2, 3, 4: over the API, eight at a time, while a worker is killed; then each is refunded."""
    assert system.manage("setup_broker").returncode == 0
    shop = Shop(system)
    system.provider.change_settings(latency=0.3)
    system.start_web()
    system.start_worker(concurrency=4)
    system.start_beat()
    shop.ask("payment-intents", [PAYMENT] * COUNT)
    system.wait_until(lambda: in_flight(system, 2), what="calls are in flight")
    system.kill("worker")
    system.start("worker")
    come_to_rest(system)
    intents = [call.provider_reference for call in system.rows.calls()]
    shop.ask("refunds", [{"payment_intent": intent, "amount": 500} for intent in intents])
    come_to_rest(system)
    books = system.check_invariants()
    assert Counter(call.status for call in books.calls) == {"succeeded": 2 * COUNT}
    made = Counter(effect.kind for effect in books.effects)
    assert made["payment_intent.created"] == made["refund.created"] == COUNT


def test_what_the_doctor_says(system: System) -> None:
    """Django's own cursors have to be told; then there is nothing to say."""
    finding = "database: a pooler stands in front of it, and Django has not been told"
    assert finding in system.manage("doctor").stdout
    name = "DATABASE_URL"
    system.environment[name] = with_option(
        system.environment[name], "DISABLE_SERVER_SIDE_CURSORS", "True"
    )
    told = system.manage("doctor")
    assert "sweep: it has never run" in told.stdout  # it has looked
    assert "pooler" not in told.stdout


PAYMENT = {
    "amount": 2000,
    "currency": "usd",
    "payment_method": "pm_card_visa",
    "confirm": True,
}


class Shop:
    """A client of the API."""

    def __init__(self, system: System) -> None:
        made = system.manage("create_api_client", "shop", "--scope", "payments:write")
        assert made.returncode == 0, made.stderr
        self._system = system
        self._key = made.stdout.strip()

    def ask(self, path: str, bodies: list[dict[str, Any]]) -> None:
        """Each is accepted."""

        def post(number: int) -> int:
            headers = {
                "Authorization": f"Bearer {self._key}",
                "Idempotency-Key": f"{path}-{number}",
            }
            url = f"{self._system.web_url}/api/v1/{path}"
            answer = requests.post(url, json=bodies[number], headers=headers, timeout=30)
            return answer.status_code

        with ThreadPoolExecutor(8) as threads:
            assert Counter(threads.map(post, range(len(bodies)))) == {202: len(bodies)}
