"""What becomes of messages by the events of their providers, in whatever order they come."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.test import Client
from twilio.request_validator import RequestValidator

from notifications.adapters.replies import Receipt, accepted_reply
from notifications.models import Message, Recipient, RecipientEvent, Suppression
from notifications.services import send_bulk_email, send_email, send_sms
from notifications.states import MessageStatus, RecipientStatus
from notifications.webhook_handlers import READERS, handler_for, register
from outbound import clock
from outbound.adapters import CallContext, Reply
from outbound.errors import OutcomeUnknown, PermanentError
from outbound.models import OutboundCall
from outbound.services import resolve_call, retry_call_as_new
from outbound.states import CallStatus
from tests.notifications.conftest import Providers, statuses
from tests.notifications.tracking.events import (
    mailgun_event,
    postmark_event,
    resend_event,
    sendgrid_event,
    ses_event,
    twilio_event,
)
from tests.outbound.conftest import VirtualTime
from tests.outbound.threads import at_once
from webhooks import engine, handlers
from webhooks.errors import NotOurs, NotYet
from webhooks.handlers import Event
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db]

TO = "jo@example.com"
PEOPLE = [{"address": f"p{n}@example.com"} for n in range(3)]
S = RecipientStatus
LOST = OutcomeUnknown("the answer is lost")
TAKE = {reader.provider: handler_for(reader) for reader in READERS.values()}


def unmarked(**members: Any) -> dict[str, Any]:
    return {"holdfast_call": None, "holdfast_key": None, **members}


def marked(call: OutboundCall, **members: Any) -> dict[str, Any]:
    return {
        "holdfast_call": str(call.pk),
        "holdfast_key": call.idempotency_key,
        "sg_message_id": "sg-1.filter1",
        **members,
    }


def mail(providers: Providers, **changes: Any) -> Message:
    asked: dict[str, Any] = {"to": TO, "subject": "Receipt", "text": "Thank you.", **changes}
    message = send_email(**asked)
    providers.work()
    return message


def bulk(providers: Providers) -> Message:
    message = send_bulk_email(recipients=PEOPLE, subject="News", text="News.").message
    providers.work()
    return message


def status_of(message: Message) -> str:
    return Message.objects.get(pk=message.pk).status


def say(word: str, message_id: str = "first-1-0", **members: Any) -> None:
    TAKE["sendgrid"](sendgrid_event(word, **unmarked(sg_message_id=message_id, **members)))


class TestRank:
    def test_the_way_of_a_message(self, providers: Providers) -> None:
        """Each word is on the timeline, and the last one on the recipient."""
        message = mail(providers)
        for word in ("processed", "deferred", "delivered", "open", "click"):
            say(word, response="450 4.2.1 try later" if word == "deferred" else "")
            if word == "deferred":
                row = message.recipients.get()
                assert (row.status, row.reason) == (S.DEFERRED, "450 4.2.1 try later")
        row = message.recipients.get()
        assert (row.status, row.reason) == (S.CLICKED, "")
        words = list(RecipientEvent.objects.values_list("status", "provider"))
        told = (S.QUEUED, S.DEFERRED, S.DELIVERED, S.OPENED, S.CLICKED)
        assert sorted(words) == sorted((word, "first") for word in told)
        assert not Suppression.objects.exists()

    def test_any_order(self, providers: Providers) -> None:
        """Events come in any order, and some twice: the end is the same."""
        for words in permutations(("processed", "delivered", "open")):
            message = mail(providers)
            [message_id] = message.recipients.values_list("provider_message_id", flat=True)
            for word in (*words, words[0]):
                say(word, message_id)
            assert statuses(message) == {TO: S.OPENED}

    def test_the_same_event_again(self, providers: Providers) -> None:
        """A replay adds nothing."""
        message = mail(providers)
        event = sendgrid_event("delivered", **unmarked(sg_message_id="first-1-0"))
        TAKE["sendgrid"](event)
        TAKE["sendgrid"](event)
        assert message.recipients.get().events.count() == 1

    def test_whose_it_is(self, providers: Providers) -> None:
        """Of several recipients of one message the event's address tells which, in any case."""
        message = mail(providers, cc=["al@example.com"])
        Recipient.objects.update(provider_message_id="one")  # as most providers do it
        say("delivered", "one.filter", email="AL@Example.com")
        assert statuses(message) == {TO: S.QUEUED, "al@example.com": S.DELIVERED}
        with pytest.raises(NotYet):
            say("delivered", "one", email="forwarded@example.com")

    def test_a_failure_after_all(self, providers: Providers) -> None:
        """The message fails when the last of its recipients does."""
        message = mail(providers, cc=["al@example.com"])
        Recipient.objects.update(provider_message_id="one")
        say("dropped", "one", email=TO, reason="Spam Content")
        assert status_of(message) == MessageStatus.SENT
        say("dropped", "one", email="al@example.com", reason="Spam Content")
        assert status_of(message) == MessageStatus.FAILED


