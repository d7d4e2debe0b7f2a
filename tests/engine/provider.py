"""A provider in memory, with a script and a ledger, and the adapter that calls it.

Under a key it behaves as Stripe v1 does: the first result is stored, failures included, and
replayed until the key is forgotten after a day. https://docs.stripe.com/api/idempotent_requests
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from outbound.adapters import Adapter, CallContext, Payload, Reply, operation
from outbound.client import Response, classify
from outbound.errors import (
    DidNotHappen,
    OutcomeUnknown,
    PermanentError,
    StoredFailure,
    TransientError,
)

FORGETS_AFTER = timedelta(hours=24)
KEY_LIFETIME = timedelta(hours=20)


class Script(Enum):
    """What becomes of one request."""

    ACCEPTED = "accepted"
    DECLINED = "402, stored under the key"
    UNAUTHORISED = "401, looked at nothing and stored nothing"
    RATE_LIMITED = "429 with Retry-After, stored nothing"
    BROKEN = "500 without effect, stored under the key"
    BROKEN_AFTER_EFFECT = "500 with effect, stored under the key"
    UNAVAILABLE = "503 without effect, stored nothing"
    UNAVAILABLE_AFTER_EFFECT = "503 with effect, the success stored under the key"
    REFUSED = "no connection"
    LOST_BEFORE_EFFECT = "sent, never arrived"
    LOST_AFTER_EFFECT = "took effect, the answer was lost"
    LATE = "sent, given up, and arrives later"
    BUG = "the adapter falls over before it sends"
    BUG_AFTER_EFFECT = "the adapter falls over its reply"


class Lookup(Enum):
    """What a look-up meets."""

    TRUTH = "finds what is there"
    PROOF = "finds what is there, or proof that nothing happened"
    OVERTAKEN = "the same, but meanwhile the call is tried again"
    NOTHING = "does not find it yet"
    DOWN = "cannot be asked"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that left us."""

    operation: str
    n: int
    call_id: str
    key: str
    writes: bool
    honours_keys: bool
    at: datetime


@dataclass(slots=True)
class Provider:
    """The other side. `effects` is its ledger, `sent` all that left us, arrived or not."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    script: Script = Script.ACCEPTED
    lookup: Lookup = Lookup.TRUTH
    sent: list[Sent] = field(default_factory=list)
    effects: list[Sent] = field(default_factory=list)
    in_transit: list[Sent] = field(default_factory=list)
    meanwhile: Callable[[str], None] = lambda call_id: None
    _stored: dict[str, tuple[datetime, Response]] = field(default_factory=dict)

    def request(self, sent: Sent, *, ends: float | None) -> Response:
        """One request, as the script says. Raises what the client would raise, which sends
        nothing when the attempt's time (`ends`, monotonic) is up before it began."""
        script = self.script
        if ends is not None and self.monotonic() >= ends:
            raise TransientError("no time left to send; nothing was sent")
        if script is Script.BUG:
            raise KeyError("an adapter's bug, before it sent anything")
        if script is Script.REFUSED:
            raise TransientError("no connection; nothing was sent")
        self.sent.append(sent)
        if script is Script.LATE:
            self.in_transit.append(sent)
        if script in (Script.LATE, Script.LOST_BEFORE_EFFECT):
            raise OutcomeUnknown("silent; the outcome is unknown")
        response = self._answer(sent, script)
        if script is Script.BUG_AFTER_EFFECT:
            raise KeyError("an adapter's bug, when it read the reply")
        if script is Script.LOST_AFTER_EFFECT:
            raise OutcomeUnknown("the connection was lost; the outcome is unknown")
        return response

    def arrive(self, index: int) -> None:
        """A request that we had given up arrives, and takes effect if its key is new."""
        self._perform(self.in_transit.pop(index), Script.ACCEPTED)

    def find(self, *, call_id: str, key: str) -> Sent | None:
        """The effect of a call, as a search by its metadata finds it."""
        if self.lookup is Lookup.DOWN:
            raise TransientError("the search is away")
        if self.lookup is Lookup.NOTHING:
            return None
        found = next((e for e in self.effects if (e.call_id, e.key) == (call_id, key)), None)
        proven = not found and not any(sent.call_id == call_id for sent in self.in_transit)
        if self.lookup is Lookup.OVERTAKEN:
            self.meanwhile(call_id)
        if proven and self.lookup is not Lookup.TRUTH:
            raise DidNotHappen("the books show that it failed")
        return found

    def _answer(self, sent: Sent, script: Script) -> Response:
        if script is Script.RATE_LIMITED:
            return _response(429, "slow_down", **{"Retry-After": "17"})
        if script is Script.UNAUTHORISED:
            return _response(401, "unauthorised")
        if script is Script.UNAVAILABLE:
            return _response(503, "unavailable")
        performed = self._perform(sent, script)
        if script is Script.UNAVAILABLE_AFTER_EFFECT:
            return _response(503, "unavailable")
        return performed

    def _perform(self, sent: Sent, script: Script) -> Response:
        stored = self._stored.get(sent.key) if sent.honours_keys else None
        if stored is not None and self.now() - stored[0] < FORGETS_AFTER:
            return _replayed(stored[1])
        if script in (Script.DECLINED, Script.BROKEN):
            response = _response(402 if script is Script.DECLINED else 500, "no_effect")
        else:
            if sent.writes:
                self.effects.append(sent)
            response = _response(200, id=f"obj-{len(self.effects)}")
            if script is Script.BROKEN_AFTER_EFFECT:
                response = _response(500, "after_effect")
        if sent.honours_keys:
            self._stored[sent.key] = (self.now(), response)
        return response


