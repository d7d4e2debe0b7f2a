"""What holds for every provider of messages."""

from __future__ import annotations

import json

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import Api
from tests.sandbox.messages.requests import CALL, EMAIL, KEY, RECIPIENTS, SENDERS

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("provider", SENDERS)]


def test_an_accepted_message(api: Api, sandbox: Sandbox, provider: str) -> None:
    """One effect, of the right kind and for the right call, and the message is there to be
    read."""
    to = RECIPIENTS[provider]
    assert SENDERS[provider](api, [to]).status in (200, 201, 202)
    (effect,) = sandbox.ledger(provider=provider)
    (message,) = sandbox.messages(provider=provider, to=to)
    kind = {"twilio": "sms", "fcm": "push"}.get(provider, "email")
    assert (effect.kind, effect.recipient) == (f"{kind}.accepted", to)
    assert (effect.object, message.text) == (message.object, "Thanks")
    if provider in EMAIL:
        assert (effect.call, effect.key, message.subject) == (CALL, KEY, "Receipt")


def test_a_refused_recipient(api: Api, sandbox: Sandbox, provider: str) -> None:
    """Its own 4xx, in JSON, for who is on the list and for who has the tag; no effect."""
    to = RECIPIENTS[provider]
    sandbox.change_provider(provider, refused=[to])
    refused = SENDERS[provider](api, [to])
    assert refused.status in (400, 422)
    assert refused.json
    if provider in EMAIL:
        assert SENDERS[provider](api, ["bad+x@example.com"]).status == refused.status
    assert sandbox.ledger() == []


def test_out_of_quota(api: Api, sandbox: Sandbox, provider: str) -> None:
    """Nothing is taken, and it is no failure of theirs."""
    sandbox.change_provider(provider, out_of_quota=True)
    refused = SENDERS[provider](api, [RECIPIENTS[provider]])
    assert refused.status in (401, 402, 422, 429)
    assert sandbox.ledger() == []


def test_credentials(api: Api, sandbox: Sandbox, provider: str) -> None:
    """Any that is well-formed is good, until it is told which are."""
    sandbox.change_provider(provider, credentials=["another"])
    assert SENDERS[provider](api, [RECIPIENTS[provider]]).status in (401, 403)
    sandbox.change_provider(provider, credentials=None)
    assert SENDERS[provider](api, [RECIPIENTS[provider]]).status < 300


def test_faults(api: Api, sandbox: Sandbox, provider: str) -> None:
    """Refusing, limiting and dropping, each for this provider alone."""
    to, send = RECIPIENTS[provider], SENDERS[provider]
    path = f"/{provider}/"
    sandbox.add_fault("status", status=503, path=path)
    sandbox.add_fault("rate_limit", retry_after_date=30, path=path)
    assert send(api, [to]).status == 503
    limited = send(api, [to])
    assert (limited.status, limited.headers["Retry-After"][-3:]) == (429, "GMT")
    assert sandbox.ledger() == []
    for kind, effects in (("drop_before_effect", 0), ("drop_after_effect", 1)):
        sandbox.add_fault(kind, path=path)
        with pytest.raises(OSError, match=r"reset|closed|response"):
            send(api, [to])
        assert len(sandbox.ledger()) == effects


def test_down(api: Api, sandbox: Sandbox, provider: str) -> None:
    """503, or no answer at all, while the others work."""
    to, send = RECIPIENTS[provider], SENDERS[provider]
    sandbox.change_provider(provider, down="unavailable")
    assert send(api, [to]).status == 503
    sandbox.change_provider(provider, down="reset")
    with pytest.raises(OSError, match=r"reset|closed|response"):
        send(api, [to])
    assert api.pay().status == 200
    assert sandbox.ledger(provider=provider) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"', b"null", b"5"])
def test_bodies_that_are_none(api: Api, sandbox: Sandbox, provider: str, body: bytes) -> None:
    """A 4xx in the provider's shape, whatever comes."""
    SENDERS[provider](api, [RECIPIENTS[provider]])
    sent = api.last
    answer = api.send(sent.method, sent.path, body, sent.headers)
    if provider == "postmark" and body == b"[]":
        assert answer.status == 422
    assert 400 <= answer.status < 500
    assert isinstance(json.loads(answer.body), dict)
    assert len(sandbox.ledger()) == 1
