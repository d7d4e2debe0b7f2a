"""Dead letters: read defensively, marked once, never in the way of the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amqp import Message
from django.db import OperationalError
from structlog.testing import capture_logs

from outbound import dead_letters, topology
from outbound.dead_letters import DeadLetter, Unreadable, drain, mark_rows, on_dead_letter, read
from tests.house.polling import wait_until
from tests.outbound.messages import app_on, take
from tests.services.broker import Broker

CALL = {"call_id": "0199"}
HEADERS = {"task": "outbound.deliver_call"}


def body(kwargs: Any = CALL) -> bytes:
    return json.dumps([[], kwargs, {}]).encode()


def death(queue: str, reason: str, count: object = 1) -> dict[str, object]:
    return {"queue": queue, "reason": reason, "count": count, "exchange": "holdfast"}


class TestReading:
    def test_after_a_delay_our_own_queue_counts(self) -> None:
        """The first entry speaks of the delay's queue, where it merely expired."""
        deaths = [death("celery_delayed_1", "expired"), death("payments-v1", "rejected", 3)]
        letter = read({**HEADERS, "x-death": deaths}, body(), queue="payments-v1")
        assert letter == DeadLetter("payments-v1", "outbound.deliver_call", CALL, "rejected", 3)

    @pytest.mark.parametrize(
        "deaths",
        [None, "x", [], [None], [{"queue": 1}], [death("payments-v1", "rejected", "many")]],
    )
    def test_without_a_usable_reason_it_is_still_a_letter(self, deaths: object) -> None:
        """The row is what matters."""
        letter = read({**HEADERS, "x-death": deaths}, body(), queue="payments-v1")
        assert (letter.kwargs, letter.count) == (CALL, 1)

    @pytest.mark.parametrize(
        "headers, content",
        [
            (None, body()),
            ({}, body()),
            ({"task": 5}, body()),
            (HEADERS, None),
            (HEADERS, b""),
            (HEADERS, b"\xff\xfe"),
            (HEADERS, b"{}"),
            (HEADERS, b"[]"),
            (HEADERS, b"[[]]"),
            (HEADERS, b'[[], "call_id", {}]'),
            (HEADERS, b"[" * 60_000),
            (HEADERS, body({"padding": "x" * 70_000})),
        ],
    )
    def test_what_is_none_of_ours_is_unreadable(self, headers: Any, content: Any) -> None:
        """And nothing worse: a hostile message ends nowhere but here."""
        with pytest.raises(Unreadable):
            read(headers, content, queue="payments-v1")


class TestMarking:
    """What a task registered is called for its letters."""

    @pytest.fixture
    def letter(self, monkeypatch: pytest.MonkeyPatch) -> DeadLetter:
        monkeypatch.setattr(dead_letters, "_marks", {})
        return DeadLetter("payments-v1", "tests.task", CALL, "rejected", 1)

    def test_by_the_name_of_the_task(self, letter: DeadLetter) -> None:
        """Each task looks after its own rows."""
        marked: list[DeadLetter] = []
        on_dead_letter("tests.task")(marked.append)
        on_dead_letter("tests.other")(lambda _: pytest.fail("not its letter"))
        mark_rows(letter)
        assert marked == [letter]

    def test_a_task_without_rows_is_passed_over(self, letter: DeadLetter) -> None:
        """A sweep that was given up has no row: there will be another."""
        mark_rows(letter)

    def test_a_database_that_is_away_keeps_the_message(self, letter: DeadLetter) -> None:
        """The error goes on, so that the message is not acknowledged."""

        @on_dead_letter("tests.task")
        def away(_: DeadLetter) -> None:
            raise OperationalError

        with pytest.raises(OperationalError):
            mark_rows(letter)

    def test_any_other_failure_does_not_hold_up_the_rest(self, letter: DeadLetter) -> None:
        """It would fail again for ever: it is logged, and the row is swept all the same."""

        @on_dead_letter("tests.task")
        def broken(_: DeadLetter) -> None:
            raise TypeError("a call id that is a list")

        with capture_logs() as lines:
            mark_rows(letter)
        assert [line["event"] for line in lines] == ["dead_letter_not_marked"]


