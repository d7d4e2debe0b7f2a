"""Connections that know whether bytes have left, and that a deadline can cut.

A socket timeout is per read, so a peer that sends a byte now and then is never too slow for it.
Here an alarm shuts the socket down when the whole transfer has taken too long, wherever it hangs:
in the TLS handshake, the headers or the body. Name resolution cannot be cut, but nothing is sent
after it once the time is up.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from outbound.alarms import set_alarm


class Transfer:
    """One request on its way: whether bytes have left, and whether its time is up.

    `ends` is in monotonic seconds.
    """

    def __init__(self, *, ends: float) -> None:
        self.ends = ends
        self.sent = False
        self.expired = False
        self.status: int | None = None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def watch(self, connected: socket.socket) -> None:
        """Cut this connection when the time is up. A duplicate descriptor reaches the same
        socket after TLS has taken over the original one."""
        with self._lock:
            self._release()
            self._socket = socket.socket(fileno=os.dup(connected.fileno()))
            if self.expired:
                self._shut()

    def expire(self) -> None:
        with self._lock:
            self.expired = True
            self._shut()

    def close(self) -> None:
        with self._lock:
            self._release()

    def about_to_send(self) -> None:
        """Raises TimeoutError, before anything is sent, when the time is up.

        Looks at the clock, too: a process that was frozen wakes up before its alarm does.
        """
        if not self.sent and (self.expired or time.monotonic() >= self.ends):
            self.expired = True
            raise TimeoutError("no time left to send")
        self.sent = True

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the peer may have closed it first
                self._socket.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


_current = threading.local()


@contextmanager
def transferring(transfer: Transfer) -> Iterator[None]:
    """Requests of this thread belong to `transfer` and are cut when its time is up."""
    alarm = set_alarm(transfer.ends, transfer.expire)
    _current.transfer = transfer
    try:
        yield
    finally:
        del _current.transfer
        alarm.cancel()
        transfer.close()


class _Watched:
    """Mixin for urllib3 connections: reports to the thread's transfer."""

    sock: Any

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        _current.transfer.watch(connected)
        return connected

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        _current.transfer.about_to_send()
        super().send(data)  # type: ignore[misc]

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _current.transfer.watch(self.sock)  # a connection from the pool
        super().putrequest(*args, **kwargs)  # type: ignore[misc]


class WatchedHTTPConnection(_Watched, HTTPConnection):
    pass


class WatchedHTTPSConnection(_Watched, HTTPSConnection):
    pass


class WatchedHTTPPool(HTTPConnectionPool):
    ConnectionCls = WatchedHTTPConnection


class WatchedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = WatchedHTTPSConnection


class DeadlineAdapter(HTTPAdapter):
    """A requests adapter whose connections can be cut by `transferring`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": WatchedHTTPPool,
            "https": WatchedHTTPSPool,
        }
