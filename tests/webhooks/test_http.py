"""The same contract over real sockets: gunicorn, several processes, hostile bytes."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.house.polling import wait_until
from tests.services.postgres import PrivatePostgres
from tests.webhooks.deliveries import stripe_body
from tests.webhooks.serving import (
    CAP,
    CHUNKED,
    SECONDS,
    Server,
    chunks,
    delivery,
    head,
    read_answer,
    signed,
    sized,
)
from tests.webhooks.test_stripe_source import HEADERS, Hostile

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests here: none of them may harm it."""
    running = Server(tmp_path_factory.mktemp("served"))
    yield running
    log = running.log()
    running.stop()
    assert "Traceback" not in log, log
    assert "no-body response" not in log, log  # gunicorn's word on HEAD answered with a body


@pytest.mark.parametrize("path", ["/webhooks/stripe", "/webhooks/stripe/"])
def test_a_delivery(server: Server, path: str) -> None:
    """Acknowledged, and committed before that."""
    event_id = f"evt_{path.count('/')}"
    body = stripe_body(id=event_id)
    request = delivery(body, path)
    answer = server.send(request)
    assert (answer.status, answer.json()) == (200, {"received": True})
    assert server.events(event_id) == 1
    assert server.send(request).json() == {"received": True, "duplicate": True}


def test_a_chunked_delivery(server: Server) -> None:
    """Nobody has to know the length beforehand."""
    body = stripe_body(id="evt_chunked", x="ü" * 5000)
    answer = server.send(head("/webhooks/stripe", signed(body), CHUNKED) + b"\r\n", *chunks(body))
    assert (answer.status, answer.json()) == (200, {"received": True})
    assert server.events("evt_chunked") == 1


@pytest.mark.parametrize("extra", [0, 1])
def test_a_chunked_body_at_the_cap(server: Server, extra: int) -> None:
    """It is read up to the cap: a byte more is 413."""
    body = stripe_body(id=f"evt_cap_{extra}", x="x" * CAP)
    body = body.replace(b"x" * (len(body) - CAP - extra), b"", 1)
    assert len(body) == CAP + extra
    answer = server.send(head("/webhooks/stripe", signed(body), CHUNKED) + b"\r\n", *chunks(body))
    assert answer.status == (413 if extra else 200)
    assert server.events(f"evt_cap_{extra}") == (0 if extra else 1)


def test_a_declared_length_above_the_cap(server: Server) -> None:
    """413 at once: nobody waits for a body that will be refused."""
    answer = server.send(head("/webhooks/stripe", b"Content-Length: 999999999") + b"\r\n")
    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("size", [CAP + 1, 50 * CAP])
def test_a_sender_that_only_listens_when_it_has_sent_everything(server: Server, size: int) -> None:
    """It still learns that its body is too large, chunked or not."""
    body = b"x" * size
    declared = head("/webhooks/stripe", sized(body)) + b"\r\n"
    assert server.send(declared, body).status == 413
    chunked = head("/webhooks/stripe", CHUNKED) + b"\r\n"
    assert server.send(chunked, *chunks(body, size=65536)).status == 413


