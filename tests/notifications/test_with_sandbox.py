"""Messages against the sandbox: engine, adapters, rows, webhooks, and providers that keep books.

Whatever happens on the way, each recipient gets the message once, and what
nobody can know is not guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings
from requests.structures import CaseInsensitiveDict

from notifications import webhook_handlers
from notifications.models import Message, Suppression
from notifications.services import send_bulk_email, send_email, send_sms
from notifications.states import MessageStatus, RecipientStatus
from notifications.sweep import sweep
from outbound import clock, engine
from outbound.models import OutboundCall
from outbound.states import CallStatus
from outbound.sweep import look_up
from outbound.sweep import sweep as sweep_calls
from sandbox.control import Sandbox
from tests.notifications.adapters.test_against_sandbox import OPTIONS
from tests.notifications.conftest import calls_of, statuses
from tests.sandbox.receiver import Receiver
from webhooks import engine as events
from webhooks import handlers
from webhooks.services import receive

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

TOKEN = "0123456789abcdef0123456789abcdef"
TWILIO = {
    "ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
    "AUTH_TOKEN": TOKEN,
    "FROM": "+15005550006",
}
SOURCES = {
    "sendgrid": "sendgrid.SendGridSource",
    "mailgun": "mailgun.MailgunSource",
    "postmark": "postmark.PostmarkSource",
    "resend": "resend.ResendSource",
    "twilio": "twilio.TwilioSource",
}
KEYLESS = ("sendgrid", "mailgun", "postmark")
TO = "ann@example.com"
NUMBER = "+15005551234"
POLICY = {"connect_timeout": 0.5, "read_timeout": 1.0, "total_timeout": 1.5, "schedule": [0, 0]}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1, smtp_port=0) as sandbox:
        yield sandbox


@pytest.fixture
def receiver(running: Sandbox) -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def world(
    running: Sandbox, receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> World:
    running.reset()
    running.change_provider("ses", credentials=["AKIDEXAMPLE:sEcReT"])
    made = World(running, receiver)
    settings.OUTBOUND_ADAPTERS = made.adapters()
    settings.DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"
    settings.OUTBOUND_BREAKER = {"consecutive_failures": 2}
    settings.OUTBOUND_LIMITS = {"retry_floor": 1000}
    settings.WEBHOOK_SOURCES = made.sources()
    monkeypatch.setattr(handlers, "_handlers", defaultdict(list))
    webhook_handlers.register(settings.WEBHOOK_SOURCES)
    return made


class World:
    """The sandbox, and what our processes do."""

    def __init__(self, sandbox: Sandbox, receiver: Receiver) -> None:
        self.sandbox = sandbox
        self._receiver = receiver

    def adapters(self) -> dict[str, Any]:
        found = {}
        for path, options in OPTIONS.items():
            name = path.partition(".")[0]
            place: dict[str, Any] = {"API_BASE": f"{self.sandbox.url}/{name}"}
            if name == "smtp":
                place = {"HOST": "127.0.0.1", "PORT": self.sandbox.smtp_port}
            found[name] = _entry(path, {**options, **place})
        callback = f"{self._base}/webhooks/twilio"
        place = {"API_BASE": f"{self.sandbox.url}/twilio", "STATUS_CALLBACK": callback}
        found["twilio"] = _entry("twilio.TwilioAdapter", {**TWILIO, **place})
        return found

    def sources(self) -> dict[str, Any]:
        for name in SOURCES:
            self.sandbox.change_provider(name, story=[])
            self.sandbox.change_tracking(name, url=f"{self._base}/webhooks/{name}")
        told = self.sandbox.tracking()
        return {
            name: {
                "SOURCE": f"webhooks.providers.{path}",
                "OPTIONS": {"SECRETS": [TOKEN] if name == "twilio" else told[name]["proofs"]},
            }
            for name, path in SOURCES.items()
        }

    @property
    def _base(self) -> str:
        return self._receiver.url.removesuffix("/webhooks/stripe")

    def work(self) -> None:
        """Attempt every call that is due until none is left, as workers do."""
        while due := list(OutboundCall.objects.ready(clock.now()).order_by("created_at", "pk")):
            for call in due:
                engine.deliver(call.pk)

    def hear(self) -> None:
        """Take in every webhook that has come, and handle it."""
        self.sandbox.wait_for_deliveries()
        waiting, self._receiver.received[:] = list(self._receiver.received), []
        for each in waiting:
            received = receive(
                source=each.path.partition("?")[0].rpartition("/")[2],
                body=each.body,
                headers=CaseInsensitiveDict(each.headers),
                now=datetime.now(UTC),
                url=self._base + each.path,
            )
            for event in received.events:
                events.process(str(event))

    def effects(self, message: Message) -> list[tuple[str, str]]:
        """What really happened at providers for a message: provider and recipient."""
        calls = message.dispatches.values_list("call_id", flat=True)
        found = [e for call in calls for e in self.sandbox.ledger(call=str(call))]
        return [(effect.provider, effect.recipient) for effect in found]


def _entry(path: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "ADAPTER": f"notifications.adapters.{path}",
        "QUEUE": "notifications-v1",
        "OPTIONS": options,
        "POLICY": POLICY,
    }


def email(*route: str, to: str = TO) -> Message:
    return send_email(to=to, subject="Receipt", text="Thank you.", route=route)


def reread(message: Message) -> Message:
    return Message.objects.get(pk=message.pk)


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun", "postmark", "resend"])
def test_delivered(world: World, provider: str) -> None:
    """From the service to the word that it has arrived."""
    message = email(provider, "smtp")
    world.work()
    assert statuses(message) == {TO: RecipientStatus.QUEUED}
    world.sandbox.track("delivered", to=TO)
    world.hear()
    assert statuses(message) == {TO: RecipientStatus.DELIVERED}
    assert world.effects(message) == [(provider, TO)]


@pytest.mark.parametrize("provider", KEYLESS)
def test_the_answer_is_lost_after_acceptance(world: World, provider: str) -> None:
    """Unknown, and nobody sends it again: not the engine, not another provider, not a sweep. The
    provider's own event settles it. One message in all."""
    world.sandbox.add_fault("drop_after_effect", path=f"/{provider}/", times=1)
    message = email(provider, "smtp")
    world.work()
    assert calls_of(message) == [(provider, "send_email", "unknown")]
    sweep()
    sweep_calls()
    world.work()
    assert reread(message).status == MessageStatus.UNKNOWN
    assert world.effects(message) == [(provider, TO)]
    world.sandbox.track("delivered", to=TO)
    world.hear()
    assert OutboundCall.objects.get().status == CallStatus.SUCCEEDED
    assert statuses(message) == {TO: RecipientStatus.DELIVERED}
    assert reread(message).status == MessageStatus.SENT
    assert world.effects(message) == [(provider, TO)]


