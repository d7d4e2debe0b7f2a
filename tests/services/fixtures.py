"""Fixtures that give a test real servers, or skip it with what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.services.broker import Broker
from tests.services.discovery import Services, services_key
from tests.services.missing import ServiceMissing
from tests.services.pgbouncer import PrivatePgBouncer
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbitMQ
from tests.services.shared_postgres import PostgresServer

T = TypeVar("T")


@pytest.fixture(scope="session")
def services(pytestconfig: pytest.Config) -> Services:
    """The servers of this session."""
    return pytestconfig.stash[services_key]


@pytest.fixture
def postgres(services: Services) -> PostgresServer:
    """A PostgreSQL server in which to make databases; not to be broken."""
    return available(services, services.postgres.get)


@pytest.fixture
def rabbitmq(services: Services) -> Iterator[Broker]:
    """A RabbitMQ without the project's queues; not to be broken."""
    broker = available(services, services.rabbitmq.get)
    broker.clean()
    yield broker
    broker.clean()


@pytest.fixture
def private_postgres(services: Services) -> Iterator[PrivatePostgres]:
    """A PostgreSQL server of our own: stop it, freeze it, kill it. Healed after the test."""
    server = available(services, services.private_postgres.get)
    server.heal()
    yield server
    server.heal()


@pytest.fixture
def pgbouncer(services: Services, private_postgres: PrivatePostgres) -> Iterator[PrivatePgBouncer]:
    """A pooler of the test's own in front of `private_postgres`, which hands connections on between
    transactions."""
    pooler = available(services, lambda: PrivatePgBouncer(private_postgres))
    yield pooler
    pooler.close()


@pytest.fixture
def private_rabbitmq(services: Services) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ of our own: stop it, freeze it, kill it, wipe it. Healed after the test."""
    server = available(services, services.private_rabbitmq.get)
    server.heal()
    yield server
    server.heal()


def available(services: Services, get: Callable[[], T]) -> T:
    """What `get` gives. Without it the test is skipped, or fails where services are required."""
    try:
        return get()
    except ServiceMissing as missing:
        if services.required:
            pytest.fail(f"REQUIRE_SERVICES is set, but {missing}", pytrace=False)
        pytest.skip(str(missing))
