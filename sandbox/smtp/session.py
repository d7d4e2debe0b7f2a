"""One conversation. https://www.rfc-editor.org/rfc/rfc5321"""

from __future__ import annotations

import asyncio
import re
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable

from sandbox.limits import IDLE_SECONDS, MAX_MESSAGE_BYTES
from sandbox.messages.conditions import Conditions
from sandbox.messages.providers.smtp import RECIPIENTS_HEADER
from sandbox.records import Seen
from sandbox.sending import Reply, wait_for_the_end
from sandbox.wire import Request

Handle = Callable[[Request], Awaitable[tuple[Reply, Seen]]]
PATH = re.compile(r"(FROM|TO):\s*<([^<>]*)>(.*)", re.IGNORECASE)
ENOUGH = 100  # recipients of one message: https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.1.8
EXTENSIONS = ("sandbox", "8BITMIME", f"SIZE {MAX_MESSAGE_BYTES}", "AUTH PLAIN LOGIN")


class Ended(Exception):
    """The connection is to end now."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class Session:
    """What is known of the client, and of the message that it is about to send."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        handle: Handle,
        conditions: Callable[[], Conditions],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._conditions = conditions
        self._authenticated = False
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def converse(self) -> bool:
        """Until one of the two has enough. Whether to end with RST."""
        try:
            if await self._ask("connect", b"") != 220:
                return False
            while line := await self._line():
                verb, _, rest = line.strip().partition(" ")
                command = self._commands.get(verb.upper())
                if command is None:
                    await self._say(502, "5.5.2 Command not recognised")
                else:
                    await command(rest.strip())
        except Ended as ended:
            return ended.reset
        return False

    async def _ehlo(self, _name: str) -> None:
        for line in EXTENSIONS[:-1]:
            self._writer.write(f"250-{line}\r\n".encode())
        await self._say(250, EXTENSIONS[-1])

    async def _helo(self, _name: str) -> None:
        await self._say(250, "sandbox")

    async def _auth(self, given: str) -> None:
        method, _, first = given.partition(" ")
        if method.upper() == "PLAIN":
            text = first or await self._prompt("")
            _, user, password = (_decoded(text) + "\0\0").split("\0")[:3]
        elif method.upper() == "LOGIN":
            user = _decoded(first or await self._prompt("VXNlcm5hbWU6"))
            password = _decoded(await self._prompt("UGFzc3dvcmQ6"))
        else:
            await self._say(504, "5.5.4 Unrecognised authentication type")
            return
        known = self._conditions().credentials
        if not user or (known is not None and f"{user}:{password}" not in known):
            await self._say(535, "5.7.8 Authentication credentials invalid")
            return
        self._authenticated = True
        await self._say(235, "2.7.0 Authentication successful")

    async def _mail(self, given: str) -> None:
        found = PATH.fullmatch(given)
        if found is None or found[1].upper() != "FROM":
            await self._say(501, "5.5.4 Syntax: MAIL FROM:<address>")
        elif self._conditions().credentials is not None and not self._authenticated:
            await self._say(530, "5.7.0 Authentication required")
        elif await self._ask("mail", found[2].encode("utf-8", "replace")) == 250:
            self._sender, self._recipients = found[2], []

    async def _rcpt(self, given: str) -> None:
        found = PATH.fullmatch(given)
        if found is None or found[1].upper() != "TO":
            await self._say(501, "5.5.4 Syntax: RCPT TO:<address>")
        elif self._sender is None:
            await self._say(503, "5.5.1 MAIL first")
        elif len(self._recipients) >= ENOUGH:
            await self._say(452, "4.5.3 Too many recipients")
        elif await self._ask("rcpt", found[2].encode("utf-8", "replace")) == 250:
            self._recipients.append(found[2])

    async def _data(self, _given: str) -> None:
        if not self._recipients:
            await self._say(503, "5.5.1 RCPT first")
        elif await self._ask("begin", b"", late=True) == 354:
            content = await self._content()
            if content is None:
                await self._say(552, "5.3.4 Message too big")
            else:
                await self._ask("data", content)
            self._sender, self._recipients = None, []

    async def _rset(self, _given: str) -> None:
        self._sender, self._recipients = None, []
        await self._say(250, "2.0.0 Ok")

    async def _noop(self, _given: str) -> None:
        await self._say(250, "2.0.0 Ok")

    async def _quit(self, _given: str) -> None:
        await self._say(221, "2.0.0 Bye")
        raise Ended

    async def _ask(self, step: str, body: bytes, *, late: bool = False) -> int:
        """What the provider says to this step, faults included; said to the client. `late`: a
        connection that is to end does so in the middle of the content."""
        headers = {RECIPIENTS_HEADER: " ".join(self._recipients)}
        method = "DATA" if step == "data" else step.upper()
        request = Request(method, f"/smtp/{step}", "", headers, body, keep_alive=True)
        reply, seen = await self._handle(request)
        try:
            if reply.answer is None:
                if late:
                    await self._say(354, "Go ahead")
                    await self._line()
                if reply.hang != 0:
                    await wait_for_the_end(self._reader, reply.hang)
                raise Ended(reset=reply.manner.reset)
            slow = reply.manner.seconds if reply.manner.drip else 0.0
            await self._say(reply.answer.status, reply.answer.body.decode(), slow=slow)
            seen.answered = True
            if reply.answer.status == 421:
                raise Ended
            return reply.answer.status
        finally:
            seen.finished_at = time.time()

    async def _say(self, code: int, text: str, *, slow: float = 0.0) -> None:
        octets = f"{code} {text}\r\n".encode()
        for start in range(0, len(octets), 1 if slow else len(octets)):
            self._writer.write(octets[start : start + 1] if slow else octets)
            await self._writer.drain()
            if slow:
                await asyncio.sleep(slow)

    async def _prompt(self, text: str) -> str:
        await self._say(334, text)
        return (await self._line()).strip()

    async def _line(self) -> str:
        """'' when the client has gone, or is silent for too long."""
        try:
            line = await asyncio.wait_for(self._reader.readline(), IDLE_SECONDS)
        except TimeoutError:
            return ""
        except ValueError:  # longer than the stream's limit
            raise Ended from None
        return line.decode("utf-8", "replace")

    async def _content(self) -> bytes | None:
        """Up to the final dot; None for more than we take. Raises Ended."""
        content = bytearray()
        while True:
            try:
                line = await asyncio.wait_for(self._reader.readline(), IDLE_SECONDS)
            except (TimeoutError, ValueError):
                raise Ended from None
            if not line.endswith(b"\n"):
                raise Ended
            if line.rstrip(b"\r\n") == b".":
                return bytes(content) if len(content) <= MAX_MESSAGE_BYTES else None
            if len(content) <= MAX_MESSAGE_BYTES:
                content += line.removeprefix(b".") if line.startswith(b"..") else line


def _decoded(text: str) -> str:
    try:
        return b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""