@pytest.mark.parametrize("provider,path", [("ses", "/ses/"), ("smtp", "/smtp/data")])
def test_lost_where_no_event_tells(world: World, provider: str, path: str) -> None:
    """It waits for a person, and there is one message."""
    world.sandbox.add_fault("drop_after_effect", path=path, times=1)
    message = email(provider, "sendgrid")
    world.work()
    sweep()
    assert reread(message).status == MessageStatus.UNKNOWN
    assert world.effects(message) == [(provider, TO)]


def test_lost_where_the_provider_has_keys(world: World) -> None:
    """Asked again with the same key: one message."""
    world.sandbox.add_fault("drop_after_effect", path="/resend/", times=1)
    message = email("resend", "smtp")
    world.work()
    assert statuses(message) == {TO: RecipientStatus.QUEUED}
    assert OutboundCall.objects.get().attempts == 2
    assert world.effects(message) == [("resend", TO)]


def test_lost_where_the_provider_can_be_asked(world: World) -> None:
    """Twilio's list shows the text message: it was sent."""
    world.sandbox.add_fault("drop_after_effect", path="/twilio/", times=1)
    message = send_sms(to=NUMBER, body="Your code is 7.", route=["twilio"])
    world.work()
    call = OutboundCall.objects.get()
    assert call.status == CallStatus.UNKNOWN
    assert look_up(str(call.pk))
    assert statuses(message) == {NUMBER: RecipientStatus.QUEUED}
    assert world.effects(message) == [("twilio", NUMBER)]


