"""The client against real sockets: whatever the peer does, the error's class is right.

The class decides whether a call may be repeated, so the one thing that must never happen is a
"nothing was sent" for a request that left.
"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests.adapters

from outbound.client import (
    MAX_REPLY_BYTES,
    CallContext,
    HttpClient,
    Request,
    Response,
    Timeouts,
)
from outbound.errors import DeliveryError, OutcomeUnknown, TransientError
from tests.outbound import wire

PATIENT = Timeouts(connect=10, read=10, total=20)  # nothing in the test may come near it
SHORT_TOTAL = Timeouts(connect=10, read=10, total=0.3)  # only the total deadline can cut
SHORT_READ = Timeouts(connect=10, read=0.3, total=20)
SHORT_CONNECT = Timeouts(connect=0.3, read=10, total=20)


@pytest.fixture
def client() -> HttpClient:
    return HttpClient(provider="acme")


def context(timeouts: Timeouts = PATIENT, *, ends: float | None = None) -> CallContext:
    return CallContext("call", "key", timeouts=timeouts, ends=ends)


def post(
    client: HttpClient, url: str, timeouts: Timeouts = PATIENT, *, body: bytes = b"n=1"
) -> Response:
    return client.send(Request("POST", f"{url}/things", {"X-Key": "k"}, body), context(timeouts))


def failure(client: HttpClient, url: str, timeouts: Timeouts = PATIENT) -> TransientError:
    with pytest.raises(TransientError) as caught:
        post(client, url, timeouts)
    return caught.value


def nothing_sent(error: TransientError) -> bool:
    return type(error) is TransientError and not error.effect_possible


def was_cut(peer: wire.Peer) -> bool:
    """Whether the client hung up on a peer that had not finished."""
    assert peer.closed.wait(30)
    return peer.cut


class TestNothingWasSent:
    """Repeating is safe: no byte of the request has left."""

    def test_refused(self, client: HttpClient) -> None:
        """A refused connection is transient, whatever the operation."""
        error = failure(client, f"http://127.0.0.1:{wire.closed_port()}")
        assert nothing_sent(error)
        assert error.message == "acme: no connection; nothing was sent"

    def test_connect_timeout(self, client: HttpClient) -> None:
        """A connection that is not accepted in time is transient."""
        with wire.full_backlog() as port:
            error = failure(client, f"http://127.0.0.1:{port}", SHORT_CONNECT)
        assert nothing_sent(error)
        assert "no connection within 0.3 s" in error.message

    def test_unknown_host(self, client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that does not resolve is transient."""

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        assert nothing_sent(failure(client, "https://api.example.invalid"))

    def test_slow_dns(self, client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """Resolving cannot be cut, but when it took too long nothing is sent after it."""
        real, timeouts = socket.getaddrinfo, Timeouts(connect=10, read=10, total=0.1)

        def slow(*args: Any, **kwargs: Any) -> Any:
            found = real(*args, **kwargs)
            threading.Event().wait(timeouts.total * 3)
            return found

        with wire.peer(wire.answers(wire.reply())) as peer:
            monkeypatch.setattr(socket, "getaddrinfo", slow)
            error = failure(client, peer.url, timeouts)
            assert nothing_sent(error)
            assert "no complete reply within 0.1 s" in error.message
            assert peer.closed.wait(10)
            assert peer.requests == []

    def test_frozen_before_sending(self, client: HttpClient) -> None:
        """A process that wakes up after its attempt's time sends nothing, on a new connection
        and on a pooled one."""
        with wire.peer(wire.answers(wire.reply())) as peer:
            request = Request("POST", peer.url)
            for already in (0, 1):
                with pytest.raises(TransientError) as caught:
                    client.send(request, context(ends=time.monotonic() - 1))
                assert nothing_sent(caught.value)
                assert len(peer.requests) == already
                if not already:
                    client.send(request, context())

    def test_unverified_certificate(self, client: HttpClient, tmp_path: Path) -> None:
        """A certificate that nobody vouches for ends the connection before anything is sent."""
        tls, _ = wire.self_signed(tmp_path)
        with wire.peer(wire.answers(wire.reply()), tls=tls) as peer:
            error = failure(client, peer.url)
            assert nothing_sent(error)
            assert "the TLS connection failed" in error.message
            assert peer.closed.wait(10)
            assert peer.requests == []

    def test_drip_in_handshake(self, client: HttpClient) -> None:
        """The total deadline holds in a TLS handshake that never ends."""
        with wire.peer(wire.drips_in_handshake) as peer:
            error = failure(client, f"https://127.0.0.1:{peer.port}", SHORT_TOTAL)
            assert was_cut(peer)
        assert nothing_sent(error)
        assert "no complete reply within 0.3 s" in error.message

    def test_plain_text_peer_behind_https(self, client: HttpClient) -> None:
        """A peer that speaks no TLS gets nothing."""

        def speaks_first(peer: wire.Peer, connection: socket.socket) -> None:
            connection.sendall(wire.reply())
            connection.recv(65536)

        with wire.peer(speaks_first) as peer:
            assert nothing_sent(failure(client, f"https://127.0.0.1:{peer.port}"))


class TestOutcomeUnknown:
    """Bytes left, and the answer did not arrive whole."""

    def test_silence(self, client: HttpClient) -> None:
        """A peer that takes the request and says nothing."""
        with wire.peer(wire.is_silent) as peer:
            error = failure(client, peer.url, SHORT_READ)
            assert len(peer.requests) == 1
        assert isinstance(error, OutcomeUnknown)
        assert "silent for 0.3 s" in error.message

    def test_reset(self, client: HttpClient) -> None:
        """A peer that takes the request and resets."""
        with wire.peer(wire.resets()) as peer:
            error = failure(client, peer.url)
            assert len(peer.requests) == 1
        assert isinstance(error, OutcomeUnknown)
        assert error.message == "acme: the connection was lost; the outcome is unknown"

    def test_closed_without_an_answer(self, client: HttpClient) -> None:
        """A peer that takes the request and closes."""
        with wire.peer(wire.answers_once(b"")) as peer:
            assert isinstance(failure(client, peer.url), OutcomeUnknown)

    @pytest.mark.parametrize(
        "start,end",
        [
            (b"", b""),
            (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"\r\nContent-Length: 0\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % wire.DRIP_LIMIT, b""),
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b""),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % wire.DRIP_LIMIT,
             b"\r\n0\r\n\r\n"),
        ],
        ids=["status line", "headers", "body", "body until close", "chunk"],
    )  # fmt: skip
    def test_drip(self, client: HttpClient, start: bytes, end: bytes) -> None:
        """The total deadline holds wherever a peer drips, though no read is ever too slow."""
        with wire.peer(wire.drips(start, end=end)) as peer:
            error = failure(client, peer.url, SHORT_TOTAL)
            assert was_cut(peer)
            assert len(peer.requests) == 1
        assert isinstance(error, OutcomeUnknown)
        assert error.message == "acme: no complete reply within 0.3 s; the outcome is unknown"

    def test_drip_on_a_pooled_connection(self, client: HttpClient) -> None:
        """The deadline is that of the request, not that of the connection it goes over."""
        drip = wire.drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", end=b"", after=3)
        with wire.peer(drip) as peer:
            for _ in range(2):
                assert post(client, peer.url, SHORT_TOTAL).status == 200
            error = failure(client, peer.url, SHORT_TOTAL)
            assert was_cut(peer)
            assert (peer.connections, len(peer.requests)) == (1, 3)
        assert isinstance(error, OutcomeUnknown)

    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\nhalf",
        ],
        ids=["length", "chunked", "gzip"],
    )
    def test_truncated_body(self, client: HttpClient, response: bytes) -> None:
        """Half an answer is none; the status that was read is kept for the record."""
        with wire.peer(wire.answers_once(response)) as peer:
            error = failure(client, peer.url)
        assert isinstance(error, OutcomeUnknown)
        assert error.provider_status == 200

    @pytest.mark.parametrize(
        "head,body",
        [
            (b"Content-Length: %d" % (MAX_REPLY_BYTES + 1), lambda: b"x" * (MAX_REPLY_BYTES + 1)),
            (b"Connection: close", lambda: b"x" * (MAX_REPLY_BYTES + 1)),
            (
                b"Content-Encoding: gzip\r\nConnection: close",
                lambda: gzip.compress(bytes(50 << 20)),
            ),
        ],
        ids=["length", "until close", "gzip bomb"],
    )
    def test_reply_too_large(
        self, client: HttpClient, head: bytes, body: Callable[[], bytes]
    ) -> None:
        """No more is read than we are ready to keep, compressed or not."""
        response = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body()
        with wire.peer(wire.answers_once(response)) as peer:
            error = failure(client, peer.url)
        assert isinstance(error, OutcomeUnknown)
        assert f"the reply is larger than {MAX_REPLY_BYTES} bytes" in error.message

    def test_reset_after_reuse(self, client: HttpClient) -> None:
        """A reset on a pooled connection may have carried the request."""
        with wire.peer(wire.resets(after=2)) as peer:
            assert post(client, peer.url).status == 200
            error = failure(client, peer.url)
            assert (peer.connections, len(peer.requests)) == (1, 2)
        assert isinstance(error, OutcomeUnknown)

    def test_drip_over_tls(
        self, client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The deadline reaches a socket that TLS has taken over."""
        tls, certificate = wire.self_signed(tmp_path)
        monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(certificate))
        with wire.peer(wire.drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", end=b""), tls=tls) as peer:
            error = failure(client, peer.url, SHORT_TOTAL)
            assert was_cut(peer)
            assert len(peer.requests) == 1
        assert isinstance(error, OutcomeUnknown)
        assert "no complete reply within 0.3 s" in error.message


HOSTILE = [
    b"\r\n",
    b"garbage\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 99999 OK\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 " + b"O" * 200_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 200_000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, br, deflate, zstd\r\n\r\n\x00\xff",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: " + b"gzip," * 50 + b"gzip\r\n\r\n\x00\xff",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff\xfe=\x00\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe://\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n : novalue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nRetry-After: " + b"9" * 5000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("response", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers(client: HttpClient, response: bytes) -> None:
    """Whatever bytes come back, there is a Response or a DeliveryError, never a third thing, and
    never the claim that nothing was sent."""
    with wire.peer(wire.answers_once(response)) as peer:
        try:
            answer = post(client, peer.url)
        except DeliveryError as error:
            assert isinstance(error, OutcomeUnknown)  # noqa: PT017  # either way is fine
        else:
            assert isinstance(answer.status, int)
            assert answer.retry_after is None or answer.retry_after >= 0


class TestRequests:
    """What leaves is what the adapter asked for, and the id of the request that caused it."""

    def test_request_on_the_wire(self, client: HttpClient) -> None:
        """Method, path, query, headers and body arrive as given."""
        with wire.peer(wire.answers(wire.reply())) as peer:
            request = Request(
                "POST", f"{peer.url}/v1/things?a=%20b", {"Idempotency-Key": "k", "accept": "a/b"},
                b"\x00n=1",
            )  # fmt: skip
            client.send(request, context())
            head, _, body = peer.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /v1/things?a=%20b HTTP/1.1"
        assert body == b"\x00n=1"
        assert {line.split(":")[0].lower(): line.split(": ")[1] for line in lines[1:]} == {
            "host": f"127.0.0.1:{peer.port}",
            "accept-encoding": "identity",
            "user-agent": "holdfast",
            "accept": "a/b",
            "content-length": "4",
            "idempotency-key": "k",
        }

    @pytest.mark.parametrize(
        "request_id, sent",
        [("trace-7", b"trace-7"), ("", None), ("a\r\nb: c", None), ("ünd", None)],
    )
    def test_the_request_id_goes_along(
        self, client: HttpClient, request_id: str, sent: bytes | None
    ) -> None:
        """So that the provider's logs and ours can be laid side by side. What is no id of a header
        is left out."""
        with wire.peer(wire.answers(wire.reply())) as peer:
            client.send(Request("POST", peer.url), replace(context(), request_id=request_id))
            lines = peer.requests[0].split(b"\r\n")
        found = [line[14:] for line in lines if line.lower().startswith(b"x-request-id: ")]
        assert found == ([sent] if sent else [])

    def test_answer(self, client: HttpClient) -> None:
        """Any status is a Response, headers are found in any case, and the context remembers."""
        document = wire.reply(b'{"id": 1}', status="418 Teapot", headers="X-Request-Id: r")
        with wire.peer(wire.answers(document)) as peer:
            ours = context()
            response = client.send(Request("GET", f"{peer.url}/a?token=secret"), ours)
        assert (response.status, response.json()) == (418, {"id": 1})
        assert response.headers["x-request-id"] == "r"
        assert (ours.exchange.status, ours.exchange.reply) == (418, {"id": 1})
        assert ours.exchange.url == f"{peer.url}/a"

    def test_redirects_are_not_followed(self, client: HttpClient) -> None:
        """A redirect is an answer, and the other place gets nothing."""
        with wire.peer(wire.answers(wire.reply())) as other:
            location = f"Location: {other.url}/"
            redirect = wire.reply(status="307 Temporary Redirect", headers=location)
            with wire.peer(wire.answers(redirect)) as peer:
                assert post(client, peer.url).status == 307
            assert other.connections == 0

    def test_redirect_with_an_endless_body(self, client: HttpClient) -> None:
        """The cap holds for the body of a redirect, too."""
        head = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"
        with wire.peer(wire.answers_once(head + b"x" * (MAX_REPLY_BYTES * 2))) as peer:
            assert "larger than" in failure(client, peer.url).message

    def test_cookies_are_not_kept(self, client: HttpClient) -> None:
        """What one answer sets does not change the next request."""
        with wire.peer(wire.answers(wire.reply(headers="Set-Cookie: a=b; Path=/"))) as peer:
            post(client, peer.url)
            post(client, peer.url)
            assert peer.requests[0] == peer.requests[1]
            assert b"cookie" not in peer.requests[1].lower()

    def test_environment_has_no_say(
        self, client: HttpClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Neither a proxy variable nor a .netrc changes a request or its way."""
        netrc = tmp_path / "netrc"
        netrc.write_text("default login someone password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        nowhere = f"http://127.0.0.1:{wire.closed_port()}"
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, nowhere)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with wire.peer(wire.answers(wire.reply())) as peer:
            assert post(client, peer.url).status == 200
            assert b"authorization" not in peer.requests[0].lower()


class TestConnections:
    """Connections are reused, and never at the price of a wrong class."""

    def test_reuse(self, client: HttpClient) -> None:
        """Requests of one thread share a connection."""
        with wire.peer(wire.answers(wire.reply())) as peer:
            for _ in range(5):
                post(client, peer.url)
            assert (peer.connections, len(peer.requests)) == (1, 5)

    def test_closed_while_idle(self, client: HttpClient) -> None:
        """A pooled connection that the peer has closed is replaced: no false OutcomeUnknown."""
        with wire.peer(wire.answers_once(wire.reply()), wire.answers(wire.reply())) as peer:
            post(client, peer.url)
            assert peer.closed.wait(10)
            assert post(client, peer.url).status == 200
            assert (peer.connections, len(peer.requests)) == (2, 2)

    def test_not_reused_after_trouble(self, client: HttpClient) -> None:
        """A connection on which something went wrong is not used again."""
        late = wire.drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", end=b"")
        with wire.peer(late, wire.answers(wire.reply(b'{"ours": 1}'))) as peer:
            failure(client, peer.url, Timeouts(connect=10, read=10, total=0.3))
            assert post(client, peer.url).json() == {"ours": 1}
            assert peer.connections == 2

    def test_old_connections_are_not_trusted(
        self, client: HttpClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a long idle time a new connection is made, before the peer's own limit bites."""
        monkeypatch.setattr("outbound.client.IDLE_SECONDS", -1.0)
        with wire.peer(wire.answers(wire.reply())) as peer:
            post(client, peer.url)
            post(client, peer.url)
            assert peer.connections == 2

    def test_threads_share_a_client(self, client: HttpClient) -> None:
        """Sixteen threads over one client: each gets the answer to its own question, while some
        of them run into their deadlines."""

        def ask(number: int) -> bool:
            if number % 10 == 0:
                return isinstance(failure(client, slow.url, SHORT_READ), OutcomeUnknown)
            body = b'{"n": %d}' % number
            return bool(post(client, peer.url, body=body).json() == {"n": number})

        with (
            wire.peer(wire.echoes) as peer,
            wire.peer(wire.is_silent) as slow,
            ThreadPoolExecutor(16) as pool,
        ):
            assert all(pool.map(ask, range(200)))

    def test_tls(self, client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over a trusted TLS connection a request goes out and comes back, twice."""
        tls, certificate = wire.self_signed(tmp_path)
        monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(certificate))
        with wire.peer(wire.echoes, tls=tls) as peer:
            assert post(client, peer.url, body=b"1").body == b"1"
            assert post(client, peer.url, body=b"2").body == b"2"
            assert peer.connections == 1


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """No timer outlives its transfer."""
    yield
    timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    for timer in timers:
        timer.join(10)
    assert not any(t.is_alive() for t in timers)
