"""The effect ledger: what really happened at the provider, each with the key it happened under."""

from __future__ import annotations

import json
from collections.abc import Callable

from sandbox.journal import Journal
from sandbox.recent import Recent
from sandbox.records import Effect, as_json


class Ledger(Recent[Effect]):
    """Kept in memory, and in a journal if there is one."""

    def __init__(self, *, journal: Journal | None) -> None:
        super().__init__()
        self._journal = journal

    def record(self, make: Callable[[int], Effect]) -> None:
        """Write an effect down. Nobody may hear of it before `durable()`."""
        effect = self.add(make)
        if self._journal is not None:
            self._journal.append(json.dumps(as_json(effect), separators=(",", ":")).encode())

    async def durable(self) -> None:
        """Until all that was recorded so far is on the disk, if it goes there at all."""
        if self._journal is not None:
            await self._journal.durable()