@pytest.mark.parametrize("fault", ["drop_before_effect", "status"])
def test_no_failover_after_a_doubt(world: World, fault: str) -> None:
    """Nothing happened at the provider, but nobody here can know."""
    world.sandbox.add_fault(fault, path="/sendgrid/", times=5)
    message = email("sendgrid", "postmark")
    world.work()
    sweep()
    world.work()
    assert reread(message).status == MessageStatus.UNKNOWN
    assert world.effects(message) == []


def test_failover_when_it_refuses(world: World) -> None:
    """Wrong credentials: nothing was accepted, so the next one is asked."""
    world.sandbox.change_provider("sendgrid", credentials=["SG.another.key"])
    message = email("sendgrid", "mailgun")
    world.work()
    assert [row[:1] + row[2:] for row in calls_of(message)] == [
        ("sendgrid", "failed"),
        ("mailgun", "succeeded"),
    ]
    assert world.effects(message) == [("mailgun", TO)]


def test_failover_when_it_is_out_of_quota(world: World) -> None:
    """Each provider in its own words for that."""
    for provider in ("sendgrid", "mailgun", "ses", "postmark", "resend"):
        world.sandbox.change_provider(provider, out_of_quota=True)
        message = email(provider, "smtp", to=f"{provider}@example.com")
        world.work()
        assert world.effects(message) == [("smtp", f"{provider}@example.com")], provider
        assert f"{provider} is out of quota" in message.dispatches.get(provider="smtp").why


def test_failover_when_nobody_listens(world: World, settings: Settings) -> None:
    """Refused connections open the circuit; what waits for it goes elsewhere."""
    down = dict(settings.OUTBOUND_ADAPTERS["sendgrid"]["OPTIONS"], API_BASE="http://127.0.0.1:9")
    settings.OUTBOUND_ADAPTERS = {
        **settings.OUTBOUND_ADAPTERS,
        "sendgrid": _entry("sendgrid.SendGridAdapter", down),
    }
    messages = [email("sendgrid", "postmark", to=f"p{n}@example.com") for n in range(4)]
    world.work()
    sweep()
    world.work()
    for n, message in enumerate(messages):
        assert world.effects(message) == [("postmark", f"p{n}@example.com")]


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun", "ses", "postmark", "resend"])
def test_one_bad_address_among_many(world: World, provider: str) -> None:
    """Everybody else has it once, whatever the provider does with a batch that has one."""
    addresses = [f"p{n}@example.com" for n in range(6)]
    addresses[3] = "bad+p3@example.com"
    bulk = send_bulk_email(
        recipients=[{"address": each, "variables": {"n": "1"}} for each in addresses],
        subject="Hi {{n}}",
        text="Hi {{n}}",
        route=[provider, "smtp"],
    )
    world.work()
    expected = dict.fromkeys(addresses, RecipientStatus.QUEUED)
    expected[addresses[3]] = RecipientStatus.REFUSED
    assert statuses(bulk.message) == expected
    others = [(provider, each) for each in addresses if each != addresses[3]]
    assert sorted(world.effects(bulk.message)) == sorted(others)


@pytest.mark.parametrize(
    "step,status,reason",
    [
        ("bounced", RecipientStatus.BOUNCED, "hard_bounce"),
        ("complained", RecipientStatus.COMPLAINED, "complaint"),
        ("soft_bounced", RecipientStatus.SOFT_BOUNCED, None),
    ],
)
@pytest.mark.parametrize("provider", KEYLESS)
def test_what_suppresses(
    world: World, provider: str, step: str, status: RecipientStatus, reason: str | None
) -> None:
    """Learned by an event, kept for the next message."""
    message = email(provider)
    world.work()
    world.sandbox.track(step, to=TO)
    world.hear()
    assert statuses(message) == {TO: status}
    assert list(Suppression.objects.values_list("reason", flat=True)) == (
        [reason] if reason else []
    )
    again = email(provider)
    assert statuses(again) == {TO: "suppressed" if reason else "requested"}


def test_events_twice_and_in_any_order(world: World) -> None:
    """Delivered stays delivered, and each word is on the timeline once."""
    world.sandbox.change_tracking("sendgrid", policy={"duplicates": 1})
    message = email("sendgrid")
    world.work()
    for step in ("opened", "delivered", "deferred", "processed"):
        world.sandbox.track(step, to=TO)
    world.hear()
    assert statuses(message) == {TO: RecipientStatus.OPENED}
    assert message.recipients.get().events.count() == 4
