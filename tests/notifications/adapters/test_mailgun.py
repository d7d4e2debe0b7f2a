"""Mailgun's adapter keeps to what all for email keep to, and sends what anymail sends."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from anymail.backends.mailgun import EmailBackend

from notifications.adapters.mailgun import MailgunAdapter
from notifications.adapters.messages import BulkEmail, Email
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
)
from tests.contracts.adapter import Sample
from tests.contracts.http_mail import HttpMailContract, Sent
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered, mailboxes
from tests.notifications.adapters.oracles import (
    Wire,
    anymail_letter,
    form_of,
    sent_by_anymail,
)
from tests.outbound import wire

KEY = "key-contract"
MESSAGE_ID = "<20261125.1@mg.example.com>"
QUEUED = {"id": MESSAGE_ID, "message": "Queued. Thank you."}
BAD = "'to' parameter is not a valid address. please check documentation"


class TestMailgun(HttpMailContract):
    """https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages"""

    adapter_class = MailgunAdapter
    secrets = (KEY, base64.b64encode(f"api:{KEY}".encode()).decode())
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "send_email": Sample(
            letters.note("jo@example.org"),
            json.dumps(QUEUED).encode(),
            MESSAGE_ID,
            private=("jo@example.org", "Your receipt", "Thank you"),
        ),
        "send_bulk_email": Sample(
            letters.circular("jo@example.org"),
            json.dumps(QUEUED).encode(),
            MESSAGE_ID,
            private=("jo@example.org",),
        ),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {"API_KEY": KEY, "DOMAIN": "mg.example.com", "API_BASE": url}

    def inline_file(self) -> tuple[str, str, bytes, str]:
        return ("logo@shop", "image/png", letters.PNG, "logo@shop")  # Mailgun has but one name

    def answer(self, sent: Sent, refused: tuple[str, ...]) -> bytes:
        assert sent.path == "/v3/mg.example.com/messages"
        form = _form(sent)
        everybody = mailboxes(*form.get("to", []), *form.get("cc", []), *form.get("bcc", []))
        if {address for _, address in everybody} & set(refused):
            return wire.reply(json.dumps({"message": BAD}).encode(), status="400 Bad Request")
        return wire.reply(json.dumps(QUEUED).encode())

    def read(self, sent: Sent) -> list[Delivered]:
        form = _form(sent)
        if "recipient-variables" not in form:
            return [_delivered(form, mailboxes(*form["to"]), {})]
        own = json.loads(form["recipient-variables"][0])
        return [_delivered(form, [to], own[to[1]]) for to in mailboxes(*form["to"])]

    @pytest.mark.parametrize(
        "status, sentence, kind, code",
        [
            (
                "420 Enhance Your Calm",
                "Domain x is not allowed to send: recipient limit exceeded, try again after Mon",
                RateLimited,
                OUT_OF_QUOTA,
            ),
            ("402 Payment Required", "", RateLimited, OUT_OF_QUOTA),
            (
                "403 Forbidden",
                "Domain x is not allowed to send: Free accounts are for test purposes only.",
                PermanentError,
                "not_allowed_to_send",
            ),
            (
                "404 Not Found",
                "Domain not found: x",
                PermanentError,
                "domain_not_found",
            ),
            ("400 Bad Request", BAD, PermanentError, RECIPIENTS_REFUSED),
            ("400 Bad Request", "from parameter is missing", PermanentError, ""),
        ],
    )
    def test_what_refusals_mean(self, status: str, sentence: str, kind: type, code: str) -> None:
        """Mailgun's sentences, told apart."""
        error = self.refused_with(status, {"message": sentence})
        assert type(error) is kind
        assert error.code == code
        assert not error.effect_possible

    def test_a_page_instead_of_an_answer(self) -> None:
        """What Mailgun answers where nobody is at home is no success."""
        page = wire.reply(b"Mailgun Magnificent API")
        error = self.failure("send_email", wire.answers(page))
        assert isinstance(error, OutcomeUnknown)

    def test_the_bad_ones_among_many(self) -> None:
        """They are found by halves; everybody else gets it once."""
        people = [f"p{n}@example.org" for n in range(40)]
        payload = BulkEmail.model_validate(letters.circular(*people))
        reply, taken = self.deliver_refusing(payload, people[0], people[21])
        self.assert_refused(read_receipts(reply.result), people[0], people[21])
        assert sorted(taken) == sorted(set(people) - {people[0], people[21]})

    @pytest.mark.parametrize(
        "answer",
        [
            wire.reply(status="429 Slow Down"),
            wire.reply(b"{}", status="401 Unauthorized"),
        ],
    )
    def test_stopped_on_the_way(self, answer: bytes) -> None:
        """Who was taken by then has it; the rest have a call of their own, and what comes of it."""
        bad = wire.reply(json.dumps({"message": BAD}).encode(), status="400 Bad Request")
        good = wire.reply(json.dumps(QUEUED).encode())
        found = self._bulk(bad, good, answer)
        assert isinstance(found, Reply)
        receipts = read_receipts(found.result)
        assert [(each.accepted, each.code) for each in receipts] == [
            (True, ""), (True, ""), (False, TRY_AGAIN), (False, TRY_AGAIN),
        ]  # fmt: skip

    def test_unknown_on_the_way(self) -> None:
        """Once anything is unknown, nothing is sent again."""
        bad = wire.reply(json.dumps({"message": BAD}).encode(), status="400 Bad Request")
        found = self._bulk(bad, wire.reply(status="502 Bad Gateway"))
        assert isinstance(found, OutcomeUnknown)

    @pytest.mark.parametrize(
        "status, kind", [("429 Slow Down", RateLimited), ("401 Unauthorized", PermanentError)]
    )
    def test_stopped_before_anybody(self, status: str, kind: type) -> None:
        """While nobody was taken, it is the whole call's error, and nobody's own."""
        bad = wire.reply(json.dumps({"message": BAD}).encode(), status="400 Bad Request")
        found = self._bulk(bad, bad, bad, wire.reply(b"", status=status))
        assert isinstance(found, kind)
        assert isinstance(found, DeliveryError)
        assert found.code != RECIPIENTS_REFUSED

    def _bulk(self, *responses: bytes) -> Reply | DeliveryError:
        people = [f"p{n}@example.org" for n in range(4)]
        payload = BulkEmail.model_validate(letters.circular(*people))
        with wire.peer(wire.answers(*responses)) as peer:
            try:
                return self.mail_adapter(peer.url).perform(
                    "send_bulk_email", payload, letters.context()
                )
            except DeliveryError as error:
                return error


