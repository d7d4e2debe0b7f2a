"""The SMTP adapter keeps to what all for email keep to, and knows what a server has taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.replies import (
    OUT_OF_QUOTA,
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    read_receipts,
)
from notifications.adapters.smtp import SmtpAdapter
from outbound.adapters import Reply
from outbound.client import HttpClient, Timeouts
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from tests.contracts.mail import MailContract
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered, read_mime
from tests.notifications.adapters.mailserver import HANG_UP, SILENCE, MailServer, mail_server
from tests.outbound import wire

PASSWORD = "contract-password"
JO, PLAIN = "jo@example.org", "plain@example.org"
SHORT = Timeouts(connect=10, read=0.3, total=20)
SHORT_TOTAL = Timeouts(connect=10, read=10, total=0.3)


def adapter(port: int, **options: Any) -> MessageAdapter:
    return SmtpAdapter(
        name="smtp",
        options={"HOST": "127.0.0.1", "PORT": port, **options},
        http=HttpClient(provider="smtp"),
    )


class TestSmtp(MailContract):
    """https://www.rfc-editor.org/rfc/rfc5321"""

    adapter_class = SmtpAdapter
    keeps_tags = False

    def mail_adapter(self, url: str = "") -> MessageAdapter:
        return adapter(9)

    def deliver(self, payload: Email | BulkEmail) -> tuple[Reply, list[Delivered]]:
        operation = "send_email" if isinstance(payload, Email) else "send_bulk_email"
        with mail_server() as server:
            reply = adapter(server.port).perform(operation, payload, letters.context())
        return reply, [_read(*message) for message in server.messages]

    def deliver_refusing(
        self, payload: Email | BulkEmail, *refused: str
    ) -> tuple[Reply, list[str]]:
        operation = "send_email" if isinstance(payload, Email) else "send_bulk_email"
        with mail_server(dict.fromkeys(refused, b"550 5.1.1 no such mailbox\r\n")) as server:
            reply = adapter(server.port).perform(operation, payload, letters.context())
        return reply, [address for _, people, _ in server.messages for address in people]


def _read(sender: str, people: list[str], content: bytes) -> Delivered:
    got = read_mime(content)
    assert sender == got.sender[1]
    assert b"audit@example.org" not in content
    shown = [address for _, address in (*got.to, *got.cc)]
    got.bcc = [("", address) for address in people if address not in shown]
    return got


def send(
    answers: Mapping[str, bytes | None],
    *,
    timeouts: Timeouts | None = None,
    drips: bool = False,
    **options: Any,
) -> tuple[Reply | DeliveryError, MailServer]:
    """A message to two, with a server that answers so."""
    payload = Email.model_validate(letters.note(JO, PLAIN))
    with mail_server(answers, drips=drips) as server:
        try:
            found: Reply | DeliveryError = adapter(server.port, **options).perform(
                "send_email", payload, letters.context(timeouts)
            )
        except DeliveryError as error:
            found = error
    if isinstance(found, DeliveryError):
        for private in (JO, PLAIN, PASSWORD):
            assert private not in found.message
    return found, server


PERMANENT = (PermanentError, False)
TRANSIENT = (TransientError, False)
UNKNOWN = (OutcomeUnknown, True)


@pytest.mark.parametrize(
    "step, answer, outcome, code",
    [
        ("CONNECT", b"421 too busy\r\n", TRANSIENT, "421"),
        ("CONNECT", b"554 5.7.1 not from there\r\n", PERMANENT, "5.7.1"),
        ("CONNECT", HANG_UP, TRANSIENT, ""),
        ("EHLO", HANG_UP, TRANSIENT, ""),
        ("MAIL", b"451 4.3.0 later\r\n", TRANSIENT, "4.3.0"),
        ("MAIL", b"550 5.7.1 who are you, shop@example.com\r\n", PERMANENT, "5.7.1"),
        ("MAIL", b"530 log in\r\n", PERMANENT, "530"),
        ("MAIL", b"nonsense\r\n", TRANSIENT, ""),
        ("MAIL", HANG_UP, TRANSIENT, ""),
        ("RCPT", b"450 4.2.0 greylisted\r\n", TRANSIENT, "4.2.0"),
        ("RCPT", b"550 5.1.1 no jo@example.org\r\n", PERMANENT, RECIPIENTS_REFUSED),
        ("RCPT", b"550 no jo@example.org\r\n", PERMANENT, RECIPIENTS_REFUSED),
        ("RCPT", b"550 5.7.1 relaying denied\r\n", PERMANENT, "5.7.1"),
        ("RCPT", b"554 relaying denied\r\n", PERMANENT, "554"),
        ("RCPT", b"421 enough\r\n", TRANSIENT, "421"),
        ("RCPT", HANG_UP, TRANSIENT, ""),
        ("DATA", b"451 4.3.0 later\r\n", TRANSIENT, "4.3.0"),
        ("DATA", b"554 5.5.1 no\r\n", PERMANENT, "5.5.1"),
        ("DATA", HANG_UP, UNKNOWN, ""),
        ("CONTENT", b"451 4.7.1 later\r\n", TRANSIENT, "4.7.1"),
        ("CONTENT", b"552 5.3.4 too large\r\n", PERMANENT, "5.3.4"),
        ("CONTENT", b"nonsense\r\n", UNKNOWN, ""),
        ("CONTENT", b"5" * 9000 + b"\r\n", UNKNOWN, ""),
        ("CONTENT", HANG_UP, UNKNOWN, ""),
    ],
)
def test_what_answers_mean(step: str, answer: bytes, outcome: tuple[type, bool], code: str) -> None:
    """Before the message is on its way nothing has happened; after that only the server knows; and
    what it says, counts."""
    found, server = send({step: answer})
    assert isinstance(found, DeliveryError)
    assert (type(found), found.effect_possible) == outcome
    assert found.code == code
    if not found.effect_possible:
        assert server.messages == []


