"""Peers on loopback that behave as badly as a script says."""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Behaviour = Callable[["Peer", socket.socket], None]

DRIP_SECONDS = 0.05
DRIP_LIMIT = 400  # a drip ends after this, so that a missing deadline fails a test, not hangs it


@dataclass
class Peer:
    """A listening socket; its n-th connection is served by the n-th behaviour, the last of which
    serves all that follow. `requests` holds whole requests, head and body, as they arrived."""

    behaviours: tuple[Behaviour, ...]
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    closed: threading.Event = field(default_factory=threading.Event)
    """Set when a behaviour has ended and its connection was closed."""
    cut: bool = False
    """Whether the other end has hung up while we dripped."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def read_request(self, connection: socket.socket) -> bytes:
        """One whole request. Raises EOFError when the other end closes instead."""
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += self._some(connection)
        head, _, body = seen.partition(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        while len(body) < sum(lengths):
            body += self._some(connection)
        request = head + b"\r\n\r\n" + body
        self.requests.append(request)
        return request

    def _some(self, connection: socket.socket) -> bytes:
        some = connection.recv(65536)
        if not some:
            raise EOFError
        return some

    def _serve(self, connection: socket.socket, behaviour: Behaviour) -> None:
        with suppress(OSError, EOFError), connection:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                behaviour(self, connection)
        self.closed.set()


@contextmanager
def peer(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """A peer that listens while the block runs."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    found = Peer(behaviours, tls=tls, port=listener.getsockname()[1])
    turns = itertools.chain(behaviours, itertools.repeat(behaviours[-1]))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            found.connections += 1
            threading.Thread(
                target=found._serve, args=(connection, next(turns)), daemon=True
            ).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield found
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()


def reply(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole response."""
    extra = f"{headers}\r\n" if headers else ""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def answers(*responses: bytes) -> Behaviour:
    """Answer each request on the connection with the next response, the last one for ever."""

    def behave(peer: Peer, connection: socket.socket) -> None:
        for response in itertools.chain(responses, itertools.repeat(responses[-1])):
            peer.read_request(connection)
            connection.sendall(response)

    return behave


def answers_once(response: bytes) -> Behaviour:
    """Answer one request, then close."""

    def behave(peer: Peer, connection: socket.socket) -> None:
        peer.read_request(connection)
        connection.sendall(response)

    return behave


def echoes(peer: Peer, connection: socket.socket) -> None:
    """Answer each request with its own body."""
    while True:
        connection.sendall(reply(peer.read_request(connection).partition(b"\r\n\r\n")[2]))


def is_silent(peer: Peer, connection: socket.socket) -> None:
    """Read the request and say nothing until the other end has gone."""
    peer.read_request(connection)
    connection.recv(1)


def resets(after: int = 1) -> Behaviour:
    """Answer all but the `after`-th request of a connection, and reset at that one."""

    def behave(peer: Peer, connection: socket.socket) -> None:
        for _ in range(after - 1):
            peer.read_request(connection)
            connection.sendall(reply())
        peer.read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def drips(start: bytes, *, end: bytes, after: int = 1) -> Behaviour:
    """Answer all but the `after`-th request of a connection. For that one, send `start` at once,
    then single bytes, each of them well inside any read timeout, and after a long time an `end`
    that makes the response whole."""

    def behave(peer: Peer, connection: socket.socket) -> None:
        for _ in range(after - 1):
            peer.read_request(connection)
            connection.sendall(reply())
        peer.read_request(connection)
        _drip(peer, connection, start, end)

    return behave


def drips_in_handshake(peer: Peer, connection: socket.socket) -> None:
    """Begin a TLS record that never ends."""
    connection.recv(65536)
    _drip(peer, connection, b"\x16\x03\x03\x40\x00", b"")


def _drip(peer: Peer, connection: socket.socket, start: bytes, end: bytes) -> None:
    pause = threading.Event()
    try:
        connection.sendall(start)
        for _ in range(DRIP_LIMIT):
            pause.wait(DRIP_SECONDS)
            connection.sendall(b"x")
        connection.sendall(end)
    except OSError:
        peer.cut = True


@contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener that accepts nothing and whose queue is full: connecting hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for 127.0.0.1, and the certificate that a client would have to
    trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    return context, cert_file
