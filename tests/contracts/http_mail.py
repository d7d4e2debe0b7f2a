"""The rules for adapters and those for email, for providers that speak HTTP."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import BulkEmail, Email
from outbound.adapters import Reply
from outbound.client import CallContext, HttpClient
from outbound.errors import DeliveryError
from tests.contracts.adapter import PATIENT, AdapterContract
from tests.contracts.mail import MailContract
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered
from tests.outbound import wire


@dataclass(frozen=True)
class Sent:
    """A request as a provider sees it."""

    path: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def read(cls, raw: bytes) -> Sent:
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        return cls(line.split(" ")[1], headers, body)

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class HttpMailContract(MailContract, AdapterContract):
    """A subclass plays its provider: `answer` a request, and `read` what it would deliver."""

    adapter_class: ClassVar[type[MessageAdapter]]
    transport_of = "send_email"

    @abstractmethod
    def answer(self, sent: Sent, refused: tuple[str, ...]) -> bytes:
        """The provider's whole response, when it does not take these addresses."""

    @abstractmethod
    def read(self, sent: Sent) -> list[Delivered]:
        """The messages that come of a request, if all is taken."""

    def taken(self, sent: Sent, refused: tuple[str, ...]) -> list[str]:
        """The addresses that a request reaches."""
        if not self.answer(sent, refused).startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")):
            return []
        people = [pair for got in self.read(sent) for pair in (*got.to, *got.cc, *got.bcc)]
        return [address for _, address in people if address not in refused]

    def mail_adapter(self, url: str = "http://127.0.0.1:9") -> MessageAdapter:
        return self.adapter_class(
            name="acme", options=self.options(url), http=HttpClient(provider="acme")
        )

    def play(
        self, payload: Email | BulkEmail, refused: tuple[str, ...] = ()
    ) -> tuple[Reply | DeliveryError, list[Sent]]:
        """Send to ourselves in the provider's part."""

        def behave(peer: wire.Peer, connection: Any) -> None:
            while True:
                sent = Sent.read(peer.read_request(connection))
                connection.sendall(self.answer(sent, refused))

        operation = "send_email" if isinstance(payload, Email) else "send_bulk_email"
        with wire.peer(behave) as peer:
            try:
                found: Reply | DeliveryError = self.mail_adapter(peer.url).perform(
                    operation, payload, letters.context(PATIENT)
                )
            except DeliveryError as error:
                found = error
        return found, [Sent.read(raw) for raw in peer.requests]

    def deliver(self, payload: Email | BulkEmail) -> tuple[Reply, list[Delivered]]:
        found, requests = self.play(payload)
        if isinstance(found, DeliveryError):
            raise found
        return found, [message for sent in requests for message in self.read(sent)]

    def deliver_refusing(
        self, payload: Email | BulkEmail, *refused: str
    ) -> tuple[Reply, list[str]]:
        found, requests = self.play(payload, refused)
        if isinstance(found, DeliveryError):
            raise found
        return found, [address for sent in requests for address in self.taken(sent, refused)]

    def context(self, timeouts: Any = PATIENT) -> CallContext:
        return letters.context(timeouts)

    def refused_with(self, status: str, body: Any, headers: str = "") -> DeliveryError:
        """What a message ends in that is answered so."""
        operation = "send_email"
        document = json.dumps(body).encode()
        error: DeliveryError = self.answered(operation, status, headers=headers, body=document)
        return error
