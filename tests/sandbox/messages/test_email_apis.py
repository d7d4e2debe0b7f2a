"""What Mailgun, Amazon SES, Postmark and Resend each have of their own."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from typing import Any
from urllib.parse import urlencode

import pytest

from sandbox.control import Sandbox
from tests.house.polling import wait_until
from tests.sandbox.api import Api
from tests.sandbox.messages.requests import (
    FORM,
    MARKS,
    SENDER,
    basic,
    mailgun,
    postmark,
    resend,
    ses,
    signed_head,
)
from tests.sandbox.messages.wire import post_json

pytestmark = pytest.mark.faults
ADA, BOB, BAD, GONE = (f"{n}@example.com" for n in ("ada", "bob", "bad+x", "gone+x"))


def test_mailgun_fills_in_each_recipients_words(api: Api, sandbox: Sandbox) -> None:
    """Recipient variables, in subject, bodies and custom variables; all under one id."""
    sent = mailgun(
        api,
        [ADA, BOB],
        subject="For %recipient.name%",
        html="<p>%recipient.name%</p>",
        **{
            "recipient-variables": json.dumps({ADA: {"name": "Ada"}, BOB: {"name": "Bob"}}),
            "v:who": "%recipient.name%",
        },
    )
    assert sent.json["id"].startswith("<")
    (message,) = sandbox.messages(to=BOB)
    assert (message.subject, message.html) == ("For Bob", "<p>Bob</p>")
    assert (message.to, message.metadata["who"]) == ([BOB], "Bob")
    assert {effect.object for effect in sandbox.ledger()} == {sent.json["id"].strip("<>")}


def test_mailgun_takes_files(api: Api, sandbox: Sandbox) -> None:
    """A form in parts, with bytes that are no text."""
    content = bytes(range(256)) + b"\r\n--x\r\n"
    parts = [
        b'--b0\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % pair
        for pair in ((b"from", SENDER.encode()), (b"to", ADA.encode()), (b"text", b"Thanks"))
    ]
    file = b'--b0\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n'
    for field, name in ((b"attachment", b"a.bin"), (b"inline", b"logo")):
        head = file % (field, name) + b"Content-Type: application/pdf\r\n\r\n"
        parts.append(head + content + b"\r\n")
    headers = {
        "Authorization": basic("api", "key-test"),
        "Content-Type": "multipart/form-data; boundary=b0",
    }
    body = b"".join([*parts, b"--b0--\r\n"])
    assert api.send("POST", "/mailgun/v3/x.example.com/messages", body, headers).status == 200
    (message,) = sandbox.messages(to=ADA)
    digest = hashlib.sha256(content).hexdigest()
    assert [(f["name"], f["sha256"], f["content_id"]) for f in message.attachments] == [
        ("a.bin", digest, ""),
        ("logo", digest, "logo"),
    ]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"from": None}, "from parameter is missing"),
        ({"bcc": "nobody"}, "bcc parameter is not a valid address"),
        ({"text": None}, "Need at least one of"),
        ({"recipient-variables": "{"}, "not valid JSON"),
        ({"recipient-variables": "{}"}, "missing for some"),
        ({"subjekt": "x"}, "unknown parameter"),
    ],
)
def test_what_mailgun_refuses(
    api: Api, sandbox: Sandbox, changes: dict[str, Any], words: str
) -> None:
    """400 with a sentence, and no effect."""
    refused = mailgun(api, [ADA], **changes)
    assert refused.status == 400
    assert words in refused.json["message"]
    assert sandbox.ledger() == []


def bulk(api: Api, people: dict[str, dict[str, str]], **changes: Any) -> Any:
    template = {"Subject": "For {{name}}", "Text": "Dear {{name}}", "Html": "<p>{{{name}}}</p>"}
    document = {
        "FromEmailAddress": SENDER,
        "DefaultContent": {"Template": {"TemplateContent": template, "TemplateData": "{}"}},
        "BulkEmailEntries": [
            {
                "Destination": {"ToAddresses": [to]},
                "ReplacementEmailContent": {
                    "ReplacementTemplate": {"ReplacementTemplateData": json.dumps(values)}
                },
            }
            for to, values in people.items()
        ],
        "DefaultEmailTags": [{"Name": name, "Value": value} for name, value in MARKS.items()],
        **changes,
    }
    return post_json(api, "/ses/v2/email/outbound-bulk-emails", document, **signed_head()).json


def test_ses_answers_for_each_of_a_batch(api: Api, sandbox: Sandbox) -> None:
    """One bad address is one bad result; a value that is missing shows later."""
    results = bulk(api, {ADA: {"name": "Ada"}, BAD: {"name": "x"}, BOB: {}})[
        "BulkEmailEntryResults"
    ]
    assert [result["Status"] for result in results] == ["SUCCESS", "INVALID_PARAMETER", "SUCCESS"]
    (message,) = sandbox.messages(to=ADA)
    assert (message.subject, message.html) == ("For Ada", "<p>Ada</p>")
    assert message.object == results[0]["MessageId"]
    assert [effect.outcome for effect in sandbox.ledger()] == ["done", "unrendered"]
    wait_until(lambda: sandbox.messages(to=BOB)[0].status == "rendering_failed")
    sandbox.change_provider("ses", out_of_quota=True)
    (result,) = bulk(api, {ADA: {"name": "Ada"}})["BulkEmailEntryResults"]
    assert result["Status"] == "ACCOUNT_DAILY_QUOTA_EXCEEDED"


def test_ses_compares_signatures(api: Api, sandbox: Sandbox) -> None:
    """With the secrets known, the example of AWS' documentation decides."""
    from sandbox.messages.aws import demand_signature
    from sandbox.messages.refused import Refused
    from sandbox.wire import Request

    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    stamp, day, host = "20150830T123600Z", "20150830", "email.eu-west-1.amazonaws.com"
    body = b'{"a": 1}'
    lines = ["POST", "/v2/email/outbound-emails", "", f"host:{host}", f"x-amz-date:{stamp}", "",
             "host;x-amz-date", hashlib.sha256(body).hexdigest()]  # fmt: skip
    scope = f"{day}/eu-west-1/ses/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    content = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    mark = hmac.new(key, content.encode(), "sha256").hexdigest()
    headers = {
        "host": host,
        "x-amz-date": stamp,
        "authorization": f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, "
        f"SignedHeaders=host;x-amz-date, Signature={mark}",
    }
    at = 1440938160.0
    request = Request("POST", "/v2/email/outbound-emails", "", headers, body, keep_alive=True)
    demand_signature(request, credentials=(f"AKIDEXAMPLE:{secret}",), now=at)
    for other in ("AKIDEXAMPLE:another", f"AKIDOTHER:{secret}"):
        with pytest.raises(Refused):
            demand_signature(request, credentials=(other,), now=at)
    with pytest.raises(Refused, match="expired"):
        demand_signature(request, credentials=None, now=at + 901)


