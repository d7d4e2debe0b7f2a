"""SendGrid: what it takes, what it refuses in its own words, and what it tells."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import Answer, Api
from tests.sandbox.messages.wire import post_json, track, verified
from tests.sandbox.receiver import Receiver
from webhooks.providers.sendgrid import SendGridSource

pytestmark = pytest.mark.faults

PATH = "/sendgrid/v3/mail/send"
KEY = "SG.test.key"
MAIL: dict[str, Any] = {
    "personalizations": [{"to": [{"email": "ada@example.com", "name": "Ada"}]}],
    "from": {"email": "shop@example.com", "name": "Shop"},
    "subject": "Receipt",
    "content": [{"type": "text/plain", "value": "Thanks"}],
}


def send(api: Api, key: str = KEY, **changes: Any) -> Answer:
    return post_json(api, PATH, {**MAIL, **changes}, Authorization=f"Bearer {key}")


def test_one_effect_for_each_recipient(api: Api, sandbox: Sandbox) -> None:
    """To, cc and bcc each got it, under the call that asked, and the id is in the header."""
    person = {"to": [{"email": "a@example.com"}], "cc": [{"email": "b@example.com"}],
              "bcc": [{"email": "c@example.com"}]}  # fmt: skip
    sent = send(
        api,
        personalizations=[person],
        custom_args={"holdfast_call": "call-1", "holdfast_key": "key-1"},
    )
    assert (sent.status, sent.body) == (202, b"")
    effects = sandbox.ledger(call="call-1")
    assert [effect.recipient for effect in effects] == [f"{n}@example.com" for n in "abc"]
    assert {(e.provider, e.kind, e.object, e.key) for e in effects} == {
        ("sendgrid", "email.accepted", sent.headers["X-Message-Id"], "key-1")
    }
    assert sandbox.summary()["keys_with_several_effects"] == []


def test_each_recipient_has_their_own_words(api: Api, sandbox: Sandbox) -> None:
    """Substitutions go into subject and bodies; attachments are told by their digests."""
    people = [
        {"to": [{"email": f"{name}@example.com"}], "substitutions": {"-name-": name.title()}}
        for name in ("ada", "bob")
    ]
    file = {"content": base64.b64encode(b"%PDF").decode(), "filename": "a.pdf", "type": "text/x"}
    content = [
        {"type": "text/plain", "value": "Dear -name-"},
        {"type": "text/html", "value": "<p>-name-</p>"},
    ]
    send(api, personalizations=people, subject="For -name-", content=content, attachments=[file])
    (message,) = sandbox.messages(provider="sendgrid", to="bob@example.com")
    assert (message.subject, message.text, message.html) == ("For Bob", "Dear Bob", "<p>Bob</p>")
    assert message.sender == "Shop <shop@example.com>"
    assert message.attachments[0]["sha256"] == hashlib.sha256(b"%PDF").hexdigest()


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"personalizations": []}, "personalizations"),
        ({"personalizations": [{"to": []}]}, "personalizations.0.to"),
        ({"personalizations": [{"to": [{"email": "x"}]}]}, "personalizations.0.to.0.email"),
        (
            {"personalizations": [{"to": [{"email": "bad+x@example.com"}]}]},
            "personalizations.0.to.0.email",
        ),
        (
            {"personalizations": [{"to": [{"email": "a@b.com"}], "cc": [{"email": "A@b.com"}]}]},
            "personalizations.0",
        ),
        ({"from": {"email": "nobody"}}, "from.email"),
        ({"subject": ""}, "subject"),
        ({"content": []}, "content"),
        ({"content": [{"type": "text/plain", "value": ""}]}, "content.0.value"),
        ({"headers": {"Subject": "x"}}, "headers"),
        ({"attachments": [{"content": "%", "filename": "x"}]}, "attachments.0.content"),
        ({"unheard_of": 1}, None),
    ],
)
def test_what_it_refuses(
    api: Api, sandbox: Sandbox, changes: dict[str, Any], field: str | None
) -> None:
    """A 400 that names the field, as SendGrid's do, and no effect."""
    refused = send(api, **changes)
    assert refused.status == 400
    (error,) = refused.json["errors"]
    assert error["field"] == field
    assert error.keys() == {"message", "field", "help"}
    assert sandbox.ledger() == []


def test_credentials_and_quota(api: Api, sandbox: Sandbox) -> None:
    """401 in SendGrid's words, for a key that is none, is not the right one, or is used up."""
    assert send(api, key="nonsense").status == 401
    sandbox.change_provider("sendgrid", credentials=["SG.the.right"])
    assert send(api).status == 401
    assert send(api, key="SG.the.right").status == 202
    sandbox.change_provider("sendgrid", out_of_quota=True)
    used_up = send(api, key="SG.the.right")
    assert (used_up.status, used_up.json["errors"][0]["message"]) == (
        401,
        "Maximum credits exceeded",
    )


def test_its_faults_speak_its_words(api: Api, sandbox: Sandbox) -> None:
    """The same faults as Stripe's, chosen by the path, in SendGrid's shape."""
    sandbox.add_fault("status", status=503, path="/sendgrid/")
    sandbox.add_fault("rate_limit", retry_after=7, path="/sendgrid/")
    assert api.pay().status == 200
    unavailable, limited = send(api), send(api)
    assert (unavailable.status, len(unavailable.json["errors"])) == (503, 1)
    assert (limited.status, limited.headers["Retry-After"]) == (429, "7")
    sandbox.change_provider("sendgrid", down="unavailable")
    assert send(api).status == 503
    sandbox.change_provider("sendgrid", down="")
    sandbox.add_fault("drop_after_effect", path="/sendgrid/")
    with pytest.raises(OSError, match=r"reset|closed|response"):
        send(api)
    assert len(sandbox.ledger(provider="sendgrid")) == 1


def test_what_it_tells(api: Api, sandbox: Sandbox, receiver: Receiver) -> None:
    """Lists of events, signed so that our source takes them, with the call's id in each."""
    proof = track(sandbox, receiver, "sendgrid")
    people = [{"to": [{"email": f"{tag}x@example.com"}]} for tag in ("", "bounce+", "click+")]
    sent = send(api, personalizations=people, custom_args={"holdfast_call": "call-1"})
    sandbox.wait_for_deliveries()
    events = verified(receiver, SendGridSource(name="sendgrid", options={"SECRETS": [proof]}))
    assert {event["holdfast_call"] for event in events} == {"call-1"}
    assert {e["sg_message_id"].partition(".")[0] for e in events} == {sent.headers["X-Message-Id"]}
    told = [(event["email"], event["event"]) for event in events]
    assert told.count(("x@example.com", "delivered")) == 1
    assert ("bounce+x@example.com", "bounce") in told
    assert ("click+x@example.com", "click") in told
    sandbox.track("complained", to="x@example.com")
    sandbox.wait_for_deliveries()
    assert b"spamreport" in receiver.received[-1].body
