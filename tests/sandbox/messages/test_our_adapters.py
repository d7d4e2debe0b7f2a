"""Our adapters for text messages and push notifications against providers that somebody else has
written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications.adapters import fcm, twilio
from notifications.adapters.messages import Push, Sms
from notifications.adapters.replies import OPTED_OUT, RECIPIENTS_REFUSED, UNREGISTERED
from outbound.adapters import CallContext, Reply
from outbound.client import HttpClient
from outbound.errors import DidNotHappen, OutcomeUnknown, PermanentError
from sandbox.control import Sandbox
from tests.notifications.adapters.test_fcm import key
from tests.sandbox.messages.requests import ACCOUNT, TOKEN

pytestmark = pytest.mark.faults
SMS = Sms(to="+15005551234", body="Your code is 123456.")
CALL = CallContext("019ab5e8-0000-7000-8000-000000000001", "key-1")


def twilio_of(sandbox: Sandbox) -> twilio.TwilioAdapter:
    options = {
        "ACCOUNT_SID": ACCOUNT,
        "AUTH_TOKEN": TOKEN,
        "API_BASE": f"{sandbox.url}/twilio",
        "FROM": "+15005550006",
        "STATUS_CALLBACK": "http://127.0.0.1:9/webhooks/twilio",
    }
    return twilio.TwilioAdapter(name="twilio", options=options, http=HttpClient(provider="twilio"))


def fcm_of(sandbox: Sandbox) -> fcm.FcmAdapter:
    options: dict[str, Any] = {
        "CREDENTIALS": key(f"{sandbox.url}/google/token"),
        "API_BASE": f"{sandbox.url}/fcm",
    }
    return fcm.FcmAdapter(name="fcm", options=options, http=HttpClient(provider="fcm"))


class TestTwilio:
    def test_it_is_sent(self, sandbox: Sandbox) -> None:
        reply = twilio_of(sandbox).perform("send_sms", SMS, CALL)
        [effect] = sandbox.ledger(provider="twilio")
        assert reply.provider_reference == effect.object

    def test_a_lost_answer_is_found(self, sandbox: Sandbox) -> None:
        """One message, and the look-up has its id."""
        asked = replace(CALL, asked_at=datetime.now(UTC))
        sandbox.add_fault("drop_after_effect", path="/twilio/", times=1)
        with pytest.raises(OutcomeUnknown):
            twilio_of(sandbox).perform("send_sms", SMS, asked)
        found = twilio_of(sandbox).resolve("send_sms", SMS, asked)
        [effect] = sandbox.ledger(provider="twilio")
        assert isinstance(found, Reply)
        assert found.provider_reference == effect.object

    def test_what_never_came_is_proven_late(self, sandbox: Sandbox) -> None:
        """Not at once; after an hour, where the account shows what it sent to others."""
        now = datetime.now(UTC)
        sandbox.add_fault("drop_before_effect", path="/twilio/", times=1)
        with pytest.raises(OutcomeUnknown):
            twilio_of(sandbox).perform("send_sms", SMS, CALL)
        twilio_of(sandbox).perform("send_sms", Sms(to="+15005559999", body="Hi."), CALL)
        look = twilio_of(sandbox).resolve
        assert look("send_sms", SMS, replace(CALL, asked_at=now)) is None
        with pytest.raises(DidNotHappen):
            look("send_sms", SMS, replace(CALL, asked_at=now - timedelta(minutes=61)))

    @pytest.mark.parametrize(
        "to,code", [("+15005550004", OPTED_OUT), ("+15005550009", RECIPIENTS_REFUSED)]
    )
    def test_refused(self, sandbox: Sandbox, to: str, code: str) -> None:
        with pytest.raises(PermanentError) as caught:
            twilio_of(sandbox).perform("send_sms", Sms(to=to, body="Hi."), CALL)
        assert caught.value.code == code


class TestFcm:
    def test_it_is_sent(self, sandbox: Sandbox) -> None:
        """All that can be asked is a message that Firebase takes; one token is enough for two."""
        adapter = fcm_of(sandbox)
        rich = {
            "token": "device:1", "title": "T", "body": "B", "data": {"order": "7"},
            "image_url": "https://example.com/i.png", "collapse_key": "order-7",
            "ttl_seconds": 3600, "urgent": True,
        }  # fmt: skip
        sent = [
            adapter.perform("send_push", push, CALL)
            for push in (Push.model_validate(rich), Push(token="device:2", data={"n": "1"}))
        ]
        effects = sandbox.ledger(provider="fcm")
        assert [each.object for each in effects] == [each.provider_reference for each in sent]
        assert len([each for each in sandbox.requests() if each.path == "/google/token"]) == 1

    @pytest.mark.parametrize(
        "token,code",
        [
            ("gone-1", UNREGISTERED),
            ("mismatch-1", RECIPIENTS_REFUSED),
            ("bad-1", RECIPIENTS_REFUSED),
        ],
    )
    def test_refused(self, sandbox: Sandbox, token: str, code: str) -> None:
        with pytest.raises(PermanentError) as caught:
            fcm_of(sandbox).perform(
                "send_push", Push.model_validate({"token": token, "body": "B"}), CALL
            )
        assert caught.value.code == code
