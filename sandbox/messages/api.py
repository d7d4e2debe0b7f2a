"""All providers of messages: which one is meant, what it says, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import parse_qs, urlsplit

from sandbox.faults.fault import Fault, Met
from sandbox.faults.reading import read_fault
from sandbox.fields import BadInput
from sandbox.ledger import Ledger
from sandbox.limits import KEPT_MESSAGES
from sandbox.messages.provider import Ask, MessageProvider
from sandbox.messages.providers.fcm import Fcm
from sandbox.messages.providers.google import Google
from sandbox.messages.providers.mailgun import Mailgun
from sandbox.messages.providers.postmark import Postmark
from sandbox.messages.providers.resend import Resend
from sandbox.messages.providers.sendgrid import SendGrid
from sandbox.messages.providers.ses import Ses
from sandbox.messages.providers.smtp import Smtp
from sandbox.messages.providers.twilio import Twilio
from sandbox.messages.refused import Refused
from sandbox.messages.tracker import Tracker
from sandbox.recent import Recent
from sandbox.records import Effect, Message, Seen
from sandbox.settings import Settings
from sandbox.wire import Answer, Request

PROVIDERS: tuple[type[MessageProvider], ...] = (
    SendGrid, Mailgun, Ses, Postmark, Resend, Smtp, Twilio, Fcm, Google,
)  # fmt: skip
CALL_KEY, KEY_KEY = "holdfast_call", "holdfast_key"
DOWN = {
    "reset": replace(read_fault("drop_before_effect"), kind="down"),
    "unavailable": replace(read_fault({"kind": "status", "status": 503}), kind="down"),
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A provider and what is asked of it: the path behind its prefix."""

    provider: MessageProvider
    path: str

    def down(self) -> Fault | None:
        """What every request meets while the provider is down."""
        return DOWN.get(self.provider.conditions.down)


class MessageApi:
    """Everything under /sendgrid, /mailgun and so on."""

    def __init__(
        self, *, ledger: Ledger, tracker: Tracker, settings: Callable[[], Settings]
    ) -> None:
        self.arrivals: Recent[Message] = Recent(kept=KEPT_MESSAGES)
        self.providers = {each.name: each(self.arrivals) for each in PROVIDERS}
        self._ledger = ledger
        self._tracker = tracker
        self._settings = settings

    def find(self, path: str) -> Destination | None:
        """Whom a path leads to; None: none of these."""
        name, _, rest = path.removeprefix("/").partition("/")
        provider = self.providers.get(name)
        return Destination(provider, f"/{rest}") if provider else None

    async def answer(
        self, destination: Destination, request: Request, seen: Seen, fault: Fault, met: Met
    ) -> Answer:
        """The answer. It may take time, and what it does happens even if nobody waits."""
        provider = destination.provider
        ask = Ask(request, destination.path, met.now)
        try:
            return await provider.once(ask, partial(self._execute, provider, ask, seen, fault, met))
        except BadInput as error:
            return provider.refusal(provider.misshapen(error), request_id=met.request_id)
        except Refused as refused:
            return provider.refusal(refused, request_id=met.request_id)

    async def accept(
        self, provider: MessageProvider, messages: Sequence[Message], *, request_id: str, now: float
    ) -> None:
        """Write down what a provider has accepted, then let its story begin."""
        for message in messages:
            message.at = now
            self.arrivals.add(partial(_numbered, message))
            self._ledger.record(partial(_effect, message, request_id))
        if messages:
            await self._ledger.durable()
            self._tracker.follow(messages, provider.conditions)

    def clear(self) -> None:
        """As at the start."""
        self.arrivals.clear()
        for provider in self.providers.values():
            provider.reset()

    async def _execute(
        self, provider: MessageProvider, ask: Ask, seen: Seen, fault: Fault, met: Met
    ) -> Answer:
        latency = self._settings().latency + fault.wait_before
        if latency:
            await asyncio.sleep(latency)
        if not fault.executes:
            return fault.stored(Answer(500, b""), met)
        if fault.decline is not None:
            raise Refused(402, "Payment required")
        taken = provider.take(ask)
        await self.accept(provider, taken.messages, request_id=met.request_id, now=ask.now)
        seen.effects = len(taken.messages)
        return fault.stored(taken.answer, met)


def _numbered(message: Message, seq: int) -> Message:
    message.seq = seq
    return message


def _effect(message: Message, request_id: str, seq: int) -> Effect:
    told = message.metadata | _told_in(message.callback)
    return Effect(
        seq=seq,
        kind=f"{message.kind}.accepted",
        object=message.object,
        outcome=message.outcome,
        amount=None,
        key=message.key or told.get(KEY_KEY, ""),
        call=told.get(CALL_KEY, ""),
        account=message.account,
        request_id=request_id,
        by="request",
        at=message.at,
        provider=message.provider,
        recipient=message.recipient,
    )


def _told_in(callback: str) -> dict[str, str]:
    """Twilio has no room for a call's id but in the callback's address."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(callback).query).items()}