class TestSuppressions:
    @pytest.mark.parametrize(
        "word,members,reason",
        [
            ("bounce", {"type": "bounce", "reason": f"550 {TO} unknown"}, "hard_bounce"),
            ("spamreport", {}, "complaint"),
            ("unsubscribe", {}, "unsubscribed"),
        ],
    )
    def test_nothing_more(
        self, providers: Providers, word: str, members: dict[str, Any], reason: str
    ) -> None:
        """Who is suppressed by an event gets no further message, which says why."""
        message = mail(providers)
        say(word, **members)
        row = Suppression.objects.get()
        assert (row.address, row.reason, row.provider) == (TO, reason, "sendgrid")
        assert row.recipient == message.recipients.get()
        assert TO not in row.note
        assert statuses(mail(providers)) == {TO: S.SUPPRESSED}
        assert len(providers.first.seen) == 1

    def test_soft_bounces_do_not_count(self, providers: Providers) -> None:
        message = mail(providers)
        say("bounce", type="blocked")
        assert statuses(message) == {TO: S.SOFT_BOUNCED}
        assert not Suppression.objects.exists()

    def test_a_number(self, providers: Providers) -> None:
        message = send_sms(to="+15005550006", body="Hi.")
        providers.work()
        TAKE["twilio"](twilio_event("failed", MessageSid="first-1-0", ErrorCode="21610", query={}))
        assert statuses(message) == {"+15005550006": S.REFUSED}
        assert list(Suppression.objects.values_list("channel", "reason")) == [("sms", "opted_out")]

    def test_without_a_message(self) -> None:
        """Who says STOP, or leaves by a page of the provider's, did so without a message."""
        TAKE["twilio"](twilio_event("received", From="+15005550006", OptOutType="STOP"))
        left = {"SuppressSending": True, "SuppressionReason": "ManualSuppression"}
        none = {"MessageID": "00000000-0000-0000-0000-000000000000", "Metadata": {}}
        TAKE["postmark"](postmark_event("SubscriptionChange", Origin="Recipient", **left, **none))
        assert set(Suppression.objects.values_list("channel", "address", "reason")) == {
            ("sms", "+15005550006", "opted_out"),
            ("email", TO, "unsubscribed"),
        }

    def test_a_message_that_is_not_ours(self, time: VirtualTime) -> None:
        """It may be ours in a moment; after a minute only the word about the address counts."""
        event = sendgrid_event("spamreport", **unmarked(sg_message_id="other"))
        object.__setattr__(event, "received_at", clock.now())
        with pytest.raises(NotYet):
            TAKE["sendgrid"](event)
        assert not Suppression.objects.exists()
        time.passes(seconds=60)
        TAKE["sendgrid"](event)
        assert Suppression.objects.get().reason == "complaint"


