"""A Stripe of which a test says what it answers."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pytest_django import Settings

from outbound import engine, services
from outbound.services import OutboundCall
from payments.models import Payment
from payments.services import create_payment
from tests.outbound import wire
from tests.outbound.wire import Peer
from tests.payments import samples


@dataclass
class ScriptedStripe:
    """Answers each request with the next script, on real sockets."""

    peer: Peer | None = None
    scripts: deque[bytes] = field(default_factory=deque)

    def says(self, document: Any, *, status: int = 200, headers: str = "") -> None:
        """The next answer."""
        line = f"{status} Scripted"
        self.scripts.append(wire.reply(json.dumps(document).encode(), status=line, headers=headers))

    def drops(self) -> None:
        """The next request is read, and the connection is reset."""
        self.scripts.append(b"")

    def behave(self, peer: Peer, connection: socket.socket) -> None:
        while True:
            peer.read_request(connection)
            answer = self.scripts.popleft()
            if not answer:
                return
            connection.sendall(answer)

    @property
    def forms(self) -> list[dict[str, str]]:
        """What was asked, oldest first."""
        assert self.peer is not None
        return [
            dict(parse_qsl(request.partition(b"\r\n\r\n")[2].decode(), keep_blank_values=True))
            for request in self.peer.requests
        ]


@pytest.fixture
def stripe(settings: Settings) -> Iterator[ScriptedStripe]:
    """The provider that the adapter calls. Without a script it hangs up."""
    scripted = ScriptedStripe()
    with wire.peer(scripted.behave) as peer:
        scripted.peer = peer
        entry = settings.OUTBOUND_ADAPTERS["stripe"]
        options = {**entry["OPTIONS"], "API_BASE": peer.url}
        settings.OUTBOUND_ADAPTERS = {"stripe": {**entry, "OPTIONS": options}}
        yield scripted


def deliver(call: OutboundCall | None) -> OutboundCall:
    """One attempt, as a worker makes it, and the call as it stands then."""
    assert call is not None
    engine.deliver(call.pk)
    found = services.find_call(call.pk)
    assert found is not None
    assert found.hook_error == ""
    return found


def paid(stripe: ScriptedStripe, *, amount: int = 2000, **options: Any) -> Payment:
    """A payment that the payer has paid."""
    payment = create_payment(amount=amount, currency="usd", **options)
    intent = f"pi_{Payment.objects.count()}"
    stripe.says(
        samples.intent(id=intent, status="succeeded", amount=amount, amount_received=amount)
    )
    deliver(payment.call)
    payment.refresh_from_db()
    return payment
