"""The provider as a whole: what it keeps, and what it does with a request."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sandbox.faults.fault import Met
from sandbox.faults.rules import KEY, Rules
from sandbox.ids import new_id
from sandbox.journal import Journal
from sandbox.ledger import Ledger
from sandbox.records import Seen
from sandbox.sending import Reply
from sandbox.stripe.api import StripeApi
from sandbox.traffic import Traffic
from sandbox.webhooks.courier import Courier
from sandbox.webhooks.policy import Endpoint
from sandbox.wire import Request


class Provider:
    """Made and used within a running loop. Raises OSError when the ledger file cannot be opened."""

    def __init__(self, *, seed: int | None, endpoint: Endpoint, ledger: Path | None) -> None:
        self.rules = Rules(seed=seed)
        self.ledger = Ledger(journal=Journal(ledger) if ledger else None)
        self.traffic = Traffic()
        self.courier = Courier(seed=seed, endpoint=endpoint)
        self.api = StripeApi(
            ledger=self.ledger, publish=self.courier.accept, webhooks=self.courier.listeners
        )
        self.courier.start()

    async def handle(self, request: Request) -> tuple[Reply, Seen]:
        """The reply to a request to the API, and where to write down how it ended."""
        met = Met(time.time(), new_id("req", length=14), request.headers.get(KEY, ""))
        seen = self.traffic.arrived(request, request_id=met.request_id)
        fault = self.rules.choose(request)
        seen.fault = fault.kind
        if (instead := fault.instead(met)) is not None:
            if instead.answer is not None:
                seen.status = instead.answer.status
                headers = {"Request-Id": met.request_id}
                instead = Reply(instead.answer.with_headers(headers), instead.manner)
            return instead, seen
        answer = await self.api.answer(request, seen, fault, met)
        seen.status = answer.status
        if fault.wait_after:
            await asyncio.sleep(fault.wait_after)
        if fault.silence is not None:
            return fault.silence, seen
        answer = fault.sent(answer, met)
        seen.status = answer.status
        return Reply(answer, fault.manner), seen

    def reset(self) -> None:
        """As at the start; only the ledger's file remembers."""
        self.rules.reset()
        self.ledger.clear()
        self.traffic.clear()
        self.courier.reset()
        self.api.clear()
