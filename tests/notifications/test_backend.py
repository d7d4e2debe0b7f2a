"""EMAIL_BACKEND: what Django's own mail tests ask of a backend, asked of ours."""

from __future__ import annotations

from collections.abc import Callable
from email.mime.application import MIMEApplication
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives, mail_admins, send_mass_mail
from django.db import OperationalError, transaction
from django.test import override_settings
from django.utils.translation import gettext_lazy

from notifications import services
from notifications.models import Message
from notifications.states import Channel
from outbound.blobs import read_blob
from outbound.errors import InvalidPayload
from outbound.models import OutboundCall
from tests.notifications.conftest import Providers

pytestmark = pytest.mark.django_db

FROM, TO = "from@example.com", "to@example.com"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def backend(settings: LazySettings, providers: Providers) -> None:
    settings.EMAIL_BACKEND = "notifications.backend.DurableEmailBackend"


@pytest.fixture
def sent(providers: Providers) -> Callable[..., dict[str, Any]]:
    """Send a message, let a worker deliver it, and return what the provider was asked."""

    def send(email: EmailMessage) -> dict[str, Any]:
        assert email.send() == 1
        providers.work()
        return providers.first.seen[-1].payload

    return send


def email(**changes: Any) -> EmailMultiAlternatives:
    asked = {"subject": "Subject", "body": "Content", "from_email": FROM, "to": [TO], **changes}
    return EmailMultiAlternatives(**asked)


def files(asked: dict[str, Any]) -> list[tuple[str, str, bytes]]:
    return [
        (each["name"], each["content_type"], read_blob(each["digest"]))
        for each in asked["attachments"]
    ]


def test_send_mail(providers: Providers) -> None:
    """Text and HTML, and the number of messages that were taken."""
    assert mail.send_mail("Subject", "Content", FROM, [TO], html_message="<p>Content</p>") == 1
    providers.work()
    asked = providers.first.seen[0].payload
    assert (asked["text"], asked["html"]) == ("Content", "<p>Content</p>")
    assert asked["sender"] == {"address": FROM, "name": ""}


def test_many_in_one_connection(providers: Providers) -> None:
    """Each is a message of its own."""
    assert send_mass_mail([("One", "1", FROM, [TO]), ("Two", "2", FROM, [TO])]) == 2
    assert Message.objects.count() == 2


def test_nobody_to_send_to(providers: Providers) -> None:
    """Is no message, and no error."""
    assert email(to=[]).send() == 0
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_inside_the_callers_transaction(providers: Providers) -> None:
    """It exists if and only if that commits."""
    with transaction.atomic():
        email().send()
        transaction.set_rollback(True)
    assert not Message.objects.exists()
    assert not OutboundCall.objects.exists()


def test_default_sender(sent: Callable[..., Any]) -> None:
    """DEFAULT_FROM_EMAIL, with its name."""
    assert sent(email(from_email=None))["sender"] == {"address": "shop@example.com", "name": "Shop"}


@pytest.mark.parametrize(
    "given,expected",
    [
        ('"Firstname Sürname" <to@example.com>', ("to@example.com", "Firstname Sürname")),
        ("Firstname <to@example.com>", ("to@example.com", "Firstname")),
        ('"Lastname, First \\"Nick\\"" <to@example.com>', (TO, 'Lastname, First "Nick"')),
        ("to@éxample.com", ("to@xn--xample-9ua.com", "")),
        ("<to@example.com>", (TO, "")),
    ],
)
def test_addresses(sent: Callable[..., Any], given: str, expected: tuple[str, str]) -> None:
    """Names that need quoting, that are not ASCII, and international domains."""
    (asked,) = sent(email(to=[given]))["to"]
    assert (asked["address"], asked["name"]) == expected


def test_cc_bcc_and_reply_to(sent: Callable[..., Any]) -> None:
    """Each in its place."""
    asked = sent(
        email(cc=["cc@example.com"], bcc=["bcc@example.com"], reply_to=["Help <h@example.com>"])
    )
    assert asked["cc"][0]["address"] == "cc@example.com"
    assert asked["bcc"][0]["address"] == "bcc@example.com"
    assert asked["reply_to"] == [{"address": "h@example.com", "name": "Help"}]