@pytest.mark.parametrize(
    "head, name",
    [
        ({}, "MissingAuthenticationTokenException"),
        (signed_head(service="sns"), "InvalidSignatureException"),
        (signed_head(at="20150830T123600Z"), "InvalidSignatureException"),
    ],
)
def test_what_ses_wants_signed(api: Api, head: dict[str, str], name: str) -> None:
    """403 with the exception in a header."""
    refused = post_json(api, "/ses/v2/email/outbound-emails", {}, **head)
    assert (refused.status, refused.headers["x-amzn-ErrorType"]) == (403, name)


def test_postmark_answers_for_each_of_a_batch(api: Api, sandbox: Sandbox) -> None:
    """Sent, invalid, inactive: each under its own code."""
    batch = [
        {"From": SENDER, "To": to, "Subject": "Hi", "TextBody": "Thanks"} for to in (ADA, BAD, GONE)
    ]
    headers = {"X_Postmark_Server_Token": "server-token"}
    answers = json.loads(post_json(api, "/postmark/email/batch", batch, **headers).body)
    assert [answer["ErrorCode"] for answer in answers] == [0, 300, 406]
    assert [effect.object for effect in sandbox.ledger()] == [answers[0]["MessageID"]]


def test_postmark_leaves_out_the_inactive(api: Api, sandbox: Sandbox) -> None:
    """Some inactive: the others get it, and the answer says who does not. All: 406."""
    some = postmark(api, [ADA, GONE])
    assert some.status == 200
    assert f"inactive addresses: {GONE}." in some.json["Message"]
    every = postmark(api, [GONE])
    assert (every.status, every.json["ErrorCode"]) == (422, 406)
    assert [effect.recipient for effect in sandbox.ledger()] == [ADA]


