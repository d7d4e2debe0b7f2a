"""One request to the API: who, what, under which key, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.faults.fault import Fault, Met
from sandbox.ledger import Ledger
from sandbox.records import Seen
from sandbox.settings import Settings
from sandbox.stripe.access import scope_of
from sandbox.stripe.call import Call
from sandbox.stripe.cards import Declines
from sandbox.stripe.errors import Json, Refusal, encode, invalid
from sandbox.stripe.events import API_VERSION, Event
from sandbox.stripe.form import FORM, read_form
from sandbox.stripe.keys import Keys, Scope, Slot, digest
from sandbox.stripe.params import Params
from sandbox.stripe.routes import Route, find_route
from sandbox.stripe.store import Store
from sandbox.wire import Answer, Request

KEY = "idempotency-key"


@dataclass(slots=True)
class Asked:
    """A request that was understood so far."""

    scope: Scope
    route: Route
    id: str
    form: Json
    seen: Seen
    fault: Fault
    met: Met
    latency: float


class StripeApi:
    """Everything under /v1. `publish` hears of events once their effect is durable."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        publish: Callable[[list[Event]], None],
        webhooks: Callable[[], int],
    ) -> None:
        self.store = Store()
        self.keys = Keys()
        self.declines = Declines()
        self.settings = Settings()
        self._ledger = ledger
        self._publish = publish
        self._webhooks = webhooks

    async def answer(self, request: Request, seen: Seen, fault: Fault, met: Met) -> Answer:
        """The answer. It may take time, and what it does happens even if nobody waits."""
        try:
            scope = scope_of(request.headers)
            route, id = find_route(request.method, request.path)  # noqa: A001  # Stripe's name
            form = _form_of(request)
            latency = self.settings.latency + fault.wait_before
            asked = Asked(scope, route, id, form, seen, fault, met, latency)
            if request.method == "POST" and KEY in request.headers:
                answer = await self._once(asked, request.path)
            else:
                answer, _ = await self._execute(asked)
        except Refusal as refusal:
            answer = refusal.answer(request_id=met.request_id)
        return _with_standing_headers(answer, met.request_id)

    def call(self, scope: Scope, *, now: float, by: str = "control") -> Call:
        """What an operation needs that nobody has asked for over the API."""
        return Call(
            store=self.store,
            declines=self.declines,
            ledger=self._ledger,
            scope=scope,
            now=now,
            request_id="",
            by=by,
            search_lag=self.settings.search_lag,
            webhooks=self._webhooks(),
        )

    async def finish(self, call: Call) -> None:
        """Bring the effect to the disk, then let the events go."""
        if call.effects:
            await self._ledger.durable()
        if call.events:
            self._publish(call.events)

    def clear(self) -> None:
        """As at the start."""
        self.store.clear()
        self.keys.clear()
        self.declines.clear()
        self.settings = Settings()

    async def _once(self, asked: Asked, path: str) -> Answer:
        """Execute the first request with a key; replay what came of it to the others."""
        key, met = asked.met.key, asked.met
        slot = self.keys.claim(
            scope=asked.scope,
            key=key,
            path=path,
            form=digest(asked.form),
            request_id=met.request_id,
            at=met.now,
            lifetime=self.settings.key_lifetime,
        )
        headers = {"Idempotency-Key": key, "Original-Request": slot.request_id}
        if slot.answer is not None:
            asked.seen.replayed = True
            return slot.answer.with_headers({**headers, "Idempotent-Replayed": "true"})
        try:
            answer = await self._first(asked, slot)
        finally:
            if slot.answer is None:
                self.keys.release(slot)
        return answer.with_headers(headers)

    async def _first(self, asked: Asked, slot: Slot) -> Answer:
        answer, executed = await self._execute(asked)
        if executed:
            self.keys.store(slot, answer)
        return answer

    async def _execute(self, asked: Asked) -> tuple[Answer, bool]:
        """The answer, and whether the endpoint had begun its work."""
        if asked.latency:
            await asyncio.sleep(asked.latency)
        if not asked.fault.executes:
            return asked.fault.stored(Answer(500, b""), asked.met), True
        call = self._call(asked)
        executed = True
        try:
            if call.decline is not None and not asked.route.pays:
                raise call.decline.refusal()
            answer = Answer(200, encode(self._operate(call, asked)))
        except Refusal as refusal:
            answer = refusal.answer(request_id=asked.met.request_id)
            executed = refusal.executed
        asked.seen.effects = call.effects
        await self.finish(call)
        if executed:
            answer = asked.fault.stored(answer, asked.met)
        return answer, executed

    def _operate(self, call: Call, asked: Asked) -> Json:
        return asked.route.operation(call, Params(asked.form), asked.id)

    def _call(self, asked: Asked) -> Call:
        call = self.call(asked.scope, now=asked.met.now + asked.latency, by="request")
        call.request_id = asked.met.request_id
        call.key = asked.met.key if asked.route.method == "POST" else ""
        call.decline = asked.fault.decline
        return call


def _form_of(request: Request) -> Json:
    if request.method != "POST":
        return read_form(request.query.encode())
    content_type = request.headers.get("content-type", FORM).partition(";")[0].strip().lower()
    if request.body and content_type != FORM:
        raise invalid(f"Invalid request (check that your POST content type is {FORM}).")
    return read_form(request.query.encode()) | read_form(request.body)


def _with_standing_headers(answer: Answer, request_id: str) -> Answer:
    return answer.with_headers(
        {
            "Request-Id": request_id,
            "Stripe-Version": API_VERSION,
            "Cache-Control": "no-cache, no-store",
        }
    )