def test_headers(sent: Callable[..., Any]) -> None:
    """Other headers go along; From and Reply-To overrule the fields, whatever their case."""
    asked = sent(
        email(headers={"from": "Other <other@example.com>", "reply-to": TO, "X-Campaign": "summer"})
    )
    assert asked["sender"] == {"address": "other@example.com", "name": "Other"}
    assert asked["reply_to"] == [{"address": TO, "name": ""}]
    assert asked["headers"] == {"X-Campaign": "summer"}


def test_only_in_copy(sent: Callable[..., Any]) -> None:
    """Providers want somebody to address: those in copy are, then."""
    assert sent(email(to=[], cc=["cc@example.com"]))["to"][0]["address"] == "cc@example.com"


def test_only_blind_copies(providers: Providers) -> None:
    """Each gets a message of their own, and sees nobody else."""
    email(to=[], bcc=["a@example.com", "b@example.com"]).send()
    providers.work()
    assert [[each["address"] for each in seen.payload["to"]] for seen in providers.first.seen] == [
        ["a@example.com"],
        ["b@example.com"],
    ]


def test_lazy_and_foreign_text(sent: Callable[..., Any]) -> None:
    """Lazy translations, and any script."""
    asked = sent(email(subject=gettext_lazy("Grüße 世界"), body=gettext_lazy("Добрый день")))
    assert (asked["subject"], asked["text"]) == ("Grüße 世界", "Добрый день")


def test_html_only(sent: Callable[..., Any]) -> None:
    """content_subtype says that the body is HTML."""
    message = email(body="<p>Hi</p>")
    message.content_subtype = "html"
    asked = sent(message)
    assert (asked["html"], asked["text"]) == ("<p>Hi</p>", "")


def test_alternatives(sent: Callable[..., Any]) -> None:
    """HTML is the HTML body; what no provider knows goes along as a file."""
    message = email()
    message.attach_alternative("<p>Hi</p>", "text/html")
    message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    asked = sent(message)
    assert asked["html"] == "<p>Hi</p>"
    ((name, kind, content),) = files(asked)
    assert (name, kind, content) == (
        "attachment-1.ics",
        "text/calendar; charset=utf-8",
        b"BEGIN:VCALENDAR",
    )


def test_attachments(sent: Callable[..., Any], tmp_path: Path) -> None:
    """Bytes, text, a file of the disk, a name that is not ASCII, none at all; unchanged."""
    (tmp_path / "notes.txt").write_text("Zürich")
    message = email()
    message.attach("an attachment.pdf", b"%PDF-1.4.%...", mimetype="application/pdf")
    message.attach("une pièce jointe.csv", "a;é", mimetype="text/csv")
    message.attach_file(str(tmp_path / "notes.txt"))
    message.attach(content=b"\x00\xff", mimetype="application/x-thing", filename=None)
    message.attach("binary.txt", b"\xff\xfe")
    assert files(sent(message)) == [
        ("an attachment.pdf", "application/pdf", b"%PDF-1.4.%..."),
        ("une pièce jointe.csv", "text/csv; charset=utf-8", "a;é".encode()),
        ("notes.txt", "text/plain; charset=utf-8", "Zürich".encode()),
        ("attachment-4", "application/x-thing", b"\x00\xff"),
        ("binary.txt", "application/octet-stream", b"\xff\xfe"),
    ]


def test_mime_parts(sent: Callable[..., Any]) -> None:
    """What the caller built: an inline image keeps its Content-ID, a text its charset."""
    image = MIMEImage(PNG, "png")
    image["Content-ID"] = "<logo>"
    image["Content-Disposition"] = "inline; filename=logo.png"
    message = email(attachments=[image, MIMEText("é", "plain", "iso-8859-1")])
    message.attach(MIMEApplication(b"\x00", name="x"))
    asked = sent(message)
    assert [each["content_id"] for each in asked["attachments"]] == ["logo", "", ""]
    assert files(asked) == [
        ("logo.png", "image/png", PNG),
        ("attachment-2.txt", "text/plain; charset=iso-8859-1", "é".encode("latin-1")),
        ("x", "application/octet-stream", b"\x00"),
    ]


