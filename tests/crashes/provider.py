"""A provider whose ledger survives the process that called it: files, written before the answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from outbound.adapters import Adapter, CallContext, Payload, Reply, operation
from outbound.errors import OutcomeUnknown, TransientError


class Order(Payload):
    n: int


class Ledger:
    """`sent` names every request, `effects` every effect, by key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def sent(self) -> list[str]:
        return self._lines("sent")

    def effects(self) -> list[str]:
        return self._lines("effects")

    def forget(self) -> None:
        for file in self._folder.iterdir():
            file.unlink()

    def serve(self, context: CallContext, *, honours_keys: bool, fails_first: bool) -> Reply:
        """One request: written down, then carried out unless its key is known."""
        self._append("sent", context.idempotency_key)
        if fails_first and len(self.sent()) == 1:
            raise TransientError("503, and nothing happened", effect_possible=True)
        if not honours_keys or context.idempotency_key not in self.effects():
            self._append("effects", context.idempotency_key)
        return Reply({"id": context.call_id}, f"obj_{context.call_id}", 200)

    def _append(self, name: str, line: str) -> None:
        with (self._folder / name).open("a") as file:
            file.write(f"{line}\n")

    def _lines(self, name: str) -> list[str]:
        file = self._folder / name
        return file.read_text().splitlines() if file.exists() else []


class LedgerAdapter(Adapter):
    """Set `ledger`, and `around` each request, before use."""

    ledger: ClassVar[Ledger]
    around: ClassVar[Callable[[Callable[[], Any]], Any]] = staticmethod(lambda send: send())

    @operation(key_lifetime=timedelta(hours=20))
    def charge(self, payload: Order, context: CallContext) -> Reply:
        return self._send(context, honours_keys=True, fails_first=False)

    @operation(key_lifetime=timedelta(hours=20))
    def charge_at_last(self, payload: Order, context: CallContext) -> Reply:
        return self._send(context, honours_keys=True, fails_first=True)

    @operation()
    def post_letter(self, payload: Order, context: CallContext) -> Reply:
        return self._send(context, honours_keys=False, fails_first=False)

    @operation()
    def post_lost_letter(self, payload: Order, context: CallContext) -> Reply:
        self._send(context, honours_keys=False, fails_first=False)
        raise OutcomeUnknown("the answer was lost")

    def _send(self, context: CallContext, *, honours_keys: bool, fails_first: bool) -> Reply:
        reply: Reply = type(self).around(
            lambda: self.ledger.serve(context, honours_keys=honours_keys, fails_first=fails_first)
        )
        return reply