@pytest.mark.parametrize("step, outcome", [("MAIL", TRANSIENT), ("CONTENT", UNKNOWN)])
def test_silence(step: str, outcome: tuple[type, bool]) -> None:
    """No answer within the read timeout."""
    found, _ = send({step: SILENCE}, timeouts=SHORT)
    assert isinstance(found, DeliveryError)
    assert (type(found), found.effect_possible) == outcome


def test_drip() -> None:
    """A server that drips is cut by the total deadline."""
    found, _ = send({}, timeouts=SHORT_TOTAL, drips=True)
    assert type(found) is TransientError


def test_nobody_listens() -> None:
    """Nothing was sent."""
    payload = Email.model_validate(letters.note(JO))
    with pytest.raises(TransientError) as caught:
        adapter(wire.closed_port()).perform("send_email", payload, letters.context())
    assert not caught.value.effect_possible


@pytest.mark.parametrize(
    "step, answer",
    [
        ("MAIL", b"454 Throttling failure: Daily message quota exceeded.\r\n"),
        ("RCPT", b"550 5.4.5 Daily user sending limit exceeded.\r\n"),
        ("CONTENT", b"550-5.4.5 Daily user sending limit exceeded. For more\r\n550 5.4.5 x\r\n"),
    ],
)
def test_out_of_quota(step: str, answer: bytes) -> None:
    """Nothing more from us today: somebody else may be asked."""
    found, _ = send({step: answer})
    assert type(found) is RateLimited
    assert found.code == OUT_OF_QUOTA


def test_a_full_mailbox_is_not_our_quota() -> None:
    """That is the recipient's."""
    found, _ = send({"RCPT": b"552 5.2.2 mailbox full, quota exceeded\r\n"})
    assert isinstance(found, PermanentError)
    assert found.code == RECIPIENTS_REFUSED


def test_each_recipient_has_an_answer() -> None:
    """One is refused, one is for later, and the third has it."""
    payload = Email.model_validate(letters.note(JO, PLAIN, "books@example.org"))
    answers = {PLAIN: b"550 5.1.1 no plain@example.org\r\n", JO: b"450 4.2.0 greylisted\r\n"}
    with mail_server(answers) as server:
        reply = adapter(server.port).perform("send_email", payload, letters.context())
    receipts = {each.address: each for each in read_receipts(reply.result)}
    assert (receipts[PLAIN].accepted, receipts[PLAIN].code) == (False, "5.1.1")
    assert "@" not in receipts[PLAIN].reason
    assert (receipts[JO].accepted, receipts[JO].code) == (False, TRY_AGAIN)
    assert receipts["books@example.org"].accepted
    assert [people for _, people, _ in server.messages] == [["books@example.org"]]


def test_logging_in() -> None:
    """With user and password; who is not let in has done nothing."""
    found, server = send({"AUTH": b"235 welcome\r\n"}, USER="shop", PASSWORD=PASSWORD)
    assert isinstance(found, Reply)
    assert any(command.startswith("AUTH PLAIN ") for command in server.commands)
    found, _ = send({"AUTH": b"535 5.7.8 no\r\n"}, USER="shop", PASSWORD=PASSWORD)
    assert isinstance(found, PermanentError)
    assert not found.conclusive


def test_a_server_without_tls() -> None:
    """Where TLS is wanted, nothing goes over the wire without it."""
    without = {"EHLO": b"250 mail.example.com\r\n"}
    found, server = send(without, USE_TLS=True)
    assert isinstance(found, PermanentError)
    assert not found.conclusive
    assert server.messages == []
    found, _ = send({}, timeouts=SHORT, USE_SSL=True)
    assert type(found) is TransientError


@pytest.mark.parametrize("option", ["USE_TLS", "USE_SSL"])
def test_inside_tls(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that can prove itself gets the message; another one gets nothing."""
    tls, certificate = wire.self_signed(tmp_path)
    payload = Email.model_validate(letters.note(JO))
    with mail_server(tls=tls, encrypted=option == "USE_SSL") as server:
        sender = adapter(server.port, **{option: True})
        with pytest.raises(TransientError) as caught:
            sender.perform("send_email", payload, letters.context())
        assert not caught.value.effect_possible
        assert server.messages == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sender.perform("send_email", payload, letters.context())
    assert [people for _, people, _ in server.messages] == [[JO]]
    assert any(command.startswith("ehlo") for command in server.commands)


def test_the_same_id_for_each_attempt() -> None:
    """A server that gets a message twice may notice; another message has another id."""
    payload = Email.model_validate(letters.note(JO))
    other = Email.model_validate(letters.note(PLAIN))
    with mail_server() as server:
        ids = [
            adapter(server.port).perform("send_email", each, letters.context()).provider_reference
            for each in (payload, payload, other)
        ]
    assert ids[0] == ids[1] != ids[2]
    assert all(ids[n].encode() in content for n, (_, _, content) in enumerate(server.messages))
