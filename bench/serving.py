"""Web processes that are measured, and those who ask them."""

from __future__ import annotations

import http.client
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.core.management import call_command

from devtools.environment import celery_command, web_command
from tests.house.polling import wait_until
from tests.services.environment import ROOT
from tests.services.ports import free_port
from tests.services.process import Process

CONNECTIONS = 8
START_SECONDS = 40.0
ANSWER_SECONDS = 30.0


def has_broker() -> bool:
    """Whether there is one outside of the worker."""
    return not os.environ["CELERY_BROKER_URL"].startswith("memory:")


def declare_queues() -> None:
    """Where there is a broker."""
    if has_broker():
        call_command("setup_broker", verbosity=0)


@contextmanager
def served(application: str, **environment: str) -> Iterator[int]:
    """The port at which gunicorn serves it, as gunicorn.conf.py has it, in our environment and what
    is named beside it."""
    port = free_port()
    command = [*web_command(port=port)[:-1], application]
    with started(application, command, **environment) as process:

        def up() -> bool:
            if not process.running:
                raise RuntimeError(f"{application} ended:\n{process.tail()}")
            return _accepts(port)

        wait_until(up, seconds=START_SECONDS, what=f"{application} is up")
        yield port


@contextmanager
def started(name: str, command: Sequence[str], **environment: str) -> Iterator[Process]:
    """A process that runs as long as the block."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        log = Path(folder) / "log"
        log.touch()
        process = Process(
            name=name, command=command, environment={**os.environ, **environment}, log=log, cwd=ROOT
        )
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def celery(*arguments: str, **environment: str) -> Iterator[None]:
    """`celery -A integrations_project ...` as long as the block runs."""
    with started(arguments[0], celery_command(*arguments), **environment):
        yield


def request_bytes(path: str, body: bytes, **headers: str) -> bytes:
    """A POST as it goes over the wire. headers: names with _ for -."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One connection that is kept: the least that a client can do, so that little of what is
    measured is the client's."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._socket: socket.socket | None = None

    def send(self, request: bytes) -> int:
        """The status of the answer, which is read whole."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=ANSWER_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        answer = http.client.HTTPResponse(self._socket)
        answer.begin()
        answer.read()
        if answer.will_close:
            self.close()
        return answer.status

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@contextmanager
def clients(port: int, count: int = CONNECTIONS) -> Iterator[list[Connection]]:
    """Connections to one server. They are made with the first request."""
    made = [Connection(port) for _ in range(count)]
    try:
        yield made
    finally:
        for connection in made:
            connection.close()


@dataclass(frozen=True, slots=True)
class Load:
    """What a round came to: seconds from the first request to the last answer, the seconds of each
    answer, and its status."""

    seconds: float
    waits: list[float]
    statuses: list[int]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.statuses) / self.seconds


def ask_all(connections: Sequence[Connection], requests: Sequence[bytes]) -> Load:
    """Send all requests, each connection its share, one after the other."""
    shares = [requests[place :: len(connections)] for place in range(len(connections))]

    def ask(connection: Connection, share: Sequence[bytes]) -> list[tuple[float, int]]:
        found = []
        for request in share:
            began = time.perf_counter()
            status = connection.send(request)
            found.append((time.perf_counter() - began, status))
        connection.close()  # the server closes one that idles, at a moment of its own
        return found

    began = time.perf_counter()
    with ThreadPoolExecutor(len(connections)) as threads:
        answers = [each for part in threads.map(ask, connections, shares) for each in part]
    seconds = time.perf_counter() - began
    return Load(seconds, [wait for wait, _ in answers], [status for _, status in answers])


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