def test_a_message_in_a_message(sent: Callable[..., Any]) -> None:
    """An EmailMessage and an email.Message as attachment are the message as it would be sent."""
    inner = EmailMessage("Inner", "the inner text", FROM, [TO])
    message = email()
    message.attach("inner.eml", inner, "message/rfc822")
    message.attach(None, inner.message(), "message/rfc822")
    found = files(sent(message))
    assert [name for name, _, _ in found] == ["inner.eml", "attachment-2.eml"]
    assert all(b"the inner text" in content for _, _, content in found)


def test_tags_and_metadata(sent: Callable[..., Any]) -> None:
    """As attributes of the message, the way other backends read them."""
    message: Any = email()
    message.tags, message.metadata = ["receipt"], {"order": "7"}
    asked = sent(message)
    assert (asked["tags"], asked["metadata"]) == (["receipt"], {"order": "7"})


@pytest.mark.parametrize(
    "changes,pointer",
    [
        ({"subject": "a\nBcc: x@example.com"}, "/subject"),
        ({"subject": "a\r"}, "/subject"),
        ({"to": ["to@example.com\nBcc: x@example.com"]}, "/to/0"),
        ({"to": ["nobody"]}, "/to/0/address"),
        ({"to": ["a@example.com, b@example.com"]}, "/to/0/address"),
        ({"from_email": "no address"}, "/sender/address"),
        ({"headers": {"X-A": "1\r\nBcc: x@example.com"}}, "/headers"),
        ({"headers": {"Bcc": "x@example.com"}}, "/headers"),
        ({"headers": {"To": "list@example.com"}}, "/headers"),
        ({"headers": {"X A": "1"}}, "/headers"),
        ({"body": ""}, ""),
        ({"body": "\x00"}, "/text"),
        ({"to": [f"p{n}@example.com" for n in range(51)]}, "/to"),
    ],
)
def test_what_cannot_be_sent(changes: dict[str, Any], pointer: str) -> None:
    """A ValueError with the field, and nothing is stored; with fail_silently nothing is counted."""
    with pytest.raises(InvalidPayload) as caught:
        email(**changes).send()
    assert isinstance(caught.value, ValueError)
    assert caught.value.errors[0].pointer == pointer
    assert email(**changes).send(fail_silently=True) == 0
    assert not Message.objects.exists()


def test_the_others_of_a_mass_mail(providers: Providers) -> None:
    """With fail_silently one that cannot be sent takes no other along."""
    batch = [("A\n", "1", FROM, [TO]), ("B", "2", FROM, [TO])]
    assert send_mass_mail(batch, fail_silently=True) == 1


def test_a_database_that_is_away_is_not_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller would believe that it was stored."""

    def away(**_: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("notifications.backend.send_email", away)
    with pytest.raises(OperationalError):
        email().send(fail_silently=True)


def test_password_reset(providers: Providers) -> None:
    """Django's own mail is durable, too."""
    User.objects.create_user("ann", "ann@example.com", "a-long-password-1")
    form = PasswordResetForm({"email": "ann@example.com"})
    assert form.is_valid()
    _reset(form)
    providers.work()
    (seen,) = providers.first.seen
    assert seen.payload["to"] == [{"address": "ann@example.com", "name": ""}]
    assert "Password reset" in seen.payload["subject"]


def _reset(form: PasswordResetForm) -> None:
    with override_settings(ROOT_URLCONF="django.contrib.auth.urls"):
        form.save(
            domain_override="shop.example.com",
            subject_template_name="registration/password_reset_subject.txt",
            email_template_name="registration/password_reset_subject.txt",
        )


@override_settings(ADMINS=[("Ops", "ops@example.com")], SERVER_EMAIL="server@example.com")
def test_mail_admins(providers: Providers) -> None:
    """Reports to admins as well."""
    mail_admins("Trouble", "Content", html_message="<p>Content</p>")
    message = Message.objects.get()
    assert message.content["sender"]["address"] == "server@example.com"


def test_who_is_suppressed_gets_nothing(providers: Providers) -> None:
    """It counts as taken: the caller cannot do anything about it, and the row says why."""
    services.suppress(channel=Channel.EMAIL, address=TO)
    assert email().send() == 1
    assert not OutboundCall.objects.exists()