class TestSettling:
    def test_an_unknown_call(self, providers: Providers) -> None:
        """The event proves that the provider has it, so nobody has to ask any more."""
        providers.first.then(LOST)
        message = mail(providers)
        call = OutboundCall.objects.get()
        assert (call.status, status_of(message)) == (CallStatus.UNKNOWN, MessageStatus.UNKNOWN)
        TAKE["sendgrid"](sendgrid_event("deferred", **marked(call)))
        call.refresh_from_db()
        assert (call.status, call.provider_reference) == (CallStatus.SUCCEEDED, "sg-1")
        assert status_of(message) == MessageStatus.SENT
        assert statuses(message) == {TO: S.DEFERRED}
        say("delivered", "sg-1")  # from now on the message is known by its id
        assert statuses(message) == {TO: S.DELIVERED}
        assert len(providers.first.seen) == 1
        assert not providers.second.seen

    def test_all_who_see_each_other(self, providers: Providers) -> None:
        """A message to several is one: who has it at all, has it for all of them."""
        providers.first.then(LOST)
        message = mail(providers, cc=["al@example.com"])
        TAKE["sendgrid"](sendgrid_event("delivered", **marked(OutboundCall.objects.get())))
        assert statuses(message) == {TO: S.DELIVERED, "al@example.com": S.QUEUED}
        ids = Recipient.objects.values_list("provider_message_id", flat=True)
        assert list(ids) == ["sg-1", "sg-1"]

    def test_a_bulk_call(self, providers: Providers) -> None:
        """An event speaks for its own recipient: of the others nobody knows, until theirs come."""
        providers.first.then(LOST)
        message = bulk(providers)
        call = OutboundCall.objects.get()
        for n, status in enumerate(
            (MessageStatus.UNKNOWN, MessageStatus.UNKNOWN, MessageStatus.SENT)
        ):
            event = sendgrid_event(
                "delivered", **marked(call, email=f"p{n}@example.com", sg_message_id=f"m{n}")
            )
            TAKE["sendgrid"](event)
            call.refresh_from_db()
            assert call.status == CallStatus.SUCCEEDED
            told = [S.DELIVERED] * (n + 1) + [S.UNKNOWN] * (2 - n)
            assert list(statuses(message).values()) == told
            assert status_of(message) == status
        ids = message.recipients.values_list("provider_message_id", flat=True)
        assert list(ids) == ["m0", "m1", "m2"]

    def test_a_running_call(self, providers: Providers) -> None:
        """What is heard before the answer: for one message it is the answer; a batch waits for
        all of its receipts."""

        def early(context: CallContext) -> Reply:
            call = OutboundCall.objects.get(pk=context.call_id)
            address = Recipient.objects.filter(dispatch__call=call).earliest("place").address
            event = sendgrid_event("delivered", **marked(call, email=address))
            if call.operation == "send_email":
                TAKE["sendgrid"](event)
            else:
                with pytest.raises(NotYet):
                    TAKE["sendgrid"](event)
            return accepted_reply(
                [Receipt(f"p{n}@example.com", True, f"m{n}") for n in range(3)], message_id="m"
            )

        providers.first.then(early, early)
        assert statuses(mail(providers)) == {TO: S.DELIVERED}
        assert set(statuses(bulk(providers)).values()) == {S.QUEUED}

    def test_an_earlier_key(self, providers: Providers) -> None:
        """What an attempt did that was given up says nothing about the one in its place; that
        somebody wants nothing more counts in any case."""
        providers.first.then(LOST)
        message = mail(providers)
        call = OutboundCall.objects.get()
        resolve_call(call_id=call.pk, succeeded=False, reason="it is not there")
        retry_call_as_new(call_id=call.pk, reason="it is not there")
        before = statuses(message)
        with pytest.raises(NotOurs):
            TAKE["sendgrid"](sendgrid_event("delivered", **marked(call)))
        assert statuses(message) == before
        TAKE["sendgrid"](sendgrid_event("spamreport", **marked(call)))
        assert Suppression.objects.get().address == TO

    def test_what_was_thought_to_have_failed(self, providers: Providers) -> None:
        """A person was wrong: the event is right."""
        providers.first.then(LOST)
        message = mail(providers, route=["first"])
        call = OutboundCall.objects.get()
        resolve_call(call_id=call.pk, succeeded=False, reason="a guess")
        assert status_of(message) == MessageStatus.FAILED
        TAKE["sendgrid"](sendgrid_event("delivered", **marked(call)))
        assert (statuses(message), status_of(message)) == ({TO: S.DELIVERED}, MessageStatus.SENT)

    def test_refused_for_good(self, providers: Providers) -> None:
        """A call that failed with an answer is not settled by an event."""
        providers.first.then(PermanentError("no"))
        mail(providers, route=["first"])
        call = OutboundCall.objects.get()
        TAKE["sendgrid"](sendgrid_event("delivered", **marked(call)))
        call.refresh_from_db()
        assert call.status == CallStatus.FAILED


