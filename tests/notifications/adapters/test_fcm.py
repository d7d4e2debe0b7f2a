"""FCM's adapter: the contract, what a notification becomes, and the token that is shared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from google.auth import jwt

from notifications.adapters.fcm import SCOPE, FcmAdapter
from notifications.adapters.google_tokens import AccessToken
from notifications.adapters.messages import Push
from notifications.adapters.replies import RECIPIENTS_REFUSED, UNREGISTERED
from notifications.checks import check_push_key
from outbound.adapters import CallContext
from outbound.client import HttpClient
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from tests.contracts.adapter import PATIENT, SHORT_READ, AdapterContract, Sample
from tests.outbound import wire

SIGNER = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # quick to check
PRIVATE = SIGNER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DEVICE = "fcm-device-token:APA91b"
NAME = "projects/shop/messages/0:1500415314455276%31bd1c9631bd1c96"
BEARER = "ya29.contract-token"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
CALL = "019ab5e8-0000-7000-8000-000000000001"
MADE = 0x019AB5E80000 // 1000  # seconds since 1970 in that id


def key(token_uri: str, **members: Any) -> dict[str, Any]:
    """What Firebase gives out as a service account's key."""
    return {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "k1",
        "private_key": PRIVATE,
        "client_email": "push@shop.iam.gserviceaccount.com",
        "token_uri": token_uri,
        **members,
    }


def token_reply(token: str = BEARER, *, life: Any = 3599) -> bytes:
    document = {"access_token": token, "expires_in": life, "token_type": "Bearer"}
    return wire.reply(json.dumps(document).encode())


def refusal(status: str, word: str = "") -> Any:
    body = json.dumps({"error": word}).encode() if word else b""
    return wire.answers(wire.reply(body, status=status))


@pytest.fixture(scope="module", autouse=True)
def google() -> Iterator[None]:
    """Where tokens come from, for the contract."""
    with wire.peer(wire.answers(token_reply())) as peer:
        TestContract.token_uri = peer.url + "/token"
        yield


