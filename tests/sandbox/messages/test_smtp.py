"""SMTP: the conversation, what is refused in it, and where it can break."""

from __future__ import annotations

import hashlib
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from sandbox.control import Sandbox

pytestmark = pytest.mark.faults
GOOD = ["ada@example.com", "bob@example.com"]


@pytest.fixture
def server(sandbox: Sandbox, running: Sandbox) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", running.smtp_port or 0, timeout=20) as server:
        yield server


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", GOOD[0], "Grüße"
    message["X-Holdfast-Call"], message["X-Holdfast-Key"] = "call-1", "key-1"
    message.set_content("Thanks\n.\n..two dots\n")
    message.add_alternative("<p>Thanks</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="r.pdf")
    return message


def test_a_message(server: smtplib.SMTP, sandbox: Sandbox) -> None:
    """One effect for each recipient of the envelope; headers, bodies and files can be read."""
    server.login("user", "password")
    assert server.send_message(mail(), to_addrs=GOOD) == {}
    effects = sandbox.ledger(call="call-1")
    assert [effect.recipient for effect in effects] == GOOD
    assert {(e.provider, e.kind, e.key) for e in effects} == {("smtp", "email.accepted", "key-1")}
    (message,) = sandbox.messages(to=GOOD[1])
    assert (message.subject, message.to) == ("Grüße", GOOD[:1])
    assert message.text == "Thanks\n.\n..two dots\n"
    assert message.html.strip() == "<p>Thanks</p>"
    assert message.attachments[0]["sha256"] == hashlib.sha256(b"%PDF").hexdigest()


def test_two_messages_and_a_reset(server: smtplib.SMTP, sandbox: Sandbox) -> None:
    """A connection carries one message after the other; RSET forgets one."""
    server.send_message(mail())
    server.ehlo()
    server.mail("shop@example.com")
    server.rset()
    assert server.rcpt("ada@example.com")[0] == 503
    server.send_message(mail())
    assert len(sandbox.ledger()) == 2


def test_a_refused_recipient(server: smtplib.SMTP, sandbox: Sandbox) -> None:
    """550 for that one, and the others get it; all refused, and nobody does."""
    refused = server.send_message(mail(), to_addrs=["bad+x@example.com", *GOOD])
    assert list(refused) == ["bad+x@example.com"]
    assert refused["bad+x@example.com"][0] == 550
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        server.send_message(mail(), to_addrs=["bad+x@example.com"])
    assert len(sandbox.ledger()) == 2


def test_greylisting(server: smtplib.SMTP, sandbox: Sandbox) -> None:
    """A 451 for one recipient, once."""
    sandbox.add_fault("status", status=451, path="/smtp/rcpt")
    assert server.send_message(mail(), to_addrs=GOOD)[GOOD[0]][0] == 451
    assert server.send_message(mail(), to_addrs=GOOD) == {}


def test_credentials_and_quota(server: smtplib.SMTP, sandbox: Sandbox) -> None:
    """Log-in is compared where it was told with what, and a quota speaks as servers do."""
    sandbox.change_provider("smtp", credentials=["user:right"])
    with pytest.raises(smtplib.SMTPAuthenticationError):
        server.login("user", "wrong")
    server.login("user", "right")
    sandbox.change_provider("smtp", out_of_quota=True)
    with pytest.raises(smtplib.SMTPSenderRefused, match=r"5\.4\.5"):
        server.send_message(mail())


@pytest.mark.parametrize(
    "fault, path, effects",
    [
        ("drop_before_effect", "/smtp/begin", 0),  # in the middle of the content
        ("drop_before_effect", "/smtp/data", 0),  # after the final dot
        ("drop_after_effect", "/smtp/data", 2),
    ],
)
def test_a_lost_connection(
    server: smtplib.SMTP, sandbox: Sandbox, fault: str, path: str, effects: int
) -> None:
    """Before the final dot nothing has happened; after it, who knows."""
    sandbox.add_fault(fault, path=path)
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        server.send_message(mail(), to_addrs=GOOD)
    assert len(sandbox.ledger()) == effects


def test_a_refusal_at_the_end_and_a_slow_answer(server: smtplib.SMTP, sandbox: Sandbox) -> None:
    """The whole message can be refused after its last dot; an answer can come letter by letter."""
    sandbox.add_fault("status", status=554, path="/smtp/data")
    with pytest.raises(smtplib.SMTPDataError, match="554"):
        server.send_message(mail())
    sandbox.add_fault("drip", seconds=0.001, path="/smtp/data")
    assert server.send_message(mail()) == {}
    assert len(sandbox.ledger()) == 1


def test_a_server_that_is_down(sandbox: Sandbox, running: Sandbox) -> None:
    """421 in place of a greeting."""
    sandbox.change_provider("smtp", down="unavailable")
    with pytest.raises(smtplib.SMTPConnectError, match="421"):
        smtplib.SMTP("127.0.0.1", running.smtp_port or 0, timeout=20)