class TestStrangers:
    @pytest.mark.parametrize("call_id", ["0198c0de-0000-7000-8000-00000000ffff", "nonsense", ""])
    def test_marks_of_others(self, call_id: str) -> None:
        """Another installation may send through the same account: with marks it is clear at once
        that a message is none of ours, without them after a while."""
        event = sendgrid_event("delivered", holdfast_call=call_id)
        with pytest.raises(NotYet) as caught:
            TAKE["sendgrid"](event)
        assert isinstance(caught.value, NotOurs) is bool(call_id)

    def test_who_is_meant(self, providers: Providers) -> None:
        """Of an event that names none of several recipients only that is used that the message is
        there."""
        providers.first.then(LOST)
        message = mail(providers, cc=["al@example.com"])
        call = OutboundCall.objects.get()
        tags = {"holdfast_call": str(call.pk), "holdfast_key": call.idempotency_key}
        event = resend_event("email.bounced", to=[TO, "al@example.com"], tags=tags)
        TAKE["resend"](event)
        assert set(statuses(message).values()) == {S.QUEUED}
        with pytest.raises(NotYet):
            TAKE["resend"](event)

    def test_one_of_two(self, providers: Providers) -> None:
        """Of an event about several, those whom we know are followed."""
        message = mail(providers)
        Recipient.objects.update(provider_message_id="EXAMPLE7c191be45")
        TAKE["ses"](ses_event("Delivery", delivery={"recipients": ["x@example.com", TO]}))
        assert statuses(message) == {TO: S.DELIVERED}

    @pytest.mark.parametrize(
        "provider,event",
        [
            ("sendgrid", sendgrid_event("group_resubscribe")),
            ("mailgun", mailgun_event("stored")),
            ("twilio", twilio_event("received")),
        ],
    )
    def test_no_message(self, provider: str, event: Event) -> None:
        with pytest.raises(NotOurs, match="nothing of a message"):
            TAKE[provider](event)