METADATA = {"order": "6735", "shop": "main", **letters.MARKS}


class TestAgainstAnymail:
    """The same request, part by part."""

    def sent(self, payload: Email | BulkEmail) -> Wire:
        _, [sent] = TestMailgun().play(payload)
        return Wire.read(sent.path, sent.headers, sent.body)

    def anymail(self, message: Any) -> Wire:
        url = "https://api.mailgun.net/v3"
        backend = EmailBackend(api_key=KEY, sender_domain="mg.example.com", api_url=url)
        return sent_by_anymail(backend, f"{url}/mg.example.com/messages", QUEUED, message)

    def test_a_letter(self) -> None:
        """With everything a message can have."""
        ours = self.sent(Email.model_validate(letters.letter()))
        assert ours == self.anymail(anymail_letter(metadata=METADATA))

    def test_a_letter_without_files(self) -> None:
        """Then it is a plain form."""
        fields = letters.letter(attachments=[])
        message = anymail_letter(metadata=METADATA)
        message.attachments = []
        assert self.sent(Email.model_validate(fields)) == self.anymail(message)

    def test_a_circular(self) -> None:
        """With recipient variables."""
        fields = letters.letter(text="Dear {{name}}", html="<p>{{name}}")
        for name in ("to", "cc", "bcc"):
            del fields[name]
        people = [{"address": f"p{n}@example.org", "variables": {"name": f"<{n}>"}} for n in "12"]
        ours = self.sent(BulkEmail.model_validate({**fields, "recipients": people}))
        mark = hashlib.sha256(letters.KEY.encode()).hexdigest()[:12]
        message = anymail_letter(
            to=["p1@example.org", "p2@example.org"],
            cc=[],
            bcc=[],
            body=f"Dear %recipient.{mark}_t_name%",
            metadata=METADATA,
            merge_data={
                f"p{n}@example.org": {
                    f"{mark}_t_name": f"<{n}>",
                    f"{mark}_h_name": f"&lt;{n}&gt;",
                }
                for n in "12"
            },
        )
        message.alternatives = []
        message.attach_alternative(f"<p>%recipient.{mark}_h_name%", "text/html")
        assert ours == self.anymail(message)


def _form(sent: Sent) -> dict[str, list[Any]]:
    form: dict[str, list[Any]] = {}
    for name, *value in form_of(sent.headers["content-type"], sent.body):
        form.setdefault(name, []).append(value[0] if len(value) == 1 else tuple(value))
    return form


def _delivered(
    form: dict[str, list[Any]], to: list[tuple[str, str]], own: dict[str, str]
) -> Delivered:
    """Mailgun puts values in the variables' stead."""

    def filled(text: str) -> str:
        for name, value in own.items():
            text = text.replace(f"%recipient.{name}%", value)
        return text

    variables = {name[2:]: value[0] for name, value in form.items() if name.startswith("v:")}
    return Delivered(
        sender=mailboxes(*form["from"])[0],
        to=to,
        cc=mailboxes(*form.get("cc", [])),
        bcc=mailboxes(*form.get("bcc", [])),
        reply_to=mailboxes(*form.get("h:Reply-To", [])),
        subject=filled(form["subject"][0]),
        text=filled(form.get("text", [""])[0]),
        html=filled(form.get("html", [""])[0]),
        headers={
            name[2:]: value[0]
            for name, value in form.items()
            if name.startswith("h:") and name != "h:Reply-To"
        },
        files=[
            (name, kind.partition(";")[0], content, name if field == "inline" else "")
            for field in ("attachment", "inline")
            for name, kind, content in form.get(field, [])
        ],
        marks={key: variables.pop(key) for key in letters.MARKS},
        metadata=variables,
        tags=form.get("o:tag", []),
    )
