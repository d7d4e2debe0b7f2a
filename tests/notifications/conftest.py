"""Two providers that do as they are told: `first` and `second`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from django.conf import LazySettings
from pybreaker import CircuitBreakerError

from notifications.models import Message, Recipient
from outbound import clock, engine, registry
from outbound.models import OutboundCall
from outbound.services import operate_circuit
from outbound.states import CircuitMode
from tests.notifications.scripted import entry
from tests.outbound.conftest import VirtualTime
from tests.outbound.scripted import Script


@dataclass
class Providers:
    """The scripts of both, and what a worker and an operator do."""

    first: Script = field(default_factory=Script)
    second: Script = field(default_factory=Script)

    def work(self) -> None:
        """Attempt every call that is due, in order, until none is left."""
        while True:
            due = list(OutboundCall.objects.ready(clock.now()).order_by("created_at", "pk"))
            if not due:
                return
            for call in due:
                engine.deliver(call.pk)

    def force(self, provider: str, mode: CircuitMode) -> None:
        """Open or close a circuit by hand."""
        with suppress(CircuitBreakerError):
            registry.breaker_for(provider, provider).admit()  # now it is known
        operate_circuit(name=provider, mode=mode, reason="a test")


@pytest.fixture
def providers(settings: LazySettings) -> Providers:
    made = Providers()
    settings.OUTBOUND_ADAPTERS = {"first": entry(made.first), "second": entry(made.second)}
    settings.EMAIL_ROUTE = settings.SMS_ROUTE = settings.PUSH_ROUTE = ["first", "second"]
    settings.DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"
    settings.OUTBOUND_POLICY = settings.OUTBOUND_BREAKER = settings.OUTBOUND_LIMITS = {}
    return made


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    """The one clock, in the test's hands."""
    virtual = VirtualTime()
    with clock.use(virtual):
        yield virtual


def calls_of(message: Message) -> list[tuple[str, str, str]]:
    """Provider, operation and status of the calls that carry a message, in order."""
    rows = message.dispatches.select_related("call").order_by("created_at", "pk")
    return [(row.provider, row.call.operation, row.call.status) for row in rows if row.call]


def statuses(message: Message) -> dict[str, str]:
    """Each recipient's status by address."""
    found = Recipient.objects.filter(message=message)
    return dict(found.order_by("place").values_list("address", "status"))
