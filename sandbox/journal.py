"""A file of JSON lines that is on the disk before anybody hears of what it says."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Unwritable(Exception):
    """The file cannot be written any more. A provider without a ledger must not go on."""


class Journal:
    """Appends lines. Those that wait for the disk at the same time share one fsync.

    Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: list[bytes] = []
        self._appended = 0
        self._durable = 0
        self._writing: asyncio.Task[None] | None = None
        self._end_torn_line()

    def append(self, line: bytes) -> None:
        """Put a line behind the others; `durable()` brings it to the disk."""
        self._waiting.append(line + b"\n")
        self._appended += 1

    async def durable(self) -> None:
        """Until all that was appended so far is on the disk. Raises Unwritable."""
        target = self._appended
        while self._durable < target:
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write())
            await asyncio.shield(self._writing)

    def close(self) -> None:
        """Let the file go."""
        self._thread.shutdown()
        os.close(self._file)

    async def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        appended = self._appended
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, _write_and_sync, self._file, b"".join(lines))
        except OSError as error:
            raise Unwritable(f"the ledger's file: {error}") from error
        self._durable = appended

    def _end_torn_line(self) -> None:
        """A killed process may have left half a line behind."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")


def _write_and_sync(file: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(file, octets) :]
    os.fsync(file)
