"""Postmark's adapter keeps to what all for email keep to, and sends what anymail sends."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from anymail.backends.postmark import EmailBackend

from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.postmark import PostmarkAdapter
from notifications.adapters.replies import (
    OUT_OF_QUOTA,
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    read_receipts,
)
from outbound.adapters import Reply
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from tests.contracts.adapter import Sample
from tests.contracts.http_mail import HttpMailContract, Sent
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered, mailboxes
from tests.notifications.adapters.oracles import Wire, anymail_letter, sent_by_anymail
from tests.outbound import wire

TOKEN = "contract-server-token"
INACTIVE = (
    "You tried to send to a recipient that has been marked as inactive. Found inactive addresses:"
    " {}. Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a"
    " manual suppression."
)
PARTLY = (
    "Message OK, but will not deliver to these inactive addresses: {}. Inactive recipients are"
    " ones that have generated a hard bounce or a spam complaint."
)


def ok(to: str, message_id: str = "pm-1", message: str = "OK") -> dict[str, Any]:
    return {
        "ErrorCode": 0,
        "Message": message,
        "MessageID": message_id,
        "SubmittedAt": "2026-11-25T12:00:00Z",
        "To": to,
    }


class TestPostmark(HttpMailContract):
    """https://postmarkapp.com/developer/api/email-api"""

    adapter_class = PostmarkAdapter
    secrets = (TOKEN,)
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "send_email": Sample(
            letters.note("jo@example.org"),
            json.dumps(ok("jo@example.org")).encode(),
            "pm-1",
            private=("jo@example.org", "Your receipt", "Thank you"),
        ),
        "send_bulk_email": Sample(
            letters.circular("jo@example.org"),
            json.dumps([ok("jo@example.org")]).encode(),
            "pm-1",
            private=("jo@example.org",),
        ),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {"SERVER_TOKEN": TOKEN, "API_BASE": url, "MESSAGE_STREAM": "outbound"}

    def answer(self, sent: Sent, refused: tuple[str, ...]) -> bytes:
        assert sent.headers["x-postmark-server-token"] == TOKEN
        if sent.path == "/email/batch":
            answers = [_answer(each, refused, f"pm-{n}") for n, each in enumerate(sent.document)]
            return wire.reply(json.dumps(answers).encode())
        assert sent.path == "/email"
        found = _answer(sent.document, refused, "pm-1")
        status = "422 Unprocessable Entity" if found["ErrorCode"] else "200 OK"
        return wire.reply(json.dumps(found).encode(), status=status)

    def read(self, sent: Sent) -> list[Delivered]:
        documents = sent.document if isinstance(sent.document, list) else [sent.document]
        return [_delivered(document) for document in documents]

    @pytest.mark.parametrize(
        "status, code, kind, ours",
        [
            ("401 Unauthorized", 10, PermanentError, "10"),
            ("422 Unprocessable Entity", 300, PermanentError, "300"),
            ("422 Unprocessable Entity", 400, PermanentError, "400"),
            ("422 Unprocessable Entity", 405, RateLimited, OUT_OF_QUOTA),
            ("422 Unprocessable Entity", 406, PermanentError, RECIPIENTS_REFUSED),
            ("422 Unprocessable Entity", 412, PermanentError, "412"),
            ("429 Too Many Requests", 429, RateLimited, "429"),
            ("503 Service Unavailable", 100, TransientError, "100"),
        ],
    )
    def test_what_refusals_mean(self, status: str, code: int, kind: type, ours: str) -> None:
        """Postmark's codes, told apart."""
        error = self.refused_with(status, {"ErrorCode": code, "Message": "Because."})
        assert type(error) is kind
        assert error.code == ours
        assert not error.effect_possible

    def test_inactive_among_others(self) -> None:
        """The message goes to the others; which they are, a sentence tells."""
        payload = Email.model_validate(letters.letter())
        reply, _ = self.deliver_refusing(payload, "plain@example.org", "audit@example.org")
        self.assert_refused(read_receipts(reply.result), "plain@example.org", "audit@example.org")

    def test_all_inactive(self) -> None:
        """It is the recipients who are refused, and no address is quoted."""
        payload = Email.model_validate(letters.note("jo@example.org"))
        found, _ = self.play(payload, ("jo@example.org",))
        assert isinstance(found, PermanentError)
        assert found.code == RECIPIENTS_REFUSED
        assert "@" not in found.message

    def test_an_address_that_is_none(self) -> None:
        """Postmark takes nobody then, and names it: the message is sent again without it."""
        bad = {
            "ErrorCode": 300,
            "Message": "Error parsing 'To': Illegal email address 'jo@example.org'.",
        }
        payload = Email.model_validate(letters.note("jo@example.org", "plain@example.org"))
        answers = (
            wire.reply(json.dumps(bad).encode(), status="422 Unprocessable Entity"),
            wire.reply(json.dumps(ok("plain@example.org")).encode()),
        )
        with wire.peer(wire.answers(*answers)) as peer:
            reply = self.mail_adapter(peer.url).perform("send_email", payload, letters.context())
        self.assert_refused(read_receipts(reply.result), "jo@example.org")
        assert [Sent.read(raw).document["To"] for raw in peer.requests] == [
            "jo@example.org, plain@example.org",
            "plain@example.org",
        ]

    @pytest.mark.parametrize(
        "code, message, kind, ours",
        [
            (400, "Sender signature not found", PermanentError, "400"),
            (405, "Not allowed to send", RateLimited, OUT_OF_QUOTA),
            (406, INACTIVE.format("jo@example.org"), PermanentError, RECIPIENTS_REFUSED),
            (300, "Invalid 'To' address: 'jo@x'.", PermanentError, RECIPIENTS_REFUSED),
        ],
    )
    def test_a_batch_that_nobody_got(self, code: int, message: str, kind: type, ours: str) -> None:
        """Whether that is the recipients' trouble or ours decides who is asked next."""
        error = self._bulk([{"ErrorCode": code, "Message": message}] * 2)
        assert type(error) is kind
        assert isinstance(error, DeliveryError)
        assert error.code == ours
        assert "@" not in error.message

    def test_a_batch_that_credits_ran_out_in(self) -> None:
        """Who was not reached any more may be asked for again."""
        found = self._bulk([ok("jo@example.org"), {"ErrorCode": 405, "Message": "No credits"}])
        assert isinstance(found, Reply)
        receipts = read_receipts(found.result)
        assert [(each.accepted, each.code) for each in receipts] == [(True, ""), (False, TRY_AGAIN)]

    @pytest.mark.parametrize(
        "answers",
        [
            [],
            [ok("jo@example.org")],
            [ok("jo@example.org"), None],
            [ok("jo@example.org"), {"ErrorCode": 0}],
            [ok("jo@example.org"), {"ErrorCode": "x", "Message": 1}],
        ],
    )
    def test_a_batch_answered_in_part(self, answers: list[Any]) -> None:
        """Where an answer is missing, somebody may have it."""
        assert isinstance(self._bulk(answers), OutcomeUnknown)

    def _bulk(self, answers: list[Any]) -> Reply | DeliveryError:
        payload = BulkEmail.model_validate(letters.circular("jo@example.org", "plain@example.org"))
        with wire.peer(wire.answers(wire.reply(json.dumps(answers).encode()))) as peer:
            try:
                return self.mail_adapter(peer.url).perform(
                    "send_bulk_email", payload, letters.context()
                )
            except DeliveryError as error:
                return error


