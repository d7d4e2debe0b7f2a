"""Exchanges and queues, on a real broker: nothing that is published can vanish."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import ChannelError, PreconditionFailed
from django.conf import settings
from django.core.management import CommandError, call_command

from outbound import topology
from outbound.management.commands import setup_broker
from tests.house.polling import wait_until
from tests.integrations_project.programs import MANAGE, run
from tests.outbound.messages import app_at, app_on, take
from tests.services.broker import Broker

QUEUES = ("payments-v1", "notifications-v1", "webhooks-v1", "maintenance-v1")
SETUP = (*MANAGE, "setup_broker")


class TestWithoutABroker:
    """The plan itself."""

    def test_a_queue_gives_up_in_the_open(self) -> None:
        """A quorum queue that limits deliveries and hands on what it gives up, once it is safe."""
        (queue,) = topology.queues(["payments-v1"])
        assert queue.queue_arguments == {
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-dead-letter-exchange": "holdfast.dead",
            "x-dead-letter-routing-key": "payments-v1.dlq",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        assert (queue.exchange.name, queue.exchange.type) == ("holdfast", "topic")
        assert queue.routing_key == "payments-v1"

    def test_in_memory_there_are_no_quorums(self) -> None:
        """Only names."""
        (queue,) = topology.queues(["payments-v1"], in_memory=True)
        assert not queue.queue_arguments

    @pytest.mark.parametrize("name", ["", "calls.high", "a.b-v1"])
    def test_a_name_with_a_dot_is_refused(self, name: str) -> None:
        """The delay exchanges would deliver `high.calls` to the queue `calls` as well."""
        with pytest.raises(ValueError, match="no dot"):
            topology.queues([name])

    def test_workers_do_not_consume_dead_letters(self) -> None:
        """A worker would run them again."""
        names = {queue.name for queue in settings.CELERY_TASK_QUEUES}
        assert names == set(QUEUES)
        assert not any(name.endswith(".dlq") for name in names)


@pytest.fixture
def app(rabbitmq: Broker, tmp_path: Path) -> Any:
    with app_on(rabbitmq, tmp_path) as found:
        yield found


@pytest.mark.services
class TestOnRabbitMQ:
    def test_everything_is_there_and_stays_so(self, app: Any, rabbitmq: Broker) -> None:
        """Declared twice is declared once."""
        assert topology.declare(app) is True
        assert topology.declare(app) is True
        for name in QUEUES:
            assert rabbitmq.queue_length(name) == 0
            assert rabbitmq.queue_length(f"{name}.dlq") == 0

    def test_a_delayed_message_needs_no_worker_to_have_run(
        self, app: Any, rabbitmq: Broker
    ) -> None:
        """The delay exchanges are part of the topology: Celery's own come with a worker."""
        topology.declare(app)
        app.send_task("outbound.deliver_call", countdown=1, queue="payments-v1", mandatory=True)
        wait_until(lambda: rabbitmq.queue_length("payments-v1") == 1)
        for other in ("webhooks-v1", "maintenance-v1"):
            assert rabbitmq.queue_length(other) == 0

    def test_a_message_that_reaches_no_queue_is_an_error(self, app: Any, rabbitmq: Broker) -> None:
        """RabbitMQ confirms it like any other, unless it is asked to tell."""
        topology.declare(app)
        with app.connection_for_write() as connection:
            producer = app.amqp.Producer(connection, auto_declare=False)
            rabbitmq.delete("payments-v1")
            with pytest.raises(ChannelError, match="NO_ROUTE"):
                producer.publish(
                    {}, exchange=topology.work, routing_key="payments-v1", mandatory=True
                )

    def test_what_a_worker_rejects_is_kept(self, app: Any, rabbitmq: Broker) -> None:
        """In the queue's own dead-letter queue."""
        topology.declare(app)
        app.send_task("outbound.deliver_call", queue="payments-v1")
        assert take(rabbitmq, "payments-v1", then="reject")
        wait_until(lambda: rabbitmq.queue_length("payments-v1.dlq") == 1)

    def test_a_queue_of_another_kind_is_not_taken_over(self, app: Any, rabbitmq: Broker) -> None:
        """Arguments cannot be changed: the name must."""
        with rabbitmq.channel() as channel:
            channel.queue_declare("payments-v1", durable=True, auto_delete=False)
        with pytest.raises(PreconditionFailed):
            topology.declare(app)


@pytest.mark.services
@pytest.mark.slow
class TestSetupBroker:
    """`manage.py setup_broker`, as a deployment runs it."""

    def test_it_declares(self, rabbitmq: Broker, tmp_path: Path) -> None:
        """And says how much."""
        done = run(
            SETUP, state=tmp_path, caller=os.environ, CELERY_BROKER_URL=rabbitmq.url, EMBEDDED=None
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "declared 11 exchanges and queues\n"
        assert rabbitmq.queue_length("payments-v1.dlq") == 0

    def test_another_kind_of_queue_is_a_failure(
        self, app: Any, rabbitmq: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line with the queue's name."""
        with rabbitmq.channel() as channel:
            channel.queue_declare("webhooks-v1", durable=True, auto_delete=False)
        monkeypatch.setattr(setup_broker, "current_app", app)
        with pytest.raises(CommandError) as refused:
            call_command("setup_broker")
        assert refused.value.returncode == 1
        [line] = str(refused.value).splitlines()
        assert "PreconditionFailed" in line
        assert "webhooks-v1" in line


@pytest.mark.slow
class TestSetupBrokerWithoutABroker:
    def test_a_broker_that_is_away_is_a_failure(self, tmp_path: Path) -> None:
        """One line without the password, and exit code 1."""
        url = "amqp://user:hunter22@127.0.0.1:9//"
        done = run(SETUP, state=tmp_path, caller=os.environ, CELERY_BROKER_URL=url, EMBEDDED=None)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith("CommandError: the broker refused or is away: OperationalError")
        assert "hunter22" not in line

    def test_a_dry_run_connects_to_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It prints what would be declared."""
        said = StringIO()
        with app_at("amqp://127.0.0.1:9//", tmp_path) as app:
            monkeypatch.setattr(setup_broker, "current_app", app)
            call_command("setup_broker", "--dry-run", stdout=said)
        lines = said.getvalue().splitlines()
        assert {f"queue {name}" for name in QUEUES} <= set(lines)
        assert {f"queue {name}.dlq" for name in QUEUES} <= set(lines)

    def test_the_embedded_form_has_nothing_to_declare(self) -> None:
        """And that is no failure."""
        said = StringIO()
        call_command("setup_broker", stdout=said)
        assert "nothing to declare" in said.getvalue()
