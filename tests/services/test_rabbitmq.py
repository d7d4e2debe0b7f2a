"""A RabbitMQ of our own breaks as a real one does; what cannot be had says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from amqp import Message

from tests.house.polling import wait_until
from tests.services.broker import AWAY, Broker
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.rabbitmq import PrivateRabbitMQ, find_programs
from tests.services.shared_rabbitmq import SharedBroker, find_rabbitmq, our_queues

QUEUE = "letters"
QUORUM = {"x-queue-type": "quorum"}


def put(broker: Broker, messages: int, queue: str = QUEUE) -> None:
    """Declare a durable quorum queue and wait until that many messages lie in it."""
    with broker.channel() as channel:
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=QUORUM)
        for _ in range(messages):
            channel.basic_publish(Message(b"word", delivery_mode=2), routing_key=queue)
    wait_until(lambda: broker.queue_length(queue) == messages, what="all messages are in the queue")


@pytest.mark.services
def test_what_lies_in_a_queue(rabbitmq: Broker) -> None:
    """Length, consumers, purge and delete, as the broker itself sees them."""
    name = our_queues()[0]
    assert rabbitmq.queue_length(name) is None
    assert rabbitmq.consumers(name) is None
    put(rabbitmq, 3, name)
    assert rabbitmq.consumers(name) == 0
    assert rabbitmq.purge(name) == 3
    assert rabbitmq.queue_length(name) == 0
    rabbitmq.delete(name)
    rabbitmq.delete(name)
    assert rabbitmq.queue_length(name) is None


@pytest.mark.services
@pytest.mark.faults
def test_each_virtual_host_is_new(private_rabbitmq: PrivateRabbitMQ) -> None:
    """Two tests never see each other's queues, and a removed host is gone."""
    with private_rabbitmq.vhost() as one, private_rabbitmq.vhost() as two:
        put(one, 1)
        assert two.queue_length(QUEUE) is None
    with pytest.raises(AWAY):
        one.version()


@pytest.mark.services
@pytest.mark.faults
@pytest.mark.slow
def test_gone_and_back(private_rabbitmq: PrivateRabbitMQ) -> None:
    """Stopped or killed it is gone at once, and comes back with its messages on the same port;
    wiped it comes back without its queues."""
    with private_rabbitmq.vhost() as broker:
        put(broker, 2)
        for end in (private_rabbitmq.stop, private_rabbitmq.kill):
            end()
            assert not private_rabbitmq.answers()
            private_rabbitmq.start()
            wait_until(lambda: broker.queue_length(QUEUE) == 2, what="the messages are back")
        private_rabbitmq.wipe()
        assert broker.queue_length(QUEUE) is None


@pytest.mark.services
@pytest.mark.faults
@pytest.mark.slow
def test_healed_whatever_happened(private_rabbitmq: PrivateRabbitMQ) -> None:
    """Frozen, dead or closed to clients: the next test finds it working, with its messages."""
    with private_rabbitmq.vhost() as broker:
        put(broker, 1)
        for harm in (private_rabbitmq.freeze, private_rabbitmq.stop_app, private_rabbitmq.stop):
            harm()
            assert not private_rabbitmq.answers()
            private_rabbitmq.heal()
            assert private_rabbitmq.answers()
        wait_until(lambda: broker.queue_length(QUEUE) == 1, what="the message is back")


@pytest.mark.services
@pytest.mark.faults
def test_a_shared_one_serves_one_session_at_a_time(private_rabbitmq: PrivateRabbitMQ) -> None:
    """The second session is told so; when the first has ended, it may."""
    with private_rabbitmq.vhost() as broker:
        first = SharedBroker(broker.url, origin="here")
        with pytest.raises(ServiceMissing, match="another test session"):
            SharedBroker(broker.url, origin="here")
        first.close()
        SharedBroker(broker.url, origin="here").close()


@pytest.mark.services
@pytest.mark.faults
def test_a_shared_one_is_left_without_our_queues(private_rabbitmq: PrivateRabbitMQ) -> None:
    """What the project declared is removed, what somebody else declared is not."""
    with private_rabbitmq.vhost() as broker:
        put(broker, 1)
        put(broker, 0, our_queues()[0])
        shared = find_rabbitmq(broker.url)
        assert shared.queue_length(our_queues()[0]) is None
        assert shared.queue_length(QUEUE) == 1
        shared.close()


@pytest.mark.services
@pytest.mark.faults
def test_a_queue_in_use_is_somebodys(private_rabbitmq: PrivateRabbitMQ) -> None:
    """A message or a consumer in one of the project's queues: a stack may be running there."""
    with private_rabbitmq.vhost() as broker, broker.channel() as channel:
        shared = SharedBroker(broker.url, origin="here")
        put(broker, 0, our_queues()[0])
        assert not shared.in_use()
        put(broker, 1, our_queues()[1])
        assert shared.in_use()
        shared.clean()
        put(broker, 0, our_queues()[0])
        channel.basic_consume(our_queues()[0])
        assert shared.in_use()
        shared.close()


def test_the_one_that_was_named_must_be_there() -> None:
    """TEST_BROKER_URL names a dead broker: no other is taken instead, and no password shown."""
    url = f"amqp://someone:secret@127.0.0.1:{free_port()}//"
    with pytest.raises(ServiceMissing, match=r"^TEST_BROKER_URL \(127.0.0.1:\d+\): ") as caught:
        find_rabbitmq(url)
    assert "secret" not in str(caught.value)


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without its programs, or without Erlang: the reason says which."""
    monkeypatch.setattr("tests.services.rabbitmq.ELSEWHERE", str(tmp_path / "sbin"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceMissing, match="rabbitmq-server"):
        find_programs()
    for program in ("rabbitmq-server", "rabbitmqctl"):
        (tmp_path / program).touch(mode=0o755)
    with pytest.raises(ServiceMissing, match="Erlang"):
        find_programs()
    (tmp_path / "erl").touch(mode=0o755)
    assert find_programs() == tmp_path
