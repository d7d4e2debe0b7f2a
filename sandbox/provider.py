"""The providers as a whole: what they keep, and what they do with a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from sandbox.faults.fault import Fault, Met
from sandbox.faults.rules import KEY, Rules
from sandbox.fields import Fields
from sandbox.ids import new_id
from sandbox.journal import Journal
from sandbox.ledger import Ledger
from sandbox.limits import MAX_BODY_BYTES, MAX_MESSAGE_BYTES
from sandbox.messages.api import Destination, MessageApi
from sandbox.messages.tellings import TELLINGS
from sandbox.messages.tracker import Tracker
from sandbox.recent import Recent
from sandbox.records import Delivery, Seen
from sandbox.sending import Reply
from sandbox.stripe import trouble
from sandbox.stripe.api import StripeApi
from sandbox.stripe.envelopes import seal
from sandbox.traffic import Traffic
from sandbox.webhooks.courier import Courier
from sandbox.webhooks.policy import Endpoint
from sandbox.wire import Answer, Request

STRIPE = "stripe"


class Provider:
    """Made and used within a running loop. Raises OSError when the ledger file cannot be opened."""

    def __init__(
        self,
        *,
        seed: int | None,
        endpoint: Endpoint,
        ledger: Path | None,
        tracking: Mapping[str, Endpoint] | None = None,
    ) -> None:
        self.rules = Rules(seed=seed)
        self.ledger = Ledger(journal=Journal(ledger) if ledger else None)
        self.traffic = Traffic()
        self.deliveries: Recent[Delivery] = Recent()
        self.courier = Courier(
            provider=STRIPE, seal=seal, seed=seed, endpoint=endpoint, log=self.deliveries
        )
        trackings = {
            name: Courier(
                provider=name,
                seal=telling.sealed,
                seed=seed,
                endpoint=(tracking or {}).get(name, Endpoint()),
                log=self.deliveries,
            )
            for name, telling in TELLINGS.items()
        }
        self.couriers = {STRIPE: self.courier, **trackings}
        self.api = StripeApi(
            ledger=self.ledger, publish=self.courier.accept, webhooks=self.courier.listeners
        )
        self.tracker = Tracker(trackings, TELLINGS)
        self.messages = MessageApi(
            ledger=self.ledger, tracker=self.tracker, settings=lambda: self.api.settings
        )
        for courier in self.couriers.values():
            courier.start()

    @property
    def pending(self) -> int:
        """Events that are on their way, or still to come."""
        return self.tracker.pending + sum(courier.pending for courier in self.couriers.values())

    @property
    def held(self) -> int:
        """Events that wait to be released."""
        return sum(len(courier.held) for courier in self.couriers.values())

    def courier_of(self, fields: Fields) -> Courier:
        """That of the `provider` among the fields, or Stripe's. Raises BadInput."""
        return self.couriers[fields.text("provider", STRIPE, choices=self.couriers)]

    def bound(self, path: str) -> int:
        """How long a body may be."""
        return MAX_MESSAGE_BYTES if self.messages.find(path) else MAX_BODY_BYTES

    async def handle(self, request: Request) -> tuple[Reply, Seen]:
        """The reply to a request to the API, and where to write down how it ended."""
        destination = self.messages.find(request.path)
        words = destination.provider.trouble if destination else trouble.trouble
        met = Met(time.time(), new_id("req", length=14), request.headers.get(KEY, ""), words)
        seen = self.traffic.arrived(request, request_id=met.request_id)
        fault = (destination.down() if destination else None) or self.rules.choose(request)
        seen.fault = fault.kind
        if (instead := fault.instead(met)) is not None:
            if instead.answer is not None:
                seen.status = instead.answer.status
                headers = {"Request-Id": met.request_id}
                instead = Reply(instead.answer.with_headers(headers), instead.manner)
            return instead, seen
        answer = await self._answer(destination, request, seen, fault, met)
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
        self.deliveries.clear()
        self.tracker.reset()
        for courier in self.couriers.values():
            courier.reset()
        self.api.clear()
        self.messages.clear()

    async def _answer(
        self, destination: Destination | None, request: Request, seen: Seen, fault: Fault, met: Met
    ) -> Answer:
        if destination is None:
            return await self.api.answer(request, seen, fault, met)
        return await self.messages.answer(destination, request, seen, fault, met)
