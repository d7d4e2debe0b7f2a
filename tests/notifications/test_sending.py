"""Sending: what is stored, what a provider is asked, and what becomes of the recipients."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, transaction

from notifications import services
from notifications.adapters.replies import (
    OPTED_OUT,
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    UNREGISTERED,
    Receipt,
    accepted_reply,
)
from notifications.errors import IllegalMove
from notifications.models import Dispatch, Message, Recipient, Suppression
from notifications.services import Attached, send_bulk_email, send_email, send_push, send_sms
from notifications.states import Channel, MessageStatus, RecipientStatus
from notifications.sweep import sweep
from outbound.errors import KeyReused, OutcomeUnknown, PermanentError, RetryRefused
from outbound.models import Blob, OutboundCall
from outbound.services import resolve_call, retry_call
from tests.notifications.conftest import Providers, calls_of, statuses
from tests.notifications.scripted import SmallMail, entry
from tests.outbound.conftest import VirtualTime

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db]

PDF = Attached("invoice.pdf", b"%PDF-1.7", "application/pdf")
PEOPLE = [{"address": f"p{n}@example.com", "variables": {"name": f"P{n}"}} for n in range(7)]
S = RecipientStatus


def email(**changes: Any) -> Message:
    asked = {"to": "Ann <ann@example.com>", "subject": "Receipt", "text": "Thank you.", **changes}
    return send_email(**asked)


def reread(message: Message) -> Message:
    return Message.objects.get(pk=message.pk)


class TestEmail:
    def test_it_is_sent(self, providers: Providers) -> None:
        """The adapter gets what was asked for, and the recipient the provider's id."""
        message = email(
            cc=["bob@example.com"],
            bcc=("carl@example.com", "Carl"),
            html="<p>Thank you.</p>",
            headers={"X-Order": "7"},
            tags=["receipt"],
            metadata={"order": "7"},
            reply_to="help@example.com",
            attachments=[PDF],
            reference="order-7",
        )
        assert message.status == MessageStatus.SENDING
        providers.work()
        (seen,) = providers.first.seen
        asked = seen.payload
        assert asked["sender"] == {"address": "shop@example.com", "name": "Shop"}
        assert asked["to"] == [{"address": "ann@example.com", "name": "Ann"}]
        assert asked["cc"] == [{"address": "bob@example.com", "name": ""}]
        assert asked["bcc"] == [{"address": "carl@example.com", "name": "Carl"}]
        assert asked["headers"] == {"X-Order": "7"}
        (file,) = asked["attachments"]
        assert seen.context.read_blob(file["digest"]) == PDF.content
        assert reread(message).status == MessageStatus.SENT
        rows = list(message.recipients.values_list("address", "status", "provider_message_id"))
        assert rows == [
            ("ann@example.com", "queued", "first-1-0"),
            ("bob@example.com", "queued", "first-1-1"),
            ("carl@example.com", "queued", "first-1-2"),
        ]
        assert OutboundCall.objects.get().reference == "order-7"

    @pytest.mark.django_db(transaction=True)
    def test_only_with_the_callers_transaction(self, providers: Providers) -> None:
        """No row of any kind survives a rollback."""
        with transaction.atomic():
            email(attachments=[PDF])
            transaction.set_rollback(True)
        models = (Message, Recipient, Dispatch, OutboundCall, Blob)
        assert [model.objects.count() for model in models] == [0, 0, 0, 0, 0]

    def test_what_is_written_is_encrypted(self, providers: Providers) -> None:
        """Neither subject, body nor attachment stands in the database in the clear."""
        email(subject="A secret subject", text="a secret text", attachments=[PDF])
        with connection.cursor() as cursor:
            cursor.execute("SELECT content FROM notifications_message")
            stored = bytes(cursor.fetchone()[0])
            cursor.execute("SELECT content FROM outbound_blob")
            stored += bytes(cursor.fetchone()[0])
        assert b"secret" not in stored
        assert b"PDF" not in stored

    def test_an_attachment_is_stored_once(self, providers: Providers) -> None:
        """However many messages carry it."""
        email(attachments=[PDF])
        email(attachments=[PDF])
        assert Blob.objects.count() == 1

    def test_the_same_key(self, providers: Providers) -> None:
        """The same key is the same message; another message under it is refused."""
        first, second = email(idempotency_key="k-1"), email(idempotency_key="k-1")
        assert first.pk == second.pk
        assert (first.is_new, second.is_new) == (True, False)
        with pytest.raises(KeyReused):
            email(idempotency_key="k-1", subject="Another")
        assert OutboundCall.objects.count() == 1

    def test_one_refused_among_others(self, providers: Providers) -> None:
        """One bad address fails nobody else, and nothing is sent again."""
        message = email(to=["ann@example.com", "bad@example.com"])
        receipts = [
            Receipt("ann@example.com", True, "m-1"),
            Receipt("bad@example.com", False, code="invalid", reason="no such domain"),
        ]
        providers.first.then(accepted_reply(receipts, message_id="m-1"))
        providers.work()
        assert statuses(message) == {"ann@example.com": S.QUEUED, "bad@example.com": S.REFUSED}
        refused = message.recipients.get(status=S.REFUSED)
        assert (refused.code, refused.reason) == ("invalid", "no such domain")
        assert reread(message).status == MessageStatus.SENT
        assert providers.second.seen == []

    def test_nobody_accepted(self, providers: Providers) -> None:
        """A refusal that is about the recipients is not taken to another provider."""
        message = email()
        providers.first.then(PermanentError("no such mailbox", code=RECIPIENTS_REFUSED))
        providers.work()
        assert statuses(message) == {"ann@example.com": S.REFUSED}
        assert reread(message).status == MessageStatus.FAILED
        assert providers.second.seen == []


