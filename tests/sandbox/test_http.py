"""HTTP itself: connections that are kept, and requests that are none."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import AUTH, PAID, Api

GET = b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"


def talk(sandbox: Sandbox, *pieces: bytes) -> bytes:
    """Send the pieces and read until the sandbox closes."""
    parts = urlsplit(sandbox.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        said = b""
        while octets := connection.recv(65536):
            said += octets
        return said


def test_a_connection_is_kept(sandbox: Sandbox) -> None:
    """Two requests at once on one connection get two answers in order; the last closes it."""
    close = GET + b"Connection: close\r\n\r\n"
    said = talk(sandbox, GET.replace(b"events", b"nothing") + b"\r\n" + close)
    assert said.index(b"HTTP/1.1 404") < said.index(b"HTTP/1.1 200")
    assert said.count(b"HTTP/1.1 ") == 2


def test_http_1_0_is_closed(sandbox: Sandbox) -> None:
    """An old client reads until the end."""
    said = talk(sandbox, GET.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n")
    assert b"Connection: close" in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["object"] == "list"


def test_a_request_in_small_pieces(sandbox: Sandbox) -> None:
    """It does not matter how the bytes arrive."""
    request = GET + b"Connection: close\r\n\r\n"
    said = talk(sandbox, *(request[n : n + 1] for n in range(len(request))))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_chunked_body(api: Api, sandbox: Sandbox) -> None:
    """Transfer-Encoding: chunked."""
    head = b"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"
    head += b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    said = talk(sandbox, head, b"5;x=y\r\nname=\r\n", b"3\r\nAda\r\n0\r\nX-Trailer: y\r\n\r\n")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["name"] == "Ada"


def test_expect_100_continue(sandbox: Sandbox) -> None:
    """As curl asks before a long body."""
    head = b"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"
    head += b"Expect: 100-continue\r\nContent-Length: 8\r\nConnection: close\r\n\r\n"
    said = talk(sandbox, head, b"name=Ada")
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_head(api: Api) -> None:
    """No body, although its length is told; the connection goes on."""
    answer = api.send("HEAD", "/v1/nothing", headers=AUTH)
    assert (answer.status, answer.body) == (404, b"")
    assert int(answer.headers["Content-Length"]) > 0
    assert api.get("/v1/events").status == 200


@pytest.mark.parametrize(
    "request_, status",
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/events\r\n\r\n", 400),
        (b"GET /v1/events HTTP/2.0\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"G\xffT / HTTP/1.1\r\n\r\n", 400),
        (GET + b"no colon\r\n\r\n", 400),
        (GET + b" : x\r\n\r\n", 400),
        (GET + b"Content-Length: x\r\n\r\n", 400),
        (GET + b"Content-Length: -1\r\n\r\n", 400),
        (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (GET + b"Content-Length: 99999999999\r\n\r\n", 400),
        (GET + b"Content-Length: 1048577\r\n\r\n", 413),
        (GET + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
        (GET + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n", 400),
        (GET + b"X: " + b"y" * 100_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request(api: Api, sandbox: Sandbox, request_: bytes, status: int) -> None:
    """A 4xx with a reason, the end of the connection, and the sandbox goes on."""
    said = talk(sandbox, request_)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert api.post("/v1/payment_intents", PAID).status == 200


def test_half_a_request(api: Api, sandbox: Sandbox) -> None:
    """Whoever leaves in the middle of a request has asked for nothing."""
    parts = urlsplit(sandbox.url)
    for half in (GET, GET + b"Content-Length: 9\r\n\r\nname"):
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
            connection.sendall(half)
    assert api.pay().status == 200
    assert len(sandbox.requests()) == 1


def test_an_echo_cannot_be_split(sandbox: Sandbox) -> None:
    """A key with odd characters comes back in one header line, or not at all."""
    request = GET.replace(b"GET /v1/events", b"POST /v1/customers")
    said = talk(sandbox, request + b"Idempotency-Key: a\x0b\xffb\r\nConnection: close\r\n\r\n")
    head = said.partition(b"\r\n\r\n")[0]
    assert [line for line in head.split(b"\r\n") if line.startswith(b"b")] == []
