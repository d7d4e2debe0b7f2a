"""The adapters for email against a sandbox, which somebody else wrote from the providers' pages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.module_loading import import_string

from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.replies import (
    OUT_OF_QUOTA,
    RECIPIENTS_REFUSED,
    Receipt,
    read_receipts,
)
from outbound.adapters import Reply
from outbound.client import HttpClient
from outbound.errors import DeliveryError, OutcomeUnknown, PermanentError, RateLimited
from sandbox.control import Sandbox
from tests.notifications.adapters import letters

OPTIONS: dict[str, dict[str, Any]] = {
    "mailgun.MailgunAdapter": {"API_KEY": "key-0123456789abcdef", "DOMAIN": "mg.example.com"},
    "postmark.PostmarkAdapter": {"SERVER_TOKEN": "01234567-89ab-cdef-0123-456789abcdef"},
    "resend.ResendAdapter": {"API_KEY": "re_0123456789_abcdef"},
    "sendgrid.SendGridAdapter": {"API_KEY": "SG.0123456789abcdef.0123456789abcdef"},
    "ses.SesAdapter": {
        "ACCESS_KEY_ID": "AKIDEXAMPLE", "SECRET_ACCESS_KEY": "sEcReT", "REGION": "eu-west-1",
    },
    "smtp.SmtpAdapter": {},
}  # fmt: skip
HTTP = [path for path in OPTIONS if "Smtp" not in path]

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1, smtp_port=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    running.change_provider("ses", credentials=["AKIDEXAMPLE:sEcReT"])
    return running


def send(sandbox: Sandbox, path: str, payload: Email | BulkEmail) -> Reply | DeliveryError:
    name = path.partition(".")[0]
    place = (
        {"HOST": "127.0.0.1", "PORT": sandbox.smtp_port}
        if name == "smtp"
        else {"API_BASE": f"{sandbox.url}/{name}"}
    )
    adapter = import_string(f"notifications.adapters.{path}")(
        name=name, options={**OPTIONS[path], **place}, http=HttpClient(provider=name)
    )
    operation = "send_email" if isinstance(payload, Email) else "send_bulk_email"
    try:
        found: Reply = adapter.perform(operation, payload, letters.context())
    except DeliveryError as error:
        return error
    return found


def receipts_of(found: Reply | DeliveryError) -> list[Receipt]:
    assert isinstance(found, Reply), found
    return read_receipts(found.result)


@pytest.mark.parametrize("path", OPTIONS)
def test_a_letter(sandbox: Sandbox, path: str) -> None:
    """Everybody gets it once, whole."""
    receipts = receipts_of(send(sandbox, path, Email.model_validate(letters.letter())))
    assert all(receipt.accepted for receipt in receipts)
    messages = {message.recipient: message for message in sandbox.messages()}
    assert sorted(messages) == sorted(receipt.address for receipt in receipts)
    assert len(sandbox.ledger(call=letters.CALL_ID, key=letters.KEY)) == len(receipts)
    got = messages["jo@example.org"]
    assert got.subject == letters.SUBJECT
    assert got.text.replace("\r\n", "\n").rstrip() == letters.TEXT.rstrip()
    assert got.html.rstrip() == letters.HTML
    contents = [letters.PDF, letters.CSV, letters.PNG]
    assert [file["sha256"] for file in got.attachments] == [
        hashlib.sha256(content).hexdigest() for content in contents
    ]
    for receipt in receipts:
        if path != "smtp.SmtpAdapter":
            assert messages[receipt.address].object in receipt.message_id


@pytest.mark.parametrize("path", OPTIONS)
def test_a_circular(sandbox: Sandbox, path: str) -> None:
    """Each has their own words; one is refused, and fails nobody."""
    people = ["jo@example.org", "bad+x@example.org", "plain@example.org"]
    if path == "smtp.SmtpAdapter":
        people = people[:1]
    recipients = [
        {"address": each, "variables": {"name": f"<{each}> {{{{x}}}} $1"}} for each in people
    ]
    fields = letters.circular(html="<p>{{name}}</p> {{ No! }} }}", recipients=recipients)
    receipts = receipts_of(send(sandbox, path, BulkEmail.model_validate(fields)))
    good = [address for address in people if not address.startswith("bad+")]
    assert sorted(each.address for each in receipts if each.accepted) == sorted(good)
    messages = {message.recipient: message for message in sandbox.messages()}
    assert sorted(messages) == sorted(good)
    assert len(sandbox.ledger()) == len(good)
    for address in good:
        got = messages[address]
        assert got.subject == f"For <{address}> {{{{x}}}} $1"
        assert got.text.strip() == f"Dear <{address}> {{{{x}}}} $1, thank you."
        assert got.html.strip() == f"<p>&lt;{address}&gt; {{{{x}}}} $1</p> {{{{ No! }}}} }}}}"


@pytest.mark.parametrize("path", OPTIONS)
def test_nobody_left(sandbox: Sandbox, path: str) -> None:
    """The recipient is refused, not the provider."""
    found = send(sandbox, path, Email.model_validate(letters.note("bad+x@example.org")))
    assert isinstance(found, PermanentError)
    assert found.code == RECIPIENTS_REFUSED
    assert sandbox.ledger() == []


@pytest.mark.parametrize("path", HTTP)
@pytest.mark.parametrize("bulk", [False, True])
def test_out_of_quota(sandbox: Sandbox, path: str, bulk: bool) -> None:
    """In each provider's own words for it."""
    sandbox.change_provider(path.partition(".")[0], out_of_quota=True)
    payload: Email | BulkEmail = Email.model_validate(letters.note("jo@example.org"))
    if bulk:
        payload = BulkEmail.model_validate(letters.circular("jo@example.org"))
    found = send(sandbox, path, payload)
    assert isinstance(found, RateLimited)
    assert found.code == OUT_OF_QUOTA


@pytest.mark.parametrize("path", OPTIONS)
def test_the_answer_is_lost(sandbox: Sandbox, path: str) -> None:
    """Accepted once, and not known to us: only who has keys may be asked again, and has it once."""
    sandbox.add_fault("drop_after_effect", path="/smtp/data" if "smtp" in path else "")
    payload = Email.model_validate(letters.note("jo@example.org"))
    assert isinstance(send(sandbox, path, payload), OutcomeUnknown)
    if path == "resend.ResendAdapter":
        assert isinstance(send(sandbox, path, payload), Reply)
    assert len(sandbox.ledger()) == 1
