"""One request on its way through an operation: who asks, what is there, what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.ids import new_id
from sandbox.ledger import Ledger
from sandbox.records import Effect
from sandbox.stripe.cards import Decline, Declines
from sandbox.stripe.errors import Json
from sandbox.stripe.events import Event, make_event
from sandbox.stripe.keys import Scope
from sandbox.stripe.store import Store

CALL_KEY = "holdfast_call"


@dataclass(slots=True)
class Call:
    """What an operation works with. `now` is in Unix seconds."""

    store: Store
    declines: Declines
    ledger: Ledger
    scope: Scope
    now: float
    request_id: str
    key: str = ""
    by: str = "request"
    decline: Decline | None = None  # a fault: the next payment is declined like this
    search_lag: float = 0.0  # seconds until search finds what was made
    webhooks: int = 0  # how many URLs will hear of an event
    events: list[Event] = field(default_factory=list)
    effects: int = 0

    @property
    def second(self) -> int:
        """The time as Stripe writes it."""
        return int(self.now)

    def record(
        self,
        kind: str,
        id: str,  # noqa: A002  # Stripe's name
        *,
        amount: int | None = None,
        outcome: str = "done",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write an effect into the ledger."""
        self.effects += 1
        self.ledger.record(
            lambda seq: Effect(
                seq=seq,
                kind=kind,
                object=id,
                outcome=outcome,
                amount=amount,
                key=self.key,
                call=(metadata or {}).get(CALL_KEY, ""),
                account=self.scope.account,
                request_id=self.request_id,
                by=self.by,
                at=self.now,
            )
        )

    def emit(
        self,
        type: str,  # noqa: A002  # Stripe's name
        document: Json,
        previous: Json | None = None,
    ) -> None:
        """Say what has just happened to an object."""
        event = make_event(
            id=new_id("evt"),
            scope=self.scope,
            type=type,
            created=self.second,
            object=document,
            previous=previous,
            request_id=self.request_id or None,
            key=self.key or None,
            webhooks=self.webhooks,
        )
        self.events.append(self.store.events.add(event))