def _response(status: int, code: str = "", *, id: str = "", **headers: str) -> Response:  # noqa: A002  # the field's name on the wire
    document = {"id": id} if id else {"error": {"code": code}}
    return Response(status, headers, json.dumps(document).encode())


def _replayed(stored: Response) -> Response:
    headers: Mapping[str, str] = {**stored.headers, "Idempotent-Replayed": "true"}
    return Response(stored.status, headers, stored.body)


class Amount(Payload):
    """Some number, so that two payloads can differ."""

    n: int = Field(ge=1)


class ScriptedAdapter(Adapter):
    """Three operations, one of each sort. The provider itself is handed in as an option."""

    required_options: ClassVar[Mapping[str, str]] = {"TOKEN": "SCRIPTED_TOKEN"}

    @operation(key_lifetime=KEY_LIFETIME, replays_failures=True)
    def charge(self, payload: Amount, context: CallContext) -> Reply:
        """A write with a key."""
        return self._send("charge", payload, context, keyed=True)

    @operation()
    def notify(self, payload: Amount, context: CallContext) -> Reply:
        """A write where the provider knows no keys."""
        return self._send("notify", payload, context)

    @operation(reads=True)
    def look(self, payload: Amount, context: CallContext) -> Reply:
        """A read."""
        return self._send("look", payload, context, reads=True)

    def resolve(self, name: str, payload: BaseModel, context: CallContext) -> Reply | None:
        """Look for the call's effect in the ledger."""
        found = self._provider.find(call_id=context.call_id, key=context.idempotency_key)
        return None if found is None else Reply({"found": True}, provider_reference="obj-found")

    @property
    def _provider(self) -> Provider:
        provider: Provider = self.options["PROVIDER"]
        return provider

    def _send(
        self,
        name: str,
        payload: Amount,
        context: CallContext,
        *,
        keyed: bool = False,
        reads: bool = False,
    ) -> Reply:
        provider = self._provider
        sent = Sent(
            operation=name,
            n=payload.n,
            call_id=context.call_id,
            key=context.idempotency_key,
            writes=not reads,
            honours_keys=keyed,
            at=provider.now(),
        )
        response = provider.request(sent, ends=context.ends)
        context.exchange.status = response.status
        context.exchange.reply = response.json()
        error = classify(response, keyed=keyed, reads=reads, message=f"status {response.status}")
        if error is None:
            return Reply(response.json(), response.json()["id"], response.status)
        if response.status == 401:
            raise PermanentError(error.message, conclusive=False, provider_status=401)
        if response.status >= 500 and response.headers.get("Idempotent-Replayed"):
            raise StoredFailure(error.message, provider_status=response.status)
        raise error


def scripted_settings(options: Mapping[str, object], **policy: Any) -> dict[str, Any]:
    """An OUTBOUND_ADAPTERS setting for this adapter. Its options: PROVIDER and TOKEN."""
    entry = {
        "ADAPTER": f"{__name__}.ScriptedAdapter",
        "QUEUE": "payments-v1",
        "OPTIONS": options,
        "POLICY": policy,
    }
    return {"scripted": entry}