METADATA = {"order": "6735", "shop": "main", **letters.MARKS}


class TestAgainstAnymail:
    """The same request, field by field."""

    def sent(self, payload: Email | BulkEmail) -> Wire:
        _, [sent] = TestPostmark().play(payload)
        return Wire.read(sent.path, sent.headers, sent.body)

    def anymail(self, message: Any, path: str, answer: Any) -> Wire:
        backend = EmailBackend(server_token=TOKEN, message_stream="outbound")
        return sent_by_anymail(backend, f"https://api.postmarkapp.com{path}", answer, message)

    def test_a_letter(self) -> None:
        """With everything a message can have."""
        ours = self.sent(Email.model_validate(letters.letter()))
        message = anymail_letter(metadata=METADATA)
        assert ours == self.anymail(message, "/email", ok("jo@example.org, plain@example.org"))

    def test_a_circular(self) -> None:
        """A batch of whole messages."""
        fields = letters.letter(attachments=[])
        to = fields.pop("to")
        del fields["cc"], fields["bcc"]
        ours = self.sent(BulkEmail.model_validate({**fields, "recipients": to}))
        message = anymail_letter(metadata=METADATA, cc=[], bcc=[], merge_data={})
        message.attachments = []
        answer = [ok("jo@example.org"), ok("plain@example.org")]
        assert ours == self.anymail(message, "/email/batch", answer)


def _answer(document: dict[str, Any], refused: tuple[str, ...], message_id: str) -> dict[str, Any]:
    fields = [document.get(field, "") for field in ("To", "Cc", "Bcc")]
    people = [address for _, address in mailboxes(*filter(None, fields))]
    inactive = [address for address in people if address in refused]
    if len(inactive) == len(people):
        return {"ErrorCode": 406, "Message": INACTIVE.format(", ".join(inactive))}
    if inactive:
        return ok(document["To"], message_id, PARTLY.format(", ".join(inactive)))
    return ok(document["To"], message_id)


def _delivered(document: dict[str, Any]) -> Delivered:
    metadata = dict(document["Metadata"])
    assert document["MessageStream"] == "outbound"
    return Delivered(
        sender=mailboxes(document["From"])[0],
        to=mailboxes(document["To"]),
        cc=mailboxes(*filter(None, [document.get("Cc")])),
        bcc=mailboxes(*filter(None, [document.get("Bcc")])),
        reply_to=mailboxes(*filter(None, [document.get("ReplyTo")])),
        subject=document["Subject"],
        text=document.get("TextBody", ""),
        html=document.get("HtmlBody", ""),
        headers={each["Name"]: each["Value"] for each in document.get("Headers", [])},
        files=[
            (
                file["Name"],
                file["ContentType"].partition(";")[0],
                base64.b64decode(file["Content"], validate=True),
                file.get("ContentID", "").removeprefix("cid:"),
            )
            for file in document.get("Attachments", [])
        ],
        marks={key: metadata.pop(key) for key in letters.MARKS},
        metadata=metadata,
        tags=[document["Tag"]] if "Tag" in document else [],
    )
