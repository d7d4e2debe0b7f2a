"""Resend's adapter keeps to what all for email keep to, and sends what anymail sends."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from anymail.backends.resend import EmailBackend

from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.replies import OUT_OF_QUOTA, RECIPIENTS_REFUSED
from notifications.adapters.resend import ResendAdapter
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

KEY = "re_contract_key"
BAD_TO = "Invalid `to` field. The email address needs to follow the `email@example.com` format."
OK = {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}


class TestResend(HttpMailContract):
    """https://resend.com/docs/api-reference/emails/send-email"""

    adapter_class = ResendAdapter
    secrets = (KEY,)
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "send_email": Sample(
            letters.note("jo@example.org"),
            json.dumps(OK).encode(),
            OK["id"],
            private=("jo@example.org", "Your receipt", "Thank you"),
        ),
        "send_bulk_email": Sample(
            letters.circular("jo@example.org"),
            json.dumps({"data": [OK]}).encode(),
            OK["id"],
            private=("jo@example.org",),
        ),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {"API_KEY": KEY, "API_BASE": url}

    def answer(self, sent: Sent, refused: tuple[str, ...]) -> bytes:
        assert sent.headers["idempotency-key"] == letters.KEY
        if sent.path == "/emails":
            return wire.reply(json.dumps(OK).encode())
        assert sent.path == "/emails/batch"
        assert sent.headers["x-batch-validation"] == "permissive"
        bad = {n for n, each in enumerate(sent.document) if set(_addresses(each)) & set(refused)}
        document = {
            "data": [{"id": f"re-{n}"} for n, _ in enumerate(sent.document) if n not in bad],
            "errors": [{"index": n, "message": BAD_TO} for n in sorted(bad)],
        }
        return wire.reply(json.dumps(document).encode())

    def read(self, sent: Sent) -> list[Delivered]:
        documents = sent.document if isinstance(sent.document, list) else [sent.document]
        return [_delivered(document) for document in documents]

    @pytest.mark.parametrize(
        "status, name, message, kind, ours",
        [
            ("429 Too Many", "daily_quota_exceeded", "", RateLimited, OUT_OF_QUOTA),
            ("429 Too Many", "monthly_quota_exceeded", "", RateLimited, OUT_OF_QUOTA),
            ("429 Too Many", "rate_limit_exceeded", "", RateLimited, "rate_limit_exceeded"),
            ("401 Unauthorized", "restricted_api_key", "", PermanentError, "restricted_api_key"),
            ("403 Forbidden", "validation_error", "Unverified", PermanentError, "validation_error"),
            ("422 Invalid", "validation_error", "`from`", PermanentError, "validation_error"),
            ("422 Invalid", "validation_error", BAD_TO, PermanentError, RECIPIENTS_REFUSED),
        ],
    )
    def test_what_refusals_mean(
        self, status: str, name: str, message: str, kind: type, ours: str
    ) -> None:
        """Resend's names, told apart."""
        error = self.refused_with(status, {"name": name, "message": message})
        assert type(error) is kind
        assert error.code == ours
        assert not error.effect_possible

    def test_a_request_with_the_key_is_at_work(self) -> None:
        """An earlier attempt of ours: asked again, and it may have worked."""
        error = self.refused_with("409 Conflict", {"name": "concurrent_idempotent_requests"})
        assert type(error) is TransientError
        assert error.effect_possible

    def test_the_key_has_other_content(self) -> None:
        """Says nothing about the attempt that made it."""
        error = self.refused_with("409 Conflict", {"name": "invalid_idempotent_request"})
        assert isinstance(error, PermanentError)
        assert not error.conclusive

    def test_a_file_that_would_be_dropped(self) -> None:
        """Resend loses messages whose files are not what their names say: not sent at all."""
        file = letters.attached("secret-plan.pdf", "text/csv", letters.CSV)
        payload = Email.model_validate(letters.note("jo@example.org", attachments=[file]))
        found, requests = self.play(payload)
        assert isinstance(found, PermanentError)
        assert found.code == "unsupported"
        assert "secret-plan" not in found.message
        assert requests == []

    @pytest.mark.parametrize(
        "document",
        [
            {"data": []},
            {"data": [{"id": "a"}]},
            {"data": [{"id": "a"}, {"id": "b"}, {"id": "c"}]},
            {"data": [{"id": "a"}, {"id": 1}]},
            {"data": [{"id": "a"}, {"id": "b"}], "errors": [{"index": 0, "message": "x"}]},
            {"data": [{"id": "a"}], "errors": [{"index": 7, "message": "x"}]},
        ],
    )
    def test_a_batch_that_does_not_add_up(self, document: Any) -> None:
        """Asked again with the same key, for somebody may have it."""
        payload = BulkEmail.model_validate(letters.circular("jo@example.org", "plain@example.org"))
        with (
            wire.peer(wire.answers(wire.reply(json.dumps(document).encode()))) as peer,
            pytest.raises(DeliveryError) as caught,
        ):
            self.mail_adapter(peer.url).perform("send_bulk_email", payload, letters.context())
        assert isinstance(caught.value, OutcomeUnknown)


METADATA = {"order": "6735", "shop": "main"}
TAGS = [{"name": name, "value": value} for name, value in letters.MARKS.items()]


class TestAgainstAnymail:
    """The same request, field by field."""

    def sent(self, payload: Email | BulkEmail) -> Wire:
        found, [sent] = TestResend().play(payload)
        assert isinstance(found, Reply)
        return Wire.read(sent.path, sent.headers, sent.body)

    def anymail(self, message: Any, path: str, answer: Any) -> Wire:
        backend = EmailBackend(api_key=KEY)
        return sent_by_anymail(backend, f"https://api.resend.com{path}", answer, message)

    def test_a_letter(self) -> None:
        """With everything a message can have."""
        ours = self.sent(Email.model_validate(letters.letter()))
        message = anymail_letter(metadata=METADATA, esp_extra={"tags": TAGS})
        assert ours == self.anymail(message, "/emails", OK)

    def test_a_circular(self) -> None:
        """A batch of whole messages."""
        fields = letters.letter(attachments=[])
        to = fields.pop("to")
        del fields["cc"], fields["bcc"]
        ours = self.sent(BulkEmail.model_validate({**fields, "recipients": to}))
        extra = {"tags": TAGS}
        message = anymail_letter(metadata=METADATA, cc=[], bcc=[], merge_data={}, esp_extra=extra)
        message.attachments = []
        assert ours == self.anymail(message, "/emails/batch", {"data": [OK, OK]})


def _addresses(document: dict[str, Any]) -> list[str]:
    return [address for _, address in mailboxes(*document["to"])]


def _delivered(document: dict[str, Any]) -> Delivered:
    headers = dict(document.get("headers", {}))
    metadata, tags = headers.pop("X-Metadata", "{}"), headers.pop("X-Tags", "[]")
    return Delivered(
        sender=mailboxes(document["from"])[0],
        to=mailboxes(*document["to"]),
        cc=mailboxes(*document.get("cc", [])),
        bcc=mailboxes(*document.get("bcc", [])),
        reply_to=mailboxes(*document.get("reply_to", [])),
        subject=document["subject"],
        text=document.get("text", ""),
        html=document.get("html", ""),
        headers=headers,
        files=[
            (
                file["filename"],
                file["content_type"].partition(";")[0],
                base64.b64decode(file["content"], validate=True),
                file.get("content_id", ""),
            )
            for file in document.get("attachments", [])
        ],
        marks={each["name"]: each["value"] for each in document["tags"]},
        metadata=json.loads(metadata),
        tags=json.loads(tags),
    )
