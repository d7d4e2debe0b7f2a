"""SendGrid's adapter keeps to what every adapter for email keeps to."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.replies import OUT_OF_QUOTA, RECIPIENTS_REFUSED, read_receipts
from notifications.adapters.sendgrid import SendGridAdapter
from outbound.adapters import Reply
from outbound.errors import PermanentError, RateLimited
from tests.contracts.adapter import Sample
from tests.contracts.http_mail import HttpMailContract, Sent
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered
from tests.outbound import wire

KEY = "SG.contract-key"
BAD = "Does not contain a valid address."


class TestSendGrid(HttpMailContract):
    """https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send"""

    adapter_class = SendGridAdapter
    secrets = (KEY,)
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "send_email": Sample(
            letters.note("jo@example.org"),
            reference="mJ8FyqTc",
            private=("jo@example.org", "Your receipt", "Thank you"),
            needs_reply=False,
            reply=b"",
            status="202 Accepted",
            headers="X-Message-Id: mJ8FyqTc",
        ),
        "send_bulk_email": Sample(
            letters.circular("jo@example.org", "plain@example.org"),
            reference="mJ8FyqTc",
            private=("jo@example.org", "plain@example.org"),
            needs_reply=False,
            reply=b"",
            status="202 Accepted",
            headers="X-Message-Id: mJ8FyqTc",
        ),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {"API_KEY": KEY, "API_BASE": url}

    def answer(self, sent: Sent, refused: tuple[str, ...]) -> bytes:
        assert sent.path == "/v3/mail/send"
        assert sent.headers["authorization"] == f"Bearer {KEY}"
        errors = [
            {"message": BAD, "field": f"personalizations.{n}.{field}.{m}.email", "help": None}
            for n, personalization in enumerate(sent.document["personalizations"])
            for field in ("to", "cc", "bcc")
            for m, mailbox in enumerate(personalization.get(field, []))
            if mailbox["email"] in refused
        ]
        if errors:
            body = json.dumps({"errors": errors}).encode()
            return wire.reply(body, status="400 Bad Request")
        return wire.reply(b"", status="202 Accepted", headers="X-Message-Id: mJ8FyqTc")

    def read(self, sent: Sent) -> list[Delivered]:
        document = sent.document
        return [_delivered(document, each) for each in document["personalizations"]]

    @pytest.mark.parametrize(
        "status, sentence, kind, code",
        [
            ("401 Unauthorized", "Maximum credits exceeded", RateLimited, OUT_OF_QUOTA),
            (
                "401 Unauthorized",
                "The provided authorization grant is invalid, expired, or revoked",
                PermanentError,
                "invalid_api_key",
            ),
            (
                "403 Forbidden",
                "The from address does not match a verified Sender Identity.",
                PermanentError,
                "sender_not_verified",
            ),
            ("413 Payload Too Large", "too large", PermanentError, ""),
            ("429 Too Many Requests", "too many requests", RateLimited, ""),
        ],
    )
    def test_what_refusals_mean(self, status: str, sentence: str, kind: type, code: str) -> None:
        """SendGrid's sentences, told apart."""
        errors = {"errors": [{"message": sentence, "field": None, "help": None}]}
        error = self.refused_with(status, errors)
        assert type(error) is kind
        assert error.code == code
        assert not error.effect_possible

    def test_a_bad_address_among_those_of_one_message(self) -> None:
        """The message goes to the others."""
        payload = Email.model_validate(letters.letter())
        reply, taken = self.deliver_refusing(payload, "plain@example.org", "audit@example.org")
        self.assert_refused(read_receipts(reply.result), "plain@example.org", "audit@example.org")
        assert taken == ["jo@example.org", "books@example.org"]

    def test_a_hidden_recipient_stays_hidden(self) -> None:
        """With nobody left to address it to, a message is not sent to those in bcc."""
        fields = letters.note("jo@example.org", bcc=[{"address": "audit@example.org"}])
        found, requests = self.play(Email.model_validate(fields), ("jo@example.org",))
        assert isinstance(found, PermanentError)
        assert found.code == RECIPIENTS_REFUSED
        assert len(requests) == 1

    def test_more_is_wrong_than_an_address(self) -> None:
        """Leaving somebody out would not help: it is refused, at once."""
        errors = [
            {"message": BAD, "field": "personalizations.0.to.0.email"},
            {"message": "The content value must be a string", "field": "content.0.value"},
        ]
        error = self.refused_with("400 Bad Request", {"errors": errors})
        assert isinstance(error, PermanentError)
        assert error.code == "invalid_address"

    @pytest.mark.parametrize("field", ["personalizations.7.to.0.email", "personalizations.0.cc.3"])
    def test_an_address_that_is_not_there(self, field: str) -> None:
        """An answer that does not fit the request takes nobody's message away."""
        error = self.refused_with("400 Bad Request", {"errors": [{"message": BAD, "field": field}]})
        assert isinstance(error, PermanentError)

    def test_values_that_are_too_large(self) -> None:
        """Who has more to fill in than SendGrid takes is refused; the others get theirs."""
        variables = {f"v{n}": "x" * 2000 for n in range(6)}
        small = dict.fromkeys(variables, "x")
        text = " ".join(f"{{{{{name}}}}}" for name in variables)
        people = [
            {"address": "jo@example.org", "variables": variables},
            {"address": "plain@example.org", "variables": small},
        ]
        payload = BulkEmail.model_validate(
            letters.circular(text=text, subject="s", recipients=people)
        )
        found, requests = self.play(payload)
        assert isinstance(found, Reply)
        self.assert_refused(read_receipts(found.result), "jo@example.org")
        assert [got.to for sent in requests for got in self.read(sent)] == [
            [("", "plain@example.org")]
        ]


def _delivered(document: dict[str, Any], personalization: dict[str, Any]) -> Delivered:
    """SendGrid puts values in the tags' stead wherever they stand."""

    def filled(text: str) -> str:
        for tag, value in personalization.get("substitutions", {}).items():
            text = text.replace(tag, value)
        return text

    content = {part["type"]: filled(part["value"]) for part in document["content"]}
    assert all(content.values())
    args = dict(document["custom_args"])
    return Delivered(
        sender=_pair(document["from"]),
        to=[_pair(each) for each in personalization["to"]],
        cc=[_pair(each) for each in personalization.get("cc", [])],
        bcc=[_pair(each) for each in personalization.get("bcc", [])],
        reply_to=[_pair(each) for each in document.get("reply_to_list", [])],
        subject=filled(document["subject"]),
        text=content.get("text/plain", ""),
        html=content.get("text/html", ""),
        headers=document.get("headers", {}),
        files=[
            (
                file["filename"],
                file["type"],
                base64.b64decode(file["content"], validate=True),
                file.get("content_id", ""),
            )
            for file in document.get("attachments", [])
        ],
        marks={key: args.pop(key) for key in letters.MARKS},
        metadata=args,
        tags=document.get("categories", []),
    )


def _pair(mailbox: dict[str, str]) -> tuple[str, str]:
    return mailbox.get("name", ""), mailbox["email"]