class TestBulk:
    def bulk(self, **changes: Any) -> Any:
        asked = {"recipients": PEOPLE, "subject": "Hi {{name}}", "text": "{{ name }}!", **changes}
        return send_bulk_email(**asked)

    def test_split_by_the_batch_limit(self, providers: Providers) -> None:
        """Seven recipients at three a call are three calls, each with its own variables."""
        message = self.bulk().message
        providers.work()
        sizes = [len(seen.payload["recipients"]) for seen in providers.first.seen]
        assert sizes == [3, 3, 1]
        assert providers.first.seen[0].payload["recipients"][1] == {
            "address": "p1@example.com", "name": "", "variables": {"name": "P1"},
        }  # fmt: skip
        assert set(statuses(message).values()) == {S.QUEUED}
        assert reread(message).status == MessageStatus.SENT

    def test_each_batch_has_its_own_fate(self, providers: Providers) -> None:
        """One that fails goes to the other provider; one that is unknown stays where it is; and
        the third is not sent again."""
        message = self.bulk().message
        providers.first.then(PermanentError("suspended"), OutcomeUnknown("lost"))
        providers.work()
        assert [len(seen.payload["recipients"]) for seen in providers.second.seen] == [3]
        assert list(statuses(message).values()) == [S.QUEUED] * 3 + [S.UNKNOWN] * 3 + [S.QUEUED]
        assert reread(message).status == MessageStatus.UNKNOWN

    def test_what_a_reply_does_not_mention(self, providers: Providers) -> None:
        """A recipient without a receipt is not said to have it."""
        message = self.bulk(recipients=PEOPLE[:2]).message
        receipts = [Receipt("p0@example.com", True, "m-0")]
        providers.first.then(accepted_reply(receipts, message_id=""))
        providers.work()
        assert list(statuses(message).values()) == [S.QUEUED, S.UNKNOWN]

    def test_who_could_not_be_taken_yet(self, providers: Providers) -> None:
        """They have a call of their own, and nobody else is asked for again."""
        message = self.bulk(recipients=PEOPLE[:3]).message
        receipts = [
            Receipt("p0@example.com", True, "m-0"),
            Receipt("p1@example.com", False, code=TRY_AGAIN, reason="too fast"),
            Receipt("p2@example.com", False, code="refused", reason="no such mailbox"),
        ]
        providers.first.then(accepted_reply(receipts, message_id=""))
        providers.work()
        asked = [
            [each["address"] for each in seen.payload["recipients"]]
            for seen in providers.first.seen
        ]
        assert asked == [[f"p{n}@example.com" for n in range(3)], ["p1@example.com"]]
        assert list(statuses(message).values()) == [S.QUEUED, S.QUEUED, S.REFUSED]
        assert reread(message).status == MessageStatus.SENT

    def test_without_batches_each_has_a_call(
        self, providers: Providers, settings: LazySettings
    ) -> None:
        """Rendered for them, escaped in HTML, and in one line in the subject."""
        settings.OUTBOUND_ADAPTERS = {"small": entry(providers.first, SmallMail)}
        people = [{"address": "a@example.com", "variables": {"name": "<b>\n&"}}, PEOPLE[0]]
        bulk = self.bulk(recipients=people, html="<p>{{name}}</p>", route=["small"])
        providers.work()
        one, other = (seen.payload for seen in providers.first.seen)
        assert (one["subject"], one["text"]) == ("Hi <b> &", "<b>\n&!")
        assert one["html"] == "<p>&lt;b&gt;\n&amp;</p>"
        assert other["to"] == [{"address": "p0@example.com", "name": ""}]
        assert set(statuses(bulk.message).values()) == {S.QUEUED}

    def test_attachments_that_batches_cannot_carry(self, providers: Providers) -> None:
        """Then each recipient has a call."""
        self.bulk(attachments=[PDF], recipients=PEOPLE[:2])
        providers.work()
        assert [seen.operation for seen in providers.first.seen] == ["send_email"] * 2

    def test_who_cannot_be_written_to_is_said(self, providers: Providers) -> None:
        """Each refused address with its place and its field; the others are sent to."""
        bulk = self.bulk(
            recipients=[
                PEOPLE[0],
                {"address": "no address", "variables": {"name": "x"}},
                {"address": "p9@example.com"},
                {"address": "P0@example.com", "variables": {"name": "again"}},
                {"address": "p8@example.com", "variables": {"name": 5}},
                {"nothing": 1},
                None,
            ]
        )
        assert [(each.place, each.pointer) for each in bulk.refused] == [
            (1, "/recipients/1/address"),
            (2, "/recipients/2/variables/name"),
            (3, "/recipients/3/address"),
            (4, "/recipients/4/variables/name"),
            (5, "/recipients/5/address"),
            (6, "/recipients/6"),
        ]
        assert list(statuses(bulk.message)) == ["p0@example.com"]


