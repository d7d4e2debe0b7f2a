"""The API over real sockets: gunicorn, several processes, hostile bytes, a database that goes."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.api.conftest import PAYMENT
from tests.house.polling import wait_until
from tests.services.environment import ROOT
from tests.services.postgres import PrivatePostgres
from tests.webhooks.serving import (
    CHUNKED,
    SECONDS,
    Answer,
    Server,
    chunks,
    head,
    read_answer,
    sized,
)

pytestmark = pytest.mark.faults

PAYMENTS = "/api/v1/payment-intents"
BODY = json.dumps(PAYMENT).encode()
JSON = b"Content-Type: application/json"


def key_of(server: Server, name: str = "shop") -> bytes:
    """A new client's key, as a header."""
    made = subprocess.run(
        [sys.executable, "manage.py", "create_api_client", name, "--scope", "payments:write"],
        env=server.environment, cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert made.stdout.count("\n") == 1  # the key, alone
    return f"Authorization: Bearer {made.stdout.strip()}".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests here: none of them may harm it."""
    running = Server(tmp_path_factory.mktemp("served"))
    yield running
    log = running.log()
    running.stop()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def key(server: Server) -> bytes:
    return key_of(server)


def named(idempotency_key: str) -> bytes:
    return f"Idempotency-Key: {idempotency_key}".encode()


def problem(answer: Answer, status: int) -> str:
    """The code of the problem that an answer is."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    found = answer.json()
    assert (found["status"], found["request_id"]) == (status, answer.headers["X-Request-ID"])
    code: str = found["code"]
    return code


def test_a_command_that_cannot_do_it(server: Server) -> None:
    """One line, and exit code 1."""
    done = subprocess.run(
        [sys.executable, "manage.py", "disable_api_client", "nobody"],
        env=server.environment, cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "CommandError: there is no client 'nobody'\n"


def test_a_write(server: Server, key: bytes) -> None:
    """With a length or in chunks: the same request."""
    first = server.send(head(PAYMENTS, key, JSON, named("a"), sized(BODY)) + b"\r\n" + BODY)
    assert first.status == 202
    again = server.send(head(PAYMENTS, key, JSON, named("a"), CHUNKED) + b"\r\n", *chunks(BODY))
    assert (again.status, again.json()) == (202, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("size", [1_048_577, 3_000_000])
def test_a_body_that_is_too_large(server: Server, key: bytes, size: int) -> None:
    """413, whether its length is declared or not, and heard by who sends all of it first."""
    body = b'{"a": "' + b"x" * (size - 9) + b'"}'
    declared = head(PAYMENTS, key, JSON, named("b"), sized(body)) + b"\r\n"
    assert problem(server.send(declared, body), 413) == "too_large"
    assert problem(server.send(declared), 413) == "too_large"  # nobody waits for it
    chunked = head(PAYMENTS, key, JSON, named("b"), CHUNKED) + b"\r\n"
    assert problem(server.send(chunked, *chunks(body, size=65536)), 413) == "too_large"


BROKEN = {
    "shorter than declared": ([b"Content-Length: 9999"], BODY, 400),
    "a chunk that ends early": ([CHUNKED], b"fff\r\nabc", 400),
    "no last chunk": ([CHUNKED], b"3\r\nabc\r\n", 400),
    "no body": ([], b"", 422),
    "no UTF-8": ([sized(b"\xff\xfe")], b"\xff\xfe", 400),
    "bytes beyond ASCII": ([b"X-A: \xff\xfe", sized(BODY)], BODY, 202),
    "a preference of bytes": ([b"Prefer: wait=\xff, \xfe", sized(BODY)], BODY, 202),
    "two preferences": ([b"Prefer: a", b"Prefer: wait=0", sized(BODY)], BODY, 202),
}


@pytest.mark.parametrize("name", BROKEN)
def test_odd_requests(server: Server, key: bytes, name: str) -> None:
    """Each ends in its answer, never in a 5xx and never in silence."""
    lines, body, status = BROKEN[name]
    start = head(PAYMENTS, key, JSON, named(f"odd-{name.replace(' ', '-')}"), *lines)
    answer = server.send(start + b"\r\n" + body, half_close=True)
    assert answer.status == status, answer.body
    if status >= 400:
        problem(answer, status)


def test_a_spoofed_name(server: Server, key: bytes) -> None:
    """A header with an underscore is not the one with a hyphen."""
    lines = (key, JSON, b"Idempotency_Key: k", sized(BODY))
    answer = server.send(head(PAYMENTS, *lines) + b"\r\n" + BODY)
    assert problem(answer, 400) == "idempotency_key_missing"


def test_several_requests_over_one_connection(server: Server, key: bytes) -> None:
    """The body of a request that was refused before it was read is not taken for the next one."""
    inner = head(PAYMENTS, key, JSON, named("spilled"), sized(BODY)) + b"\r\n" + BODY
    refused = head(PAYMENTS, JSON, sized(inner)).replace(b"Connection: close\r\n", b"")
    follows = head("/api/v1/calls", key, method="GET") + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        connection.sendall(refused + b"\r\n" + inner + follows)
        assert problem(read_answer(connection), 401) == "unauthenticated"
    requests = "SELECT count(*) FROM api_idempotentrequest WHERE key = 'spilled'"
    with closing(sqlite3.connect(server.database)) as database:
        assert database.execute(requests).fetchone() == (0,)


def test_head_has_no_body(server: Server) -> None:
    """405 as for the other methods that there are not, and silent."""
    answer = server.send(head(PAYMENTS, method="HEAD") + b"\r\n")
    assert (answer.status, answer.headers["Allow"], answer.body) == (405, "POST", b"")
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_equal_requests_at_once_to_several_processes(server: Server, key: bytes) -> None:
    """Fifty of them: one call, and all are told of it."""
    request = head(PAYMENTS, key, JSON, named("at-once"), sized(BODY)) + b"\r\n" + BODY
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(server.send, [request] * 50))
    assert {answer.status for answer in answers} <= {202, 503}  # SQLite's lock is waited for 1 s
    told = [answer for answer in answers if answer.status == 202]
    assert len({answer.json()["id"] for answer in told}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in told) <= 1


def test_a_locked_database(server: Server, key: bytes) -> None:
    """503 with Retry-After while it lasts, and the same request works afterwards."""
    request = head(PAYMENTS, key, JSON, named("locked"), sized(BODY)) + b"\r\n" + BODY
    with closing(sqlite3.connect(server.database, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        answer = server.send(request)
        lock.execute("ROLLBACK")
    assert problem(answer, 503) == "unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    after = server.send(request)
    assert after.status == 202
    assert "Idempotent-Replayed" not in after.headers


@pytest.mark.services
def test_a_database_that_is_down(private_postgres: PrivatePostgres, tmp_path: Path) -> None:
    """503 with Retry-After while it is away, on reads and on writes; then all is as before."""
    with private_postgres.database() as url:
        server = Server(tmp_path, database_url=url)
        try:
            key = key_of(server)
            request = head(PAYMENTS, key, JSON, named("k"), sized(BODY)) + b"\r\n" + BODY
            listing = head("/api/v1/calls", key, method="GET") + b"\r\n"
            first = server.send(request)
            assert first.status == 202
            private_postgres.stop()
            for asked in (request, listing):
                answer = server.send(asked)
                assert problem(answer, 503) == "unavailable"
                assert int(answer.headers["Retry-After"]) > 0
            assert server.send(head("/livez", method="GET") + b"\r\n").status == 200
            assert server.send(head("/readyz", method="GET") + b"\r\n").status == 503
            private_postgres.start()
            wait_until(lambda: server.send(request).status == 202, what="requests are answered")
            again = server.send(request)
            assert again.headers["Idempotent-Replayed"] == "true"
            assert again.json()["id"] == first.json()["id"]
        finally:
            server.stop()
