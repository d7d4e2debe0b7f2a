"""The objects that exist at the provider, each kind on its shelf."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from sandbox.limits import KEPT_EVENTS, KEPT_OBJECTS
from sandbox.stripe.charges import Charge
from sandbox.stripe.customers import Customer
from sandbox.stripe.errors import missing
from sandbox.stripe.events import Event
from sandbox.stripe.intents import PaymentIntent
from sandbox.stripe.keys import Scope
from sandbox.stripe.refunds import Refund


class Kept(Protocol):
    """What all objects have."""

    @property
    def id(self) -> str: ...
    @property
    def scope(self) -> Scope: ...


T = TypeVar("T", bound=Kept)


class Shelf(Generic[T]):
    """Objects of one kind, in the order of their creation."""

    def __init__(self, kind: str, *, kept: int = KEPT_OBJECTS) -> None:
        self.kind = kind
        self._objects: dict[str, T] = {}
        self._kept = kept

    def add(self, made: T) -> T:
        """Keep an object, and forget the oldest when there are too many."""
        self._objects[made.id] = made
        if len(self._objects) > self._kept:
            del self._objects[next(iter(self._objects))]
        return made

    def get(self, id: str | None, *, scope: Scope) -> T | None:  # noqa: A002  # Stripe's name
        """The object, if this account has it."""
        found = self._objects.get(id) if id else None
        return found if found is not None and found.scope == scope else None

    def find(self, id: str, *, scope: Scope, param: str, status: int = 404) -> T:  # noqa: A002
        """The object. Raises Refusal."""
        found = self.get(id, scope=scope)
        if found is None:
            raise missing(self.kind, id, param=param, status=status)
        return found

    def newest(self, *, scope: Scope) -> Iterator[T]:
        """What the account has, newest first."""
        return (made for made in reversed(self._objects.values()) if made.scope == scope)

    def any(self, id: str) -> T | None:  # noqa: A002
        """The object, whoever has it."""
        return self._objects.get(id)

    def clear(self) -> None:
        """Forget all."""
        self._objects.clear()


class Store:
    """All shelves."""

    def __init__(self) -> None:
        self.intents: Shelf[PaymentIntent] = Shelf("payment_intent")
        self.charges: Shelf[Charge] = Shelf("charge")
        self.customers: Shelf[Customer] = Shelf("customer")
        self.refunds: Shelf[Refund] = Shelf("refund")
        self.events: Shelf[Event] = Shelf("event", kept=KEPT_EVENTS)

    def clear(self) -> None:
        """Forget all."""
        for shelf in (self.intents, self.charges, self.customers, self.refunds, self.events):
            shelf.clear()