class TestContract(AdapterContract):
    """One operation; the provider of the contract is FCM, its tokens come from elsewhere."""

    adapter_class = FcmAdapter
    secrets = (BEARER, PRIVATE[40:80])
    token_uri = ""
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "send_push": Sample(
            {
                "token": DEVICE,
                "title": "Your order",
                "body": "It is there.",
                "data": {"o": "order-7"},
            },
            json.dumps({"name": NAME}).encode(),
            NAME,
            private=(DEVICE, "Your order", "It is there.", "order-7"),
        ),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {"CREDENTIALS": key(self.token_uri), "API_BASE": url}

    @pytest.mark.parametrize(
        "status,word,own,kind,code",
        [
            ("404 Not Found", "NOT_FOUND", "UNREGISTERED", PermanentError, UNREGISTERED),
            ("404 Not Found", "NOT_FOUND", "", PermanentError, "NOT_FOUND"),
            (
                "403 Forbidden",
                "PERMISSION_DENIED",
                "SENDER_ID_MISMATCH",
                PermanentError,
                RECIPIENTS_REFUSED,
            ),
            ("403 Forbidden", "PERMISSION_DENIED", "", PermanentError, "PERMISSION_DENIED"),
            (
                "400 Bad Request",
                "INVALID_ARGUMENT",
                "INVALID_ARGUMENT",
                PermanentError,
                "INVALID_ARGUMENT",
            ),
            (
                "401 Unauthorized",
                "UNAUTHENTICATED",
                "THIRD_PARTY_AUTH_ERROR",
                PermanentError,
                "THIRD_PARTY_AUTH_ERROR",
            ),
            (
                "429 Too Many Requests",
                "RESOURCE_EXHAUSTED",
                "QUOTA_EXCEEDED",
                RateLimited,
                "QUOTA_EXCEEDED",
            ),
            ("503 Away", "UNAVAILABLE", "UNAVAILABLE", OutcomeUnknown, "UNAVAILABLE"),
            ("500 Oops", "INTERNAL", "INTERNAL", OutcomeUnknown, "INTERNAL"),
        ],
    )
    def test_codes(
        self, status: str, word: str, own: str, kind: type[DeliveryError], code: str
    ) -> None:
        """https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode"""
        details = [{"@type": FCM_ERROR, "errorCode": own}] if own else []
        error = self.refused(status, status=word, message=f"no {DEVICE}", details=details)
        assert type(error) is kind
        assert error.code == code
        assert error.effect_possible is (kind is OutcomeUnknown)
        if isinstance(error, RateLimited):
            assert error.retry_after == 60

    @pytest.mark.parametrize(
        "message,details",
        [
            ("Invalid", [{"fieldViolations": [{"field": "message.token", "description": "no"}]}]),
            ("The registration token is not a valid FCM registration token", []),
        ],
    )
    def test_a_token_that_is_none(self, message: str, details: list[Any]) -> None:
        """FCM has one word for all that is wrong in a request; the field tells, or the sentence."""
        own = {"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}
        error = self.refused(
            "400 Bad Request", status="INVALID_ARGUMENT", message=message, details=[own, *details]
        )
        assert error.code == RECIPIENTS_REFUSED

    @pytest.mark.parametrize(
        "details", [None, {}, [1], [{"errorCode": []}], [{"fieldViolations": [1, {}]}]]
    )
    def test_odd_details(self, details: Any) -> None:
        error = self.refused("400 Bad Request", status="INVALID_ARGUMENT", details=details)
        assert error.code == "INVALID_ARGUMENT"

    def refused(self, line: str, **members: Any) -> DeliveryError:
        body = json.dumps({"error": {"code": int(line[:3]), **members}}).encode()
        error = self.answered("send_push", line, body=body)
        assert isinstance(error, DeliveryError)
        return error

    def test_a_refused_token_is_not_used_again(self) -> None:
        """It may have been withdrawn: the next call fetches another one."""
        refusal = wire.answers_once(wire.reply(b"{}", status="401 Unauthorized"))
        taken = wire.answers(wire.reply(self.samples["send_push"].reply))
        tokens = (wire.answers_once(token_reply("first")), wire.answers(token_reply("second")))
        with wire.peer(*tokens) as google, wire.peer(refusal, taken) as peer:
            options = {"CREDENTIALS": key(google.url), "API_BASE": peer.url}
            adapter = FcmAdapter(name="fcm", options=options, http=HttpClient(provider="fcm"))
            with pytest.raises(PermanentError):
                adapter.perform("send_push", self.payload("send_push"), self.context())
            adapter.perform("send_push", self.payload("send_push"), self.context())
        shown = [b"Bearer first" in request for request in peer.requests]
        assert (shown, len(google.requests)) == ([True, False], 2)


def sent(**payload: Any) -> dict[str, Any]:
    """The message that a notification becomes."""
    contract = TestContract()
    with wire.peer(wire.answers(contract.samples["send_push"].answer())) as peer:
        context = CallContext(CALL, "key-1", timeouts=PATIENT)
        push = Push.model_validate({"token": DEVICE, **payload})
        contract.adapter(peer.url).perform("send_push", push, context)
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/projects/shop/messages:send ")
    document = json.loads(body)
    assert set(document) == {"message"}
    message: dict[str, Any] = document["message"]
    assert message["token"] == DEVICE
    return message


class TestMessages:
    """https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages"""

    def test_what_is_seen(self) -> None:
        assert sent(title="T", body="B") == {
            "token": DEVICE,
            "notification": {"title": "T", "body": "B"},
            "android": {"priority": "NORMAL"},
            "apns": {"headers": {"apns-priority": "5"}},
            "webpush": {"headers": {"Urgency": "normal"}},
        }

    def test_with_everything(self) -> None:
        message = sent(
            title="T",
            body="B",
            data={"order": "7"},
            image_url="https://example.com/i.png",
            collapse_key="order-7",
            ttl_seconds=3600,
            urgent=True,
        )
        assert message == {
            "token": DEVICE,
            "notification": {"title": "T", "body": "B", "image": "https://example.com/i.png"},
            "data": {"order": "7"},
            "android": {"priority": "HIGH", "collapse_key": "order-7", "ttl": "3600s"},
            "apns": {
                "headers": {
                    "apns-priority": "10",
                    "apns-collapse-id": "order-7",
                    "apns-expiration": str(MADE + 3600),
                },
                "payload": {"aps": {"mutable-content": 1}},
            },
            "webpush": {"headers": {"Urgency": "high", "TTL": "3600", "Topic": "order-7"}},
        }

    def test_what_nobody_sees(self) -> None:
        """In the background, where Apple lets nothing be urgent."""
        message = sent(data={"sync": "1"}, urgent=True)
        assert message["apns"] == {
            "headers": {"apns-priority": "5"},
            "payload": {"aps": {"content-available": 1}},
        }
        assert "notification" not in message

    def test_now_or_never(self) -> None:
        message = sent(body="B", ttl_seconds=0, collapse_key="a.b")
        assert message["android"]["ttl"] == "0s"
        assert message["apns"]["headers"]["apns-expiration"] == "0"
        assert message["webpush"]["headers"] == {"Urgency": "normal", "TTL": "0"}


@contextmanager
def token_of(*behaviours: Any) -> Iterator[tuple[AccessToken, wire.Peer]]:
    with wire.peer(*behaviours) as peer:
        http = HttpClient(provider="fcm")
        yield AccessToken(key(peer.url + "/token"), scope=SCOPE, http=http), peer


def context() -> CallContext:
    return CallContext(CALL, "key-1", timeouts=PATIENT)


class TestToken:
    def test_what_is_asked_for(self) -> None:
        """A claim that the service account has signed, checked here as Google does it."""
        with token_of(wire.answers(token_reply())) as (token, peer):
            assert token.get(context()) == BEARER
        head, _, body = peer.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /token ")
        form = parse_qs(body.decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        audience = "https://oauth2.googleapis.com/token"  # wherever it is sent
        claims = jwt.decode(  # type: ignore[no-untyped-call]
            form["assertion"][0], certs=PUBLIC, audience=audience
        )
        assert claims["scope"] == SCOPE
        assert claims["iss"] == "push@shop.iam.gserviceaccount.com"

    def test_threads_share_it(self) -> None:
        """Sixteen that need one at the same moment fetch one."""
        with token_of(wire.answers(token_reply())) as (token, peer), ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda _: token.get(context()), range(64)))
        assert set(found) == {BEARER}
        assert len(peer.requests) == 1

    def test_it_is_renewed_before_it_ends(self) -> None:
        """While it is still good, and used on where there is no new one."""
        broken = wire.answers_once(wire.reply(b"", status="503 Away"))
        replies = (
            wire.answers_once(token_reply("first")),
            broken,
            wire.answers(token_reply("second")),
        )
        with token_of(*replies) as (token, peer):
            seen = []
            for minutes in (0, 30, 57, 58, 59):
                with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes)):
                    seen.append(token.get(context()))
        assert seen == ["first", "first", "first", "second", "second"]
        assert len(peer.requests) == 3

    def test_it_has_ended(self) -> None:
        """Without a token that is good nothing can be sent."""
        broken = wire.answers(wire.reply(b"", status="503 Away"))
        with token_of(wire.answers_once(token_reply()), broken) as (token, _):
            token.get(context())
            with (
                time_machine.travel(datetime.now(UTC) + timedelta(minutes=61)),
                pytest.raises(TransientError),
            ):
                token.get(context())

    @pytest.mark.parametrize(
        "behaviour,kind,code",
        [
            (refusal("400 Bad Request", "invalid_grant"), PermanentError, "invalid_grant"),
            (refusal("401 Unauthorized"), PermanentError, ""),
            (refusal("429 Too Many Requests"), RateLimited, ""),
            (refusal("500 Oops", "internal_failure"), TransientError, "internal_failure"),
            (refusal("403 Forbidden", "server_error"), PermanentError, "server_error"),
            (wire.resets(), TransientError, ""),
            (wire.answers(wire.reply(b"{}")), TransientError, ""),
            (wire.answers(wire.reply(b"[]")), TransientError, ""),
            (wire.answers(wire.reply(b"\xff")), TransientError, ""),
            (wire.answers(token_reply("a\r\nX: y")), TransientError, ""),
            (wire.answers(token_reply(life="soon")), TransientError, ""),
            (wire.answers(token_reply(life=-1)), TransientError, ""),
            (wire.answers(token_reply(life=10**12)), TransientError, ""),
            (wire.answers(token_reply(life=None)), TransientError, ""),
        ],
    )
    def test_what_can_go_wrong(self, behaviour: Any, kind: type[DeliveryError], code: str) -> None:
        """Each is asked once, and says that nothing was sent: then the message can go elsewhere, or
        again, without a doubt."""
        with token_of(behaviour) as (token, peer), pytest.raises(DeliveryError) as caught:
            token.get(context())
        error = caught.value
        assert type(error) is kind
        assert not error.effect_possible
        assert (error.code, len(peer.requests)) == (code, 1)
        assert "nothing was sent" in error.message
        if isinstance(error, PermanentError):
            assert not error.conclusive

    def test_silence(self) -> None:
        """Nothing was sent, although bytes have left: they were none of the message."""
        adapter = TestContract()
        with wire.peer(wire.is_silent) as google, wire.peer(wire.is_silent) as peer:
            options = {"CREDENTIALS": key(google.url), "API_BASE": peer.url}
            fcm = FcmAdapter(name="fcm", options=options, http=HttpClient(provider="fcm"))
            with pytest.raises(TransientError) as caught:
                fcm.perform("send_push", adapter.payload("send_push"), adapter.context(SHORT_READ))
        assert type(caught.value) is TransientError
        assert peer.requests == []

    def test_the_attempt_does_not_remember_it(self) -> None:
        """What is kept of an attempt is what was said to FCM."""
        with token_of(wire.answers(token_reply())) as (token, _):
            kept = context()
            token.get(kept)
        assert (kept.exchange.url, kept.exchange.reply) == ("", None)