@pytest.mark.services
class TestOnRabbitMQ:
    @pytest.fixture
    def app(self, rabbitmq: Broker, tmp_path: Path) -> Any:
        with app_on(rabbitmq, tmp_path) as app:
            topology.declare(app)
            yield app

    @pytest.fixture
    def kill(self, app: Any, rabbitmq: Broker) -> Callable[..., None]:
        """Publish a message that a worker rejects."""

        def publish_and_reject(queue: str = "payments-v1", **kwargs: Any) -> None:
            app.send_task("outbound.deliver_call", kwargs=kwargs, queue=queue)
            assert take(rabbitmq, queue, then="reject")

        return publish_and_reject

    def waiting(self, rabbitmq: Broker, count: int, queue: str = "payments-v1") -> None:
        wait_until(lambda: rabbitmq.queue_length(f"{queue}.dlq") == count)

    def test_each_is_marked_and_then_gone(
        self, app: Any, rabbitmq: Broker, kill: Callable[..., None]
    ) -> None:
        """From every queue, with the task, its arguments and the reason."""
        kill("payments-v1", call_id="1")
        kill("webhooks-v1", call_id="2")
        self.waiting(rabbitmq, 1)
        self.waiting(rabbitmq, 1, "webhooks-v1")
        marked: list[DeadLetter] = []
        assert drain(app, limit=10, mark=marked.append) == 2
        assert marked == [
            DeadLetter("payments-v1", "outbound.deliver_call", {"call_id": "1"}, "rejected", 1),
            DeadLetter("webhooks-v1", "outbound.deliver_call", {"call_id": "2"}, "rejected", 1),
        ]
        assert drain(app, limit=10, mark=marked.append) == 0
        assert rabbitmq.queue_length("payments-v1.dlq") == 0

    def test_after_a_delay_the_reason_is_still_ours(self, app: Any, rabbitmq: Broker) -> None:
        """The delay's own expiry is not what happened to it."""
        app.send_task("outbound.deliver_call", kwargs=CALL, countdown=1, queue="payments-v1")
        wait_until(lambda: rabbitmq.queue_length("payments-v1") == 1)
        assert take(rabbitmq, "payments-v1", then="reject")
        self.waiting(rabbitmq, 1)
        marked: list[DeadLetter] = []
        drain(app, limit=1, mark=marked.append)
        assert [(letter.reason, letter.count) for letter in marked] == [("rejected", 1)]

    def test_no_more_than_asked_for(
        self, app: Any, rabbitmq: Broker, kill: Callable[..., None]
    ) -> None:
        """A long queue is drained in several rounds."""
        for number in range(3):
            kill(call_id=str(number))
        self.waiting(rabbitmq, 3)
        marked: list[DeadLetter] = []
        assert drain(app, limit=2, mark=marked.append) == 2
        self.waiting(rabbitmq, 1)

    def test_a_message_whose_mark_failed_comes_again(
        self, app: Any, rabbitmq: Broker, kill: Callable[..., None]
    ) -> None:
        """Acknowledged only once its row has been marked."""
        kill(call_id="1")
        self.waiting(rabbitmq, 1)

        def away(_: DeadLetter) -> None:
            raise OperationalError

        with pytest.raises(OperationalError):
            drain(app, limit=10, mark=away)
        self.waiting(rabbitmq, 1)
        marked: list[DeadLetter] = []
        assert drain(app, limit=10, mark=marked.append) == 1
        assert [letter.kwargs for letter in marked] == [{"call_id": "1"}]

    def test_what_cannot_be_read_is_logged_by_size_and_taken_away(
        self, app: Any, rabbitmq: Broker, kill: Callable[..., None]
    ) -> None:
        """It holds up nothing, and its content goes nowhere."""
        with rabbitmq.channel() as channel:
            channel.basic_publish(
                Message(b"hunter22 is no JSON"), "holdfast.dead", "payments-v1.dlq"
            )
        kill(call_id="1")
        self.waiting(rabbitmq, 2)
        marked: list[DeadLetter] = []
        with capture_logs() as lines:
            assert drain(app, limit=10, mark=marked.append) == 2
        assert len(marked) == 1
        assert lines[0]["event"] == "dead_letter_unreadable"
        assert lines[0]["size"] == 19
        assert "hunter22" not in str(lines)

    def test_periodic_work_that_expired_is_no_news(self, app: Any, rabbitmq: Broker) -> None:
        """While no worker ran, sweeps were sent and outlived."""
        app.send_task("outbound.sweep", queue="maintenance-v1", expires=1)
        self.waiting(rabbitmq, 1, "maintenance-v1")
        assert drain(app, limit=10, mark=lambda _: pytest.fail("marked")) == 1

    def test_a_queue_that_somebody_removed_is_made_again(self, app: Any, rabbitmq: Broker) -> None:
        """The others are drained all the same."""
        rabbitmq.delete("payments-v1.dlq")
        assert drain(app, limit=10, mark=lambda _: None) == 0
        assert rabbitmq.queue_length("payments-v1.dlq") == 0


def test_the_embedded_broker_has_none(settings: Any) -> None:
    """Nothing to drain, and no failure."""
    from integrations_project.celery import app

    assert settings.EMBEDDED_BROKER
    assert drain(app, limit=10, mark=lambda _: pytest.fail("marked")) == 0
