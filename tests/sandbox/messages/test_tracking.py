"""What the providers tell afterwards: our sources accept it, and our readers understand it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import pytest
import twilio.request_validator
from requests.structures import CaseInsensitiveDict

from notifications.states import RecipientStatus as Status
from notifications.tracking import Track
from outbound.ids import uuid7
from sandbox.control import Sandbox
from sandbox.messages.tracking.ses import TOPIC
from tests.house.polling import wait_until
from tests.notifications.tracking.events import READERS
from tests.sandbox.api import Api
from tests.sandbox.messages.requests import CALL, EMAIL, KEY, RECIPIENTS, SENDERS, TOKEN
from tests.sandbox.receiver import Received, Receiver
from webhooks.certificates import Certificates
from webhooks.errors import DeliveryRefused
from webhooks.handlers import Event
from webhooks.providers.mailgun import MailgunSource
from webhooks.providers.postmark import PostmarkSource
from webhooks.providers.resend import ResendSource
from webhooks.providers.sendgrid import SendGridSource
from webhooks.providers.sns import SnsSource
from webhooks.providers.twilio import TwilioSource
from webhooks.sources import Source

pytestmark = pytest.mark.faults

TELLING = (*EMAIL, "twilio")
SOURCES: dict[str, type[Source]] = {
    "sendgrid": SendGridSource,
    "mailgun": MailgunSource,
    "postmark": PostmarkSource,
    "resend": ResendSource,
    "twilio": TwilioSource,
}
# What each step comes to for us; only what a provider has a word for is here.
STEPS: dict[str, dict[str, Status]] = {
    "delivered": dict.fromkeys(TELLING, Status.DELIVERED),
    "deferred": dict.fromkeys(EMAIL, Status.DEFERRED),
    "bounced": dict.fromkeys(TELLING, Status.BOUNCED),
    "soft_bounced": dict.fromkeys(TELLING, Status.SOFT_BOUNCED),
    "complained": dict.fromkeys(EMAIL, Status.COMPLAINED),
    "opened": dict.fromkeys(EMAIL, Status.OPENED),
    "clicked": dict.fromkeys(EMAIL, Status.CLICKED),
    "unsubscribed": dict.fromkeys(("sendgrid", "mailgun", "ses", "postmark"), Status.UNSUBSCRIBED),
    "failed": {"ses": Status.FAILED, "resend": Status.FAILED, "twilio": Status.FAILED},
    "sent": {"ses": Status.QUEUED, "resend": Status.QUEUED, "twilio": Status.SENT},
    "processed": {"sendgrid": Status.QUEUED, "mailgun": Status.QUEUED, "twilio": Status.QUEUED},
}


class Ear:
    """Hears what one provider tells, as our web process would."""

    def __init__(self, sandbox: Sandbox, receiver: Receiver, provider: str) -> None:
        self._receiver = receiver
        self._sandbox = sandbox
        self._provider = provider
        sandbox.change_provider(provider, story=[])
        sandbox.change_tracking(provider, url=receiver.url, retry_seconds=[])
        proof = TOKEN if provider == "twilio" else sandbox.tracking()[provider]["proofs"][0]
        self.source = source(provider, proof)

    def hear(self) -> list[Track]:
        """All that has come since the last time, verified."""
        self._sandbox.wait_for_deliveries()
        received = list(self._receiver.received)
        self._receiver.received.clear()
        return [track for each in received for track in self.read(each)]

    def read(self, received: Received) -> list[Track]:
        """What one delivery says. Raises DeliveryRefused."""
        headers = CaseInsensitiveDict(received.headers)
        now = datetime.now(UTC)
        url = self._receiver.url.replace("/webhooks/stripe", received.path)
        self.source.verify(received.body, headers, now=now, url=url)
        return [
            track
            for envelope in self.source.parse(received.body, headers)
            for track in READERS[self._provider].read(
                Event(id=uuid7(), source=self._provider, received_at=now, envelope=envelope)
            )
        ]


@cache
def certificates(pem: str) -> Certificates:
    return Certificates(lambda _url: pem.encode())


def source(provider: str, proof: str) -> Source:
    if provider != "ses":
        return SOURCES[provider](name=provider, options={"SECRETS": [proof]})
    made = SnsSource(name="sns", options={"TOPIC_ARNS": [TOPIC]})
    made.certificates = certificates(proof)  # type: ignore[misc]  # in place of the fetching ones
    return made


@pytest.fixture
def hearing(sandbox: Sandbox, receiver: Receiver) -> Callable[[str], Ear]:
    return lambda provider: Ear(sandbox, receiver, provider)


@pytest.mark.parametrize("provider", TELLING)
def test_every_step(
    api: Api, sandbox: Sandbox, hearing: Callable[[str], Ear], provider: str
) -> None:
    """What we understand is what happened, about whom, to which message and call."""
    ear, to = hearing(provider), RECIPIENTS[provider]
    SENDERS[provider](api, [to])
    (message,) = sandbox.messages()
    for step, meanings in STEPS.items():
        sandbox.track(step, to=to)
        found = ear.hear()
        if provider not in meanings:
            assert found == [], step
            continue
        (track,) = found
        assert (track.status, track.address) == (meanings[provider], to), step
        assert track.message_id.strip("<>") == message.object
        if provider in EMAIL:
            assert (track.call_id, track.key) == (CALL, KEY)


@pytest.mark.parametrize("provider", TELLING)
@pytest.mark.parametrize("policy", ["wrong", "missing", "malformed"])
def test_bad_signatures(
    api: Api,
    sandbox: Sandbox,
    receiver: Receiver,
    hearing: Callable[[str], Ear],
    provider: str,
    policy: str,
) -> None:
    """Told to sign badly, each of them does, and our source refuses it."""
    ear, to = hearing(provider), RECIPIENTS[provider]
    sandbox.change_tracking(provider, policy={"signature": policy})
    SENDERS[provider](api, [to])
    sandbox.track("delivered", to=to)
    wait_until(lambda: len(receiver.received) == 1)
    with pytest.raises(DeliveryRefused):
        ear.read(receiver.received[0])


@pytest.mark.parametrize("provider", TELLING)
def test_an_old_delivery(
    api: Api, sandbox: Sandbox, receiver: Receiver, hearing: Callable[[str], Ear], provider: str
) -> None:
    """Who signs a time signs the one it is told to; a repetition is the same event."""
    ear, to = hearing(provider), RECIPIENTS[provider]
    sandbox.change_tracking(provider, policy={"duplicates": 1, "age": 7200})
    SENDERS[provider](api, [to])
    sandbox.track("delivered", to=to)
    wait_until(lambda: len(receiver.received) == 2)
    if provider in ("sendgrid", "ses", "resend"):
        with pytest.raises(DeliveryRefused):
            ear.read(receiver.received[0])
    ids = {
        envelope.event_id
        for each in receiver.received
        for envelope in ear.source.parse(each.body, CaseInsensitiveDict(each.headers))
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    "tag, step",
    [
        ("", "delivered"),
        ("bounce+", "bounced"),
        ("click+", "clicked"),
        ("complain+", "complained"),
        ("gone+", "dropped"),
    ],
)
def test_stories(api: Api, sandbox: Sandbox, tag: str, step: str) -> None:
    """The tag of an address chooses what becomes of its message."""
    sandbox.change_provider("mailgun", step_seconds=0.01)
    SENDERS["mailgun"](api, [f"{tag}ada@example.com"])
    sandbox.wait_for_deliveries()
    (message,) = sandbox.messages()
    assert message.status == step


def test_stories_by_pattern(api: Api, sandbox: Sandbox) -> None:
    """Numbers have no tags: patterns choose."""
    sandbox.change_provider(
        "twilio", step_seconds=0.01, stories={"+1500*": ["sent", "soft_bounced"]}
    )
    SENDERS["twilio"](api, ["+15005551234"])
    sandbox.wait_for_deliveries()
    assert sandbox.messages()[0].status == "soft_bounced"


def test_svix_own_package(api: Api, sandbox: Sandbox, receiver: Receiver) -> None:
    """The package of who invented the signature accepts Resend's."""
    from svix.webhooks import Webhook  # takes longer to load than all else here

    sandbox.change_tracking("resend", url=receiver.url)
    SENDERS["resend"](api, ["ada@example.com"])
    sandbox.track("delivered", provider="resend")
    wait_until(lambda: bool(receiver.received))
    received = receiver.received[0]
    secret = sandbox.tracking()["resend"]["proofs"][0]
    Webhook(secret).verify(received.body, received.headers)  # or it raises


