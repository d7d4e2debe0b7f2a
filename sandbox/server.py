"""The listening socket and its connections."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from sandbox.console.console import Console
from sandbox.journal import Unwritable
from sandbox.limits import MAX_CONNECTIONS, MAX_HEAD_BYTES
from sandbox.messages.providers.smtp import Smtp
from sandbox.provider import Provider
from sandbox.sending import WHOLE, Manner, end, send, wait_for_the_end
from sandbox.smtp.session import Session
from sandbox.stripe.errors import Refusal
from sandbox.wire import Answer, Malformed, Request, read_request

CONTROL = "/_control"
Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


class Server:
    """Accepts connections until it is told to stop."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._console = Console(provider, cut=self._cut_others)
        self._connections: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._failure: Unwritable | None = None

    async def serve(
        self,
        *,
        host: str,
        port: int,
        ready: Callable[[str, int, int | None], None],
        smtp_port: int | None = None,
    ) -> None:
        """Until SIGTERM or SIGINT. Calls `ready` with the address, and the port for mail if there
        is one. Raises OSError when it cannot listen, and Unwritable when the ledger's file cannot
        be written any more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        listening = await asyncio.start_server(
            self._accept, host, port, limit=MAX_HEAD_BYTES, backlog=1024
        )
        mail = None
        if smtp_port is not None:
            mail = await asyncio.start_server(
                self._accept_mail, host, smtp_port, limit=MAX_HEAD_BYTES, backlog=1024
            )
        address = listening.sockets[0].getsockname()
        ready(address[0], address[1], mail.sockets[0].getsockname()[1] if mail else None)
        await self._stopped.wait()
        listening.close()
        if mail is not None:
            mail.close()
        if self._failure is not None:
            raise self._failure

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._hold(self._converse, reader, writer)

    async def _accept_mail(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._hold(self._converse_by_mail, reader, writer)

    async def _hold(
        self,
        converse: Conversation,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MAX_CONNECTIONS:
            end(writer, reset=True)
            return
        self._connections.add(task)
        try:
            reset = await converse(reader, writer)
            end(writer, reset=reset)
        except (ConnectionError, asyncio.CancelledError):  # the peer has gone, or we are to end
            end(writer, reset=True)
        except Unwritable as error:
            end(writer, reset=True)
            self._failure = error
            self._stopped.set()
        except BaseException:  # a bug: nobody shall wait for an answer
            end(writer, reset=True)
            raise
        finally:
            self._connections.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request after the other. Whether to end with RST."""
        try:
            while (
                request := await read_request(reader, writer, bound=self._provider.bound)
            ) is not None:
                done = await self._answer(request, reader, writer)
                if done is not None:
                    return done
        except Malformed as malformed:
            answer = Refusal(malformed.status, str(malformed)).answer(request_id="")
            writer.write(answer.head(keep_alive=False) + answer.body)
            await writer.drain()
        return False

    async def _converse_by_mail(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        server = self._provider.messages.providers[Smtp.name]
        session = Session(
            reader,
            writer,
            handle=self._provider.handle,
            conditions=lambda: server.conditions,
        )
        return await session.converse()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool | None:
        """None when the connection may go on, otherwise whether to end it with RST."""
        if request.path == CONTROL or request.path.startswith(CONTROL + "/"):
            answer = await self._console.answer(request)
            return await _send(request, answer, WHOLE, writer)
        reply, seen = await self._provider.handle(request)
        try:
            if reply.answer is None:
                if reply.hang != 0:
                    await wait_for_the_end(reader, reply.hang)
                return reply.manner.reset
            outcome = await _send(request, reply.answer, reply.manner, writer)
            seen.answered = reply.manner.cut is None
            return outcome
        finally:
            seen.finished_at = time.time()

    def _cut_others(self) -> None:
        for task in self._connections - {asyncio.current_task()}:
            task.cancel()


async def _send(
    request: Request, answer: Answer, manner: Manner, writer: asyncio.StreamWriter
) -> bool | None:
    whole = await send(
        writer, answer, manner, keep_alive=request.keep_alive, body=request.method != "HEAD"
    )
    if whole and request.keep_alive:
        return None
    return manner.reset and not whole
