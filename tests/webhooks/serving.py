"""The project as it is served: gunicorn on a database of its own, spoken to in bytes."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.house.polling import wait_until
from tests.services.environment import ROOT, WEBHOOK_SECRET, kept, project_environment, sqlite_url
from tests.services.ports import free_port
from tests.services.process import Process
from tests.webhooks.deliveries import signature

CAP = 100_000
LOCK_SECONDS = 1  # how long the server waits for a lock of SQLite's
SECONDS = 20.0
CHUNKED = b"Transfer-Encoding: chunked"


@dataclass(frozen=True)
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """gunicorn on a database of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str = "",
        broker_url: str = "memory://",
        **variables: str,
    ) -> None:
        self.port = free_port()
        self.database = folder / "served.sqlite3"
        self.environment = environment = kept(os.environ) | project_environment(
            state=folder,
            database_url=database_url or f"{sqlite_url(self.database)}?timeout={LOCK_SECONDS}",
            broker_url=broker_url,
        )
        environment["WEBHOOK_MAX_BYTES"] = str(CAP)
        environment.update(variables)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity=0"],
            env=environment, cwd=ROOT, check=True,
        )  # fmt: skip
        self._process = Process(
            name="gunicorn",
            command=[sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}"],
            environment=environment,
            log=folder / "gunicorn.log",
            cwd=ROOT,
        )
        try:
            wait_until(self._answers, seconds=60.0, what="gunicorn answers")
        except BaseException:
            self._process.kill()
            raise

    def stop(self) -> None:
        self._process.stop()

    def log(self) -> str:
        return self._process.tail(10_000)

    def send(self, *pieces: bytes, half_close: bool = False) -> Answer:
        """Send bytes as they are, and read one response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                for piece in pieces:
                    connection.sendall(piece)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            return read_answer(connection)

    def events(self, event_id: str) -> int:
        """How many rows are committed with this id."""
        return self._number("count(*)", event_id)

    def attempts(self, event_id: str) -> int:
        """How often the event of this id was tried."""
        return self._number("max(attempts)", event_id)

    def rows(self, query: str) -> list[Any]:
        """What a statement finds in the database, SQLite's."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query).fetchall()

    def _number(self, what: str, event_id: str) -> int:
        with closing(sqlite3.connect(self.database)) as connection:
            query = f"SELECT {what} FROM webhooks_webhookevent WHERE event_id = ?"
            return int(connection.execute(query, [event_id]).fetchone()[0])

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.send(head("/webhooks/nobody", method="GET") + b"\r\n").status == 404
        return False


def read_answer(connection: socket.socket) -> Answer:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        assert piece, f"closed after {received!r}"
        received += piece
    start, _, body = received.partition(b"\r\n\r\n")
    status, *lines = start.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    while len(body) < int(headers.get("Content-Length", 0)):
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return Answer(int(status.split()[1]), headers, body)


def head(path: str = "/webhooks/stripe", *headers: bytes, method: str = "POST") -> bytes:
    """A request up to its headers' last line; the empty line is the caller's."""
    first = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close"]
    return b"".join(line + b"\r\n" for line in [*first, *headers])


def signed(body: bytes) -> bytes:
    return b"Stripe-Signature: " + signature(body, secret=WEBHOOK_SECRET).encode()


def sized(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def chunks(body: bytes, *, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def delivery(body: bytes, path: str = "/webhooks/stripe") -> bytes:
    """A whole request, signed."""
    return head(path, signed(body), sized(body)) + b"\r\n" + body