BODY = stripe_body(id="evt_broken")
BROKEN = {
    "shorter than declared": ([b"Content-Length: 9999"], BODY, 400),
    "no length and no body": ([], b"", 401),
    "an empty body": ([b"Content-Length: 0"], b"", 401),
    "a chunk that ends early": ([CHUNKED], b"fff\r\nabc", 400),
    "a chunk without its end": ([CHUNKED], b"3\r\nabcd\r\n0\r\n\r\n", 400),
    "a chunk of no number": ([CHUNKED], b"xyz\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk of a negative number": ([CHUNKED], b"-3\r\nabc\r\n0\r\n\r\n", 400),
    "no last chunk": ([CHUNKED], b"3\r\nabc\r\n", 400),
    "a length of words": ([b"Content-Length: many"], BODY, 400),
    "a negative length": ([b"Content-Length: -1"], BODY, 400),
    "a length of 25 digits": ([b"Content-Length: " + b"9" * 25], BODY, 413),
    "a length of 5000 digits": ([b"Content-Length: " + b"9" * 5000], BODY, 400),
    "both lengths": ([CHUNKED, sized(BODY)], BODY, 400),
    "the signature twice": ([signed(BODY), sized(BODY)], BODY, 400),
    "bytes beyond ASCII": ([b"X-A: \xff\xfe", sized(BODY)], BODY, 200),
}


@pytest.mark.parametrize("lines,body,status", BROKEN.values(), ids=BROKEN.keys())
def test_broken_requests(server: Server, lines: list[bytes], body: bytes, status: int) -> None:
    """Each ends in its 4xx, never in a 5xx and never in silence."""
    request = head("/webhooks/stripe", signed(BODY), *lines) + b"\r\n" + body
    assert server.send(request, half_close=True).status == status


def travels(hostile: Hostile) -> bool:
    """Whether a server hands a header on as it was sent. Lines are cut, blanks around a value are
    dropped, and very long ones refused before anybody looks at them."""
    header = hostile.header
    return (
        header is not None
        and header == header.strip()
        and len(header) < 16_000
        and not any(c in header for c in "\r\n\x00\ud800")
    )


@pytest.mark.parametrize(
    "hostile", [h for h in HEADERS if travels(h)], ids=[h.name for h in HEADERS if travels(h)]
)
def test_hostile_headers(server: Server, hostile: Hostile) -> None:
    """What the verifier makes of them is what the sender gets: 400 or 401, as a problem."""
    assert hostile.header is not None
    line = b"Stripe-Signature: " + hostile.header.encode()
    answer = server.send(head("/webhooks/stripe", line, sized(BODY)) + b"\r\n" + BODY)
    # The table's signatures are for another body and time: a right form is 401 in any case.
    assert answer.status == hostile.refusal.http_status
    assert answer.json()["status"] == answer.status


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_another_method(server: Server, method: str) -> None:
    """405 with Allow."""
    answer = server.send(head("/webhooks/stripe", method=method) + b"\r\n")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["status"] == 405


def test_head_has_no_body(server: Server) -> None:
    """Only the status and the headers."""
    answer = server.send(head("/webhooks/stripe", method="HEAD") + b"\r\n")
    assert (answer.status, answer.headers["Allow"], answer.body) == (405, "POST", b"")


def test_equal_deliveries_at_once_to_several_processes(server: Server) -> None:
    """Twenty of them: one row, one answer without `duplicate`."""
    body = stripe_body(id="evt_at_once")
    request = delivery(body)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(server.send, [request] * 20))
    assert {answer.status for answer in answers} == {200}
    assert [answer.json() for answer in answers].count({"received": True}) == 1
    assert server.events("evt_at_once") == 1


def test_a_locked_database(server: Server) -> None:
    """503 with Retry-After while it lasts, and 200 for the same delivery afterwards."""
    body = stripe_body(id="evt_locked")
    request = delivery(body)
    with closing(sqlite3.connect(server.database, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        answer = server.send(request)
        lock.execute("ROLLBACK")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert server.send(request).json() == {"received": True}
    assert server.events("evt_locked") == 1


def test_several_requests_over_one_connection(server: Server) -> None:
    """A refused body does not spill into the next request."""
    body = stripe_body(id="evt_spilled")
    junk = delivery(body) + b"x" * CAP
    keep = head("/webhooks/stripe", sized(junk)).replace(b"Connection: close\r\n", b"")
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        connection.sendall(keep + b"\r\n" + junk + head("/webhooks/nobody") + b"\r\n")
        assert read_answer(connection).status == 413
    assert server.events("evt_spilled") == 0


@pytest.mark.faults
@pytest.mark.services
def test_a_database_that_is_down(private_postgres: PrivatePostgres, tmp_path: Path) -> None:
    """503 with Retry-After while it is away, and the same delivery is stored when it is back."""
    body = stripe_body(id="evt_down")
    request = delivery(body)
    with private_postgres.database() as url:
        server = Server(tmp_path, database_url=url)
        try:
            assert server.send(request).json() == {"received": True}
            private_postgres.stop()
            for _ in range(2):
                answer = server.send(request)
                assert (answer.status, answer.json()["code"]) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) > 0
            wrong = server.send(head("/webhooks/stripe", sized(body)) + b"\r\n" + body)
            assert wrong.status == 400  # verification never touches the database
            private_postgres.start()
            wait_until(lambda: server.send(request).status == 200, what="deliveries are stored")
            assert server.send(request).json() == {"received": True, "duplicate": True}
        finally:
            server.stop()