def test_twilios_own_package(api: Api, sandbox: Sandbox, receiver: Receiver) -> None:
    """To the message's own address, signed with the token that sent it, and no other."""
    callback = f"{receiver.url}?holdfast_call={CALL}"
    SENDERS["twilio"](api, ["+15005551234"], StatusCallback=callback)
    sandbox.wait_for_deliveries()
    received = receiver.received[-1]
    form = dict(parse_qsl(received.body.decode()))
    validator: Any = twilio.request_validator.RequestValidator(TOKEN)
    assert validator.validate(callback, form, received.headers["x-twilio-signature"])
    assert form["MessageStatus"] == "delivered"
    assert sandbox.ledger()[0].call == CALL


def test_held_and_shuffled(api: Api, sandbox: Sandbox, receiver: Receiver) -> None:
    """The courier's ways with Stripe's events are its ways with these."""
    sandbox.change_tracking("postmark", url=receiver.url, policy={"hold": True})
    sandbox.change_provider("postmark", step_seconds=0.01)
    SENDERS["postmark"](api, [f"{n}@example.com" for n in range(5)])
    wait_until(lambda: sandbox.summary()["deliveries_held"] == 5)
    assert receiver.received == []
    assert sandbox.release_tracking("postmark", shuffle=True) == 5
    sandbox.wait_for_deliveries()
    told = {json.loads(each.body)["Recipient"] for each in receiver.received}
    assert len(told) == 5
    assert {delivery.provider for delivery in sandbox.deliveries()} == {"postmark"}


def test_nobody_to_tell(api: Api, sandbox: Sandbox) -> None:
    """Said by hand about nobody, by who tells nothing, or signed with what is no secret: 400."""
    from sandbox.process import SandboxError

    SENDERS["fcm"](api, ["device:1"])
    for which in ({"to": "nobody@example.com"}, {"provider": "fcm"}):
        with pytest.raises(SandboxError):
            sandbox.track("delivered", **which)
    for provider in ("sendgrid", "ses", "resend", "postmark"):
        with pytest.raises(SandboxError, match="no secret"):
            sandbox.change_tracking(provider, secrets=["nonsense"])