class TestOthers:
    @pytest.mark.parametrize(
        "code,reason", [(OPTED_OUT, "opted_out"), (None, None)], ids=["opted out", "taken"]
    )
    def test_sms(self, providers: Providers, code: str | None, reason: str | None) -> None:
        """A call for each number; who has opted out gets nothing from then on."""
        if code:
            providers.first.then(PermanentError("stop", code=code))
        message = send_sms(to=["+15005550006", "+15005550007"], body="Your code is 7.")
        providers.work()
        assert [seen.payload["to"] for seen in providers.first.seen] == [
            "+15005550006",
            "+15005550007",
        ]
        expected = S.REFUSED if code else S.QUEUED
        assert statuses(message) == {"+15005550006": expected, "+15005550007": S.QUEUED}
        found = Suppression.objects.filter(channel=Channel.SMS, address="+15005550006")
        assert [row.reason for row in found] == ([reason] if reason else [])
        assert providers.second.seen == []

    def test_push_token_that_is_gone(self, providers: Providers) -> None:
        """It becomes a suppression."""
        providers.first.then(PermanentError("gone", code=UNREGISTERED))
        send_push(tokens=["token-1"], title="Hello", data={"order": "7"})
        providers.work()
        assert Suppression.objects.get().reason == "unregistered"
        again = send_push(tokens="token-1", title="Hello")
        assert again.status == MessageStatus.FAILED
        assert statuses(again) == {"token-1": S.SUPPRESSED}