@pytest.mark.parametrize(
    "wrong", [{"private_key": "nonsense"}, {"client_email": None}, {"private_key": PRIVATE[:200]}]
)
def test_a_key_that_cannot_sign(settings: LazySettings, wrong: dict[str, Any]) -> None:
    """Fails the check, not the first notification, and is not quoted."""
    entry = {"ADAPTER": "notifications.adapters.fcm.FcmAdapter", "QUEUE": "notifications-v1"}
    options = {"CREDENTIALS": {k: v for k, v in key("https://t.example", **wrong).items() if v}}
    settings.OUTBOUND_ADAPTERS = {"fcm": {**entry, "OPTIONS": options}}
    [problem] = check_push_key(app_configs=None)
    assert problem.id == "notifications.E003"
    assert "PRIVATE" not in problem.msg
    with pytest.raises(ImproperlyConfigured):
        FcmAdapter(name="fcm", options=options, http=HttpClient(provider="fcm"))


def test_a_key_that_can(settings: LazySettings) -> None:
    entry = {"ADAPTER": "notifications.adapters.fcm.FcmAdapter", "QUEUE": "notifications-v1"}
    options = {"CREDENTIALS": key("https://t.example")}
    settings.OUTBOUND_ADAPTERS = {"fcm": {**entry, "OPTIONS": options}, "other": {**entry}}
    assert check_push_key(app_configs=None) == []