def batch_of(api: Api, people: tuple[str, ...], **headers: str) -> Any:
    batch = [{"from": SENDER, "to": [to], "subject": "Hi", "text": "Thanks"} for to in people]
    return post_json(api, "/resend/emails/batch", batch, Authorization="Bearer re_test", **headers)


def test_resend_batches(api: Api, sandbox: Sandbox) -> None:
    """Strict: all or nobody. Permissive: those who are not minded."""
    strict = batch_of(api, (ADA, BAD))
    assert (strict.status, strict.json["name"]) == (422, "validation_error")
    assert sandbox.ledger() == []
    permissive = batch_of(api, (ADA, BAD, BOB), x_batch_validation="permissive")
    assert [error["index"] for error in permissive.json["errors"]] == [1]
    assert [effect.object for effect in sandbox.ledger()] == [
        each["id"] for each in permissive.json["data"]
    ]


def test_resend_honours_keys(api: Api, sandbox: Sandbox) -> None:
    """The same answer for the same key, also where the first was never heard; 409 for another
    body; nothing is kept of what was refused."""
    sandbox.add_fault("drop_after_effect", path="/resend/")
    with pytest.raises(OSError, match=r"reset|closed|response"):
        resend(api, [ADA], key="k")
    first, again = resend(api, [ADA], key="k"), resend(api, [ADA], key="k")
    assert (first.status, first.body) == (200, again.body)
    other = resend(api, [BOB], key="k")
    assert (other.status, other.json["name"]) == (409, "invalid_idempotent_request")
    assert resend(api, [BAD], key="k2").status == 422
    assert resend(api, [BOB], key="k2").status == 200
    assert [(e.recipient, e.key) for e in sandbox.ledger()] == [(ADA, "k"), (BOB, "k2")]


def test_resend_and_two_at_once(api: Api, sandbox: Sandbox) -> None:
    """409 while the first still runs."""
    sandbox.add_fault("latency", seconds=30, path="/resend/")

    def first() -> None:
        with Api(sandbox.url) as another, pytest.raises(OSError, match=r"reset|closed|response"):
            resend(another, [ADA], key="k")

    running = threading.Thread(target=first)
    running.start()
    wait_until(lambda: sandbox.summary()["running"] == 1)
    clash = resend(api, [ADA], key="k")
    assert (clash.status, clash.json["name"]) == (409, "concurrent_idempotent_requests")
    sandbox.reset()
    running.join()


def test_ses_takes_whole_messages(api: Api, sandbox: Sandbox) -> None:
    """Raw MIME; the destination decides who gets it."""
    import base64

    raw = b"From: a@example.com\r\nTo: list@example.com\r\nSubject: Raw\r\n\r\nThanks\r\n"
    content = {"Raw": {"Data": base64.b64encode(raw).decode()}}
    assert ses(api, [ADA], Content=content).status == 200
    (message,) = sandbox.messages(to=ADA)
    assert (message.subject, message.text, message.to) == ("Raw", "Thanks\n", ["list@example.com"])


def test_paths_that_lead_nowhere(api: Api, sandbox: Sandbox) -> None:
    """404, in the provider's shape."""
    headers = {"Authorization": basic("api", "key-test"), "Content-Type": FORM}
    lost = api.send("POST", "/mailgun/v3/messages", urlencode({"to": ADA}), headers)
    assert (lost.status, lost.json) == (404, {"message": "not found"})