class TestSuppressions:
    def test_left_out_and_said_so(self, providers: Providers) -> None:
        """Whatever the case of the address; the others get the message."""
        services.suppress(channel=Channel.EMAIL, address="Bob@Example.com", actor="ops")
        message = email(to=["ann@example.com", "bob@example.com"])
        providers.work()
        (seen,) = providers.first.seen
        assert [each["address"] for each in seen.payload["to"]] == ["ann@example.com"]
        bob = message.recipients.get(address="bob@example.com")
        assert (bob.status, bob.code) == (S.SUPPRESSED, "manual")

    def test_nobody_is_left(self, providers: Providers) -> None:
        """No call is made; those in copy get no copy of what nobody gets."""
        services.suppress(channel=Channel.EMAIL, address="ann@example.com")
        message = email(cc="bob@example.com")
        assert message.status == MessageStatus.FAILED
        assert statuses(message) == {"ann@example.com": S.SUPPRESSED, "bob@example.com": S.FAILED}
        assert not OutboundCall.objects.exists()

    def test_lifted(self, providers: Providers) -> None:
        """And everything is as before."""
        services.suppress(channel=Channel.EMAIL, address="ann@example.com")
        assert services.lift_suppression(channel=Channel.EMAIL, address="Ann@example.com")
        assert not services.lift_suppression(channel=Channel.EMAIL, address="ann@example.com")
        assert email().status == MessageStatus.SENDING

    def test_another_channel(self, providers: Providers) -> None:
        """Says nothing."""
        services.suppress(channel=Channel.SMS, address="+15005550006")
        assert send_push(tokens="+15005550006".strip("+"), title="x").status == "sending"
        assert email().status == MessageStatus.SENDING


class TestTimes:
    def test_scheduled(self, providers: Providers, time: VirtualTime) -> None:
        """Nothing leaves before its time; who was suppressed meanwhile gets nothing."""
        at = time.now + timedelta(hours=2)
        message = email(to=["ann@example.com", "bob@example.com"], scheduled_at=at)
        assert message.status == MessageStatus.SCHEDULED
        sweep()
        assert not OutboundCall.objects.exists()
        services.suppress(channel=Channel.EMAIL, address="bob@example.com")
        time.passes(hours=2)
        assert sweep()["sent"] == 1
        assert sweep()["sent"] == 0
        providers.work()
        assert statuses(message) == {"ann@example.com": S.QUEUED, "bob@example.com": S.SUPPRESSED}

    def test_scheduled_for_a_provider_that_is_gone(
        self, providers: Providers, time: VirtualTime, settings: LazySettings
    ) -> None:
        """It fails, visibly, and keeps nobody else from being sent."""
        at = time.now + timedelta(hours=1)
        lost, other = email(scheduled_at=at, route=["second"]), email(scheduled_at=at)
        settings.OUTBOUND_ADAPTERS = {"first": settings.OUTBOUND_ADAPTERS["first"]}
        time.passes(hours=1)
        sweep()
        assert reread(lost).status == MessageStatus.FAILED
        assert "second" in lost.recipients.get().reason
        assert reread(other).status == MessageStatus.SENDING

    def test_cancelled_before_its_time(self, providers: Providers, time: VirtualTime) -> None:
        """Once, and for good."""
        message = email(scheduled_at=time.now + timedelta(hours=1))
        assert services.cancel_message(message=message).status == MessageStatus.CANCELLED
        assert statuses(message) == {"ann@example.com": S.CANCELLED}
        time.passes(hours=2)
        assert sweep()["sent"] == 0
        with pytest.raises(IllegalMove):
            services.cancel_message(message=message)

    def test_cancelled_while_its_call_waits(self, providers: Providers) -> None:
        """The call is cancelled with it."""
        message = email()
        services.cancel_message(message=message, actor="ops", reason="a mistake")
        assert calls_of(message) == [("first", "send_email", "cancelled")]
        assert reread(message).status == MessageStatus.CANCELLED

    def test_what_was_sent_cannot_be_cancelled(self, providers: Providers) -> None:
        """It is with the provider."""
        message = email()
        providers.work()
        with pytest.raises(IllegalMove):
            services.cancel_message(message=message)
        assert statuses(message) == {"ann@example.com": S.QUEUED}

    def test_expiry_ends_the_attempts(self, providers: Providers, time: VirtualTime) -> None:
        """No attempt after it, whatever the age limit says."""
        ends = time.now + timedelta(minutes=5)
        email(expires_at=ends)
        assert OutboundCall.objects.get().deadline_at == ends