@pytest.fixture
def follow_all(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sources, with a name of its own for one of them."""
    monkeypatch.setattr(handlers, "_handlers", defaultdict(list))
    settings.PUBLIC_URL = "https://hooks.example.com"
    settings.WEBHOOK_SOURCES = {
        "mails": {
            "SOURCE": "webhooks.providers.postmark.PostmarkSource",
            "OPTIONS": {"SECRETS": ["user:password"]},
        },
        "twilio": {
            "SOURCE": "webhooks.providers.twilio.TwilioSource",
            "OPTIONS": {"SECRETS": ["token"]},
        },
        "other": {"SOURCE": "webhooks.providers.github.GitHubSource"},
    }
    register(settings.WEBHOOK_SOURCES)


@pytest.mark.usefixtures("follow_all")
class TestOverHttp:
    """From the provider's request to the recipient."""

    def handled(self) -> WebhookEvent:
        row = WebhookEvent.objects.get()
        engine.process(str(row.pk))
        row.refresh_from_db()
        return row

    def test_mail(self, providers: Providers, client: Client) -> None:
        message = mail(providers)
        body = {
            "RecordType": "Bounce", "ID": 42, "Type": "HardBounce", "Email": TO,
            "MessageID": "first-1-0", "BouncedAt": "2026-11-24T12:00:00Z", "Metadata": {},
        }  # fmt: skip
        client.post(
            "/webhooks/mails",
            json.dumps(body),
            content_type="application/json",
            headers={"Authorization": "Basic dXNlcjpwYXNzd29yZA=="},
        )
        assert self.handled().status == EventStatus.PROCESSED
        assert statuses(message) == {TO: S.BOUNCED}
        word = RecipientEvent.objects.get()
        assert word.at == datetime(2026, 11, 24, 12, tzinfo=UTC)
        assert word.webhook_event == WebhookEvent.objects.get().pk
        assert Suppression.objects.get().provider == "postmark"

    def test_a_text(self, providers: Providers, client: Client) -> None:
        """The marks come back in the address that Twilio was given."""
        providers.first.then(LOST)
        message = send_sms(to="+15005550006", body="Hi.")
        providers.work()
        call = OutboundCall.objects.get()
        marks = {"holdfast_call": str(call.pk), "holdfast_key": call.idempotency_key}
        path = f"/webhooks/twilio?{urlencode(marks)}"
        fields = {"MessageSid": "SM1", "MessageStatus": "sent", "To": "+15005550006"}
        url = f"https://hooks.example.com{path}"
        client.post(
            path,
            urlencode(fields),
            content_type="application/x-www-form-urlencoded",
            headers={
                "X-Twilio-Signature": RequestValidator("token").compute_signature(url, fields)
            },
        )
        assert self.handled().status == EventStatus.PROCESSED
        call.refresh_from_db()
        assert (call.status, call.provider_reference) == (CallStatus.SUCCEEDED, "SM1")
        assert statuses(message) == {"+15005550006": S.SENT}

    def test_a_stranger(self, client: Client) -> None:
        """Tried again for two minutes, then left, with a note, and never FAILED."""
        body = {"RecordType": "Delivery", "MessageID": "x", "Recipient": TO}
        client.post(
            "/webhooks/mails",
            json.dumps(body),
            content_type="application/json",
            headers={"Authorization": "Basic dXNlcjpwYXNzd29yZA=="},
        )
        row = self.handled()
        assert row.status == EventStatus.RETRYING
        while row.status == EventStatus.RETRYING:
            WebhookEvent.objects.update(due_at=clock.now() - timedelta(seconds=1))
            row = self.handled()
        assert (row.status, row.attempts) == (EventStatus.IGNORED, 5)


def test_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event of every source that sends messages, and no other source's."""
    monkeypatch.setattr(handlers, "_handlers", defaultdict(list))
    register({name: {"SOURCE": path} for path, name in zip(READERS, "abcdef", strict=True)})
    register({"g": {"SOURCE": "webhooks.providers.github.GitHubSource"}, "h": {}})
    told = set(handlers.handled_types())
    expected = {
        (name, event_type)
        for name, reader in zip("abcdef", READERS.values(), strict=True)
        for event_type in reader.events
    }
    assert told == expected


@pytest.mark.django_db(transaction=True)
def test_many_at_once(providers: Providers) -> None:
    """Events of one bulk call, handled by many workers, with an answer that was lost: nobody waits
    for ever, and nothing is missed."""
    providers.first.then(LOST)
    message = bulk(providers)
    call = OutboundCall.objects.get()
    events = iter(
        [
            sendgrid_event(word, **marked(call, email=f"p{n}@example.com", sg_message_id=f"m{n}"))
            for word in ("delivered", "spamreport")
            for n in range(3)
        ]
    )

    def work() -> None:
        with transaction.atomic():
            TAKE["sendgrid"](next(events))

    assert at_once(6, work) == [None] * 6
    call.refresh_from_db()
    assert call.status == CallStatus.SUCCEEDED
    assert set(statuses(message).values()) == {S.COMPLAINED}
    assert status_of(message) == MessageStatus.SENT
    assert Suppression.objects.count() == 3
    assert RecipientEvent.objects.count() == 6
