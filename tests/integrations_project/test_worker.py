"""The worker as it is started everywhere: without a flag."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
from django.conf import settings

from integrations_project.celery import app
from tests.house.polling import wait_until
from tests.integrations_project.programs import WORKER
from tests.services.broker import Broker
from tests.services.environment import ROOT, kept, project_environment, sqlite_url
from tests.services.process import Process
from tests.services.rabbitmq import PrivateRabbitMQ

QUEUES = [queue.name for queue in settings.CELERY_TASK_QUEUES]
ONE_EACH, NONE = [1] * len(QUEUES), [0] * len(QUEUES)


class TestConfiguration:
    """What Celery makes of the settings."""

    def test_every_periodic_task_exists_and_has_a_queue(self) -> None:
        """A name that is wrong here would be found out by rows that nobody sweeps."""
        app.loader.import_default_modules()
        for entry in app.conf.beat_schedule.values():
            assert entry["task"] in app.tasks
            route = app.amqp.router.route({}, entry["task"])
            assert route["queue"].name == "maintenance-v1"

    @pytest.mark.parametrize(
        "task, queue",
        [
            ("webhooks.process_events", "webhooks-v1"),
            ("webhooks.sweep_events", "maintenance-v1"),
            ("outbound.sweep", "maintenance-v1"),
            ("outbound.drain_dead_letters", "maintenance-v1"),
        ],
    )
    def test_routes(self, task: str, queue: str) -> None:
        """Repairs do not wait behind what they repair."""
        route = app.amqp.router.route({}, task)
        assert (route["queue"].name, route["queue"].exchange.name) == (queue, "holdfast")

    def test_an_unknown_queue_is_an_error(self) -> None:
        """It would be made on the spot, and nobody would ever consume it."""
        with pytest.raises(KeyError):
            app.amqp.router.route({"queue": "payment-v1"}, "outbound.deliver_call")

    @pytest.mark.parametrize(
        "option, value",
        [
            ("task_acks_late", True),
            ("task_reject_on_worker_lost", True),
            ("task_acks_on_failure", False),
            ("task_create_missing_queues", False),
            ("task_ignore_result", True),
            ("accept_content", ["json"]),
            ("task_serializer", "json"),
            ("broker_connection_max_retries", None),
            ("broker_connection_retry_on_startup", True),
            ("broker_pool_acquire_timeout", 2),
            ("worker_pool", "threads"),
            ("worker_prefetch_multiplier", 1),
            ("worker_enable_soft_shutdown_on_idle", False),
            ("worker_hijack_root_logger", False),
        ],
    )
    def test_celery_knows_what_was_set(self, option: str, value: Any) -> None:
        """A misspelt setting does nothing, silently."""
        assert app.conf[option] == value

    def test_stale_periodic_work_expires(self) -> None:
        """Later than a busy worker needs to get to it, or there would be no sweep under load."""
        for entry in app.conf.beat_schedule.values():
            assert entry["options"]["expires"] >= 60


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "worker.log"
    path.touch()
    return path


@pytest.fixture
def start(tmp_path: Path, log: Path) -> Iterator[Any]:
    """Starts a worker on a broker; killed after the test."""
    started: list[Process] = []

    def start_worker(url: str) -> Process:
        environment = project_environment(
            state=tmp_path, database_url=sqlite_url(tmp_path / "db.sqlite3"), broker_url=url
        )
        process = Process(
            name="worker",
            command=[sys.executable, *WORKER],
            environment={**kept(os.environ), **environment, "WORKER_CONCURRENCY": "3"},
            log=log,
            cwd=ROOT,
        )
        started.append(process)
        return process

    yield start_worker
    for process in started:
        process.kill()


def consumed(broker: Broker) -> list[int | None]:
    return [broker.consumers(name) for name in QUEUES]


@pytest.mark.services
@pytest.mark.faults
def test_it_takes_all_queues_with_threads(rabbitmq: Broker, start: Any, log: Path) -> None:
    """And declares what it needs; dead letters stay where they are. SIGTERM ends it in order."""
    worker = start(rabbitmq.url)
    wait_until(lambda: consumed(rabbitmq) == ONE_EACH, what="the queues are consumed")
    wait_until(lambda: "ready" in log.read_text(), what="the worker is ready")
    assert "concurrency: 3 (thread)" in log.read_text()
    assert [rabbitmq.consumers(f"{name}.dlq") for name in QUEUES] == NONE
    assert worker.stop(SIGTERM) == 0
    assert "Traceback" not in log.read_text()
    assert consumed(rabbitmq) == NONE


@pytest.mark.services
@pytest.mark.faults
def test_a_broker_that_comes_late_finds_it_waiting(
    private_rabbitmq: PrivateRabbitMQ, start: Any, log: Path
) -> None:
    """It does not give up, and declares the topology once there is a broker, and once more after
    the broker has lost everything."""
    broker = Broker(private_rabbitmq.url("/"))
    private_rabbitmq.stop()
    worker = start(broker.url)
    wait_until(lambda: "Cannot connect" in log.read_text(), what="the worker has tried")
    private_rabbitmq.start()
    wait_until(lambda: consumed(broker) == ONE_EACH, seconds=60, what="the queues are consumed")
    assert broker.queue_length("payments-v1.dlq") == 0
    private_rabbitmq.wipe()
    wait_until(lambda: consumed(broker) == ONE_EACH, seconds=60, what="consumed again")
    wait_until(lambda: broker.queue_length("payments-v1.dlq") == 0, what="declared again")
    assert worker.running