class TestPeople:
    def test_retry_of_what_failed_everywhere(self, providers: Providers) -> None:
        """The recipients wait again, and are sent to."""
        message = email(route=["first"])
        providers.first.then(PermanentError("suspended"))
        providers.work()
        assert statuses(message) == {"ann@example.com": S.FAILED}
        call = OutboundCall.objects.get()
        retry_call(call_id=call.pk, actor="ops")
        assert reread(message).status == MessageStatus.SENDING
        providers.work()
        assert statuses(message) == {"ann@example.com": S.QUEUED}

    def test_no_retry_of_what_went_elsewhere(self, providers: Providers) -> None:
        """It would be sent twice."""
        message = email()
        providers.first.then(PermanentError("suspended"))
        providers.work()
        call = OutboundCall.objects.get(adapter="first")
        with pytest.raises(RetryRefused, match="another provider"):
            retry_call(call_id=call.pk, actor="ops")
        assert statuses(message) == {"ann@example.com": S.QUEUED}

    @pytest.mark.parametrize("succeeded,status", [(True, S.QUEUED), (False, S.FAILED)])
    def test_a_person_resolves_a_doubt(
        self, providers: Providers, succeeded: bool, status: str
    ) -> None:
        """The recipients follow; nobody else is asked by itself even then."""
        message = email()
        providers.first.then(OutcomeUnknown("lost"))
        providers.work()
        call = OutboundCall.objects.get()
        resolve_call(call_id=call.pk, succeeded=succeeded, reason="looked it up", actor="ops")
        assert statuses(message) == {"ann@example.com": status}
        assert providers.second.seen == []


def test_no_provider_in_the_settings(providers: Providers, settings: LazySettings) -> None:
    """Where several could send and nobody says who, it is said so; and so where none can."""
    settings.EMAIL_ROUTE = []
    with pytest.raises(services.NoProvider, match="EMAIL_ROUTE must say"):
        email()
    settings.OUTBOUND_ADAPTERS = {"first": settings.OUTBOUND_ADAPTERS["first"]}
    assert email().route == ["first"]
    settings.OUTBOUND_ADAPTERS = {}
    with pytest.raises(services.NoProvider, match="nothing is configured that can send Email"):
        email()


def test_a_provider_without_room_is_passed_over(
    providers: Providers, settings: LazySettings
) -> None:
    """And where none has room, it is said before anything is stored."""
    settings.OUTBOUND_ADAPTERS |= {"small": entry(providers.second, SmallMail)}
    big = Attached("big.bin", b"x" * 3000)
    assert email(attachments=[big], route=["small", "first"]).route == ["first"]
    assert email(route=["small", "first"]).route == ["small", "first"]
