"""Which servers this session of tests has: looked for on first use, remembered, ended with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import pytest

from tests.services.missing import ServiceMissing
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbitMQ
from tests.services.shared_postgres import PostgresServer, find_postgres
from tests.services.shared_rabbitmq import SharedBroker, find_rabbitmq


class Server(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=Server)
P = TypeVar("P", PrivatePostgres, PrivateRabbitMQ)


class Wanted(Generic[S]):
    """A server that is looked for once, when somebody wants it."""

    def __init__(self, name: str, find: Callable[[], S]) -> None:
        self.name = name
        self._find = find
        self._found: S | None = None
        self._missing: ServiceMissing | None = None

    def get(self) -> S:
        if self._missing:
            raise self._missing
        if self._found is None:
            try:
                self._found = self._find()
            except ServiceMissing as missing:
                self._missing = missing
                raise
        return self._found

    def report(self) -> str:
        """What it is, or why there is none; empty while nobody wanted it."""
        if self._missing:
            return f"{self.name} missing: {self._missing}"
        return str(self._found) if self._found else ""

    def close(self) -> None:
        if self._found:
            self._found.close()


class Services:
    """The servers of one session. `get` raises ServiceMissing with what was looked for.

    postgres, rabbitmq: a found one, else one of our own.
    private_postgres, private_rabbitmq: one of our own, to be broken. The database to be broken is
    never the one that `postgres` gives, which may be the session's own.
    required: whether a missing service is a failure.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        database_url = environment.get("TEST_DATABASE_URL")
        broker_url = environment.get("TEST_BROKER_URL")
        self.required = environment.get("REQUIRE_SERVICES", "") not in ("", "0")
        self.private_postgres = Wanted("PostgreSQL to break", PrivatePostgres)
        self.private_rabbitmq = Wanted("RabbitMQ to break", PrivateRabbitMQ)
        self.postgres = Wanted("PostgreSQL", lambda: _postgres(database_url))
        self.rabbitmq = Wanted("RabbitMQ", lambda: _rabbitmq(broker_url, self.private_rabbitmq))
        self._all: tuple[Wanted[Any], ...] = (
            self.postgres,
            self.rabbitmq,
            self.private_postgres,
            self.private_rabbitmq,
        )

    def report(self) -> list[str]:
        """A line for each server that was wanted."""
        lines = [wanted.report() for wanted in self._all]
        return list(dict.fromkeys(filter(None, lines)))

    def close(self) -> None:
        """End what we started."""
        for wanted in self._all:
            wanted.close()


services_key = pytest.StashKey[Services]()


def _postgres(named: str | None) -> PostgresServer:
    try:
        server = find_postgres(named)
    except ServiceMissing as missing:
        if named:
            raise
        return _instead(missing, lambda: PrivatePostgres(fsync=False))
    server.drop_leftovers()
    return server


def _rabbitmq(named: str | None, private: Wanted[PrivateRabbitMQ]) -> SharedBroker:
    try:
        return find_rabbitmq(named)
    except ServiceMissing as missing:
        if named:
            raise
        server = _instead(missing, private.get)
        return SharedBroker(server.url("/"), origin=server.origin)


def _instead(found: ServiceMissing, start: Callable[[], P]) -> P:
    """Start our own; say why it had to be, and if that cannot be either, both reasons."""
    try:
        server = start()
    except ServiceMissing as missing:
        raise ServiceMissing(f"{found}; {missing}") from None
    server.origin += f"; {found}"
    return server
