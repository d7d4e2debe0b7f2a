"""A mail server on loopback that does what a script says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from tests.outbound.wire import DRIP_LIMIT, DRIP_SECONDS

HANG_UP = b""  # in an answer's place: the connection is closed
OK = b"250 ok\r\n"
USUAL = {
    "EHLO": b"250-mail.example.com\r\n250-SIZE 99999999\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
    "DATA": b"354 go on\r\n",
    "STARTTLS": b"220 go on\r\n",
    "QUIT": b"221 bye\r\n",
}
SILENCE = None  # in an answer's place: nothing is said, until the other end has gone


@dataclass
class MailServer:
    """`answers`: what is said to a command, by its first word, or to RCPT by the address; CONNECT
    is the greeting, CONTENT what follows a message."""

    answers: Mapping[str, bytes | None] = field(default_factory=dict)
    messages: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    """Sender, recipients and content of each that was taken, whether that was said or not."""
    commands: list[str] = field(default_factory=list)
    drips: bool = False
    tls: ssl.SSLContext | None = None
    port: int = 0

    def serve(self, connection: socket.socket, *, encrypted: bool) -> None:
        with suppress(OSError, EOFError), ExitStack() as open_ones:
            open_ones.enter_context(connection)
            if encrypted and self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                open_ones.enter_context(connection)
            self._say(connection, "CONNECT", b"220 mail.example.com ready\r\n")
            while self._converse(connection) and self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                open_ones.enter_context(connection)

    def _converse(self, connection: socket.socket) -> bool:
        """Take messages until the other end wants TLS (True) or has gone."""
        reader = connection.makefile("rb")
        sender, people = "", list[str]()
        for line in reader:
            command = line.decode("latin-1").strip()
            self.commands.append(command)
            word = command.split(" ")[0].upper()
            if word == "MAIL":
                sender, people = _path(command), []
            known = _path(command) in self.answers
            said = self._say(connection, _path(command) if known else word, USUAL.get(word, OK))
            if word == "RCPT" and said == OK:
                people.append(_path(command))
            if word == "DATA" and said.startswith(b"354"):
                self._take(connection, sender, people, _content(reader))
            if word == "STARTTLS":
                return True
        return False

    def _take(
        self, connection: socket.socket, sender: str, people: list[str], content: bytes
    ) -> None:
        answer = self.answers.get("CONTENT", OK)
        if answer in (SILENCE, HANG_UP, OK):
            self.messages.append((sender, people, content))
        self._say(connection, "CONTENT", OK)

    def _say(self, connection: socket.socket, word: str, usual: bytes) -> bytes:
        said = self.answers.get(word, usual)
        if said is SILENCE:
            connection.recv(1)
        if said is SILENCE or said == HANG_UP:
            raise EOFError
        pause = threading.Event()
        for _ in range(DRIP_LIMIT if self.drips else 0):
            pause.wait(DRIP_SECONDS)
            connection.sendall(b"2")
        connection.sendall(said)
        return said


def _path(command: str) -> str:
    return command.partition("<")[2].partition(">")[0]


def _content(reader: Iterator[bytes]) -> bytes:
    lines = []
    for line in reader:
        if line == b".\r\n":
            break
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


@contextmanager
def mail_server(
    answers: Mapping[str, bytes | None] | None = None,
    *,
    drips: bool = False,
    tls: ssl.SSLContext | None = None,
    encrypted: bool = False,
) -> Iterator[MailServer]:
    """A server that listens while the block runs; `encrypted` from the start."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = MailServer(answers or {}, drips=drips, tls=tls, port=listener.getsockname()[1])

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(
                target=server.serve,
                args=(connection,),
                kwargs={"encrypted": encrypted},
                daemon=True,
            ).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
