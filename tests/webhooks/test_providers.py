"""Each source keeps the contract, and agrees with its provider's own library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
import standardwebhooks
import time_machine
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.exceptions import SuspiciousOperation
from django.http import QueryDict
from django.test import Client
from pytest_django import Settings
from twilio.request_validator import RequestValidator

from tests.contracts.source import NOW, URL, Delivery, DoorContract, SourceContract
from webhooks import engine
from webhooks.errors import InvalidSignature, MalformedBody, MissingSignature
from webhooks.handlers import Event, handles
from webhooks.models import WebhookEvent
from webhooks.providers.generic import HmacSource, SharedSecretSource
from webhooks.sources import source_for
from webhooks.states import EventStatus


def hexed(secret: str, content: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), content, algorithm).hexdigest()


def seconds(at: datetime) -> str:
    return str(int(at.timestamp()))


class TestGitHub(SourceContract, DoorContract):
    path = "webhooks.providers.github.GitHubSource"
    secrets = ("It's a Secret to Everybody", "another")
    proofs = ("X-Hub-Signature-256",)

    def body(self, number: int = 1) -> bytes:
        return json.dumps({"action": "opened", "number": number}).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        headers = {
            "X-Hub-Signature-256": f"sha256={hexed(secret, body)}",
            "X-GitHub-Event": "pull_request",
            "X-GitHub-Delivery": hashlib.md5(body).hexdigest(),
            "Content-Type": "application/json",
        }
        return Delivery(body, headers)

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [(hashlib.md5(body).hexdigest(), "pull_request.opened")]

    def test_the_official_vector(self) -> None:
        """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
        digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        delivery = Delivery(b"Hello, World!", {"X-Hub-Signature-256": f"sha256={digest}"})
        assert self.verify(delivery)

    def test_a_form(self) -> None:
        """GitHub's other content type: the JSON is the form's payload."""
        body = urlencode({"payload": '{"zen": "ü & +"}'}).encode()
        delivery = self.sign(body, secret=self.secrets[0], at=NOW).with_header(
            "Content-Type", "application/x-www-form-urlencoded; charset=utf-8"
        )
        [envelope] = self.parse(delivery)
        assert (envelope.event_type, envelope.payload) == ("pull_request", {"zen": "ü & +"})

    @pytest.mark.parametrize("name", ["X-GitHub-Delivery", "X-GitHub-Event"])
    @pytest.mark.parametrize("value", [None, "", "x" * 256, "\x00"])
    def test_headers_that_name(self, name: str, value: str | None) -> None:
        with pytest.raises(MalformedBody):
            self.parse(self.delivery().with_header(name, value))

    @pytest.mark.parametrize("action", [1, None, "", "x" * 256, {}])
    def test_odd_actions(self, action: object) -> None:
        body = json.dumps({"action": action}).encode()
        [envelope] = self.parse(self.sign(body, secret=self.secrets[0], at=NOW))
        assert envelope.event_type == "pull_request"


class TestSlack(SourceContract, DoorContract):
    path = "webhooks.providers.slack.SlackSource"
    secrets = ("8f742231b10e8888abcd99yyyzzz85a5", "another")
    proofs = ("X-Slack-Signature", "X-Slack-Request-Timestamp")
    tolerance = 300

    def body(self, number: int = 1) -> bytes:
        document = {
            "type": "event_callback",
            "event_id": f"Ev{number}",
            "team_id": "T1",
            "event_time": 1_700_000_000,
            "event": {"type": "app_mention"},
        }
        return json.dumps(document).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        digest = hexed(secret, b"v0:" + seconds(at).encode() + b":" + body)
        headers = {"X-Slack-Signature": f"v0={digest}", "X-Slack-Request-Timestamp": seconds(at)}
        return Delivery(body, headers)

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("Ev1", "app_mention")]

    def test_the_official_vector(self) -> None:
        """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
        body = (
            b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
            b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
            b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2F"
            b"commands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
            b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
        )
        digest = "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        headers = {"X-Slack-Signature": f"v0={digest}", "X-Slack-Request-Timestamp": "1531420618"}
        at = datetime.fromtimestamp(1531420618, UTC)
        assert self.source().verify(body, headers, now=at)

    @pytest.mark.django_db
    def test_the_challenge(self, post: Callable[[Delivery], Any]) -> None:
        """Echoed, as text, once it is proven; nothing is stored."""
        body = json.dumps({"type": "url_verification", "challenge": "3eZbrw"}).encode()
        right = self.sign(body, secret=self.secrets[0], at=datetime.now(UTC))
        answer = post(right)
        assert (answer.status_code, answer.content) == (200, b"3eZbrw")
        assert answer["Content-Type"].startswith("text/plain")
        wrong = self.sign(body, secret=self.secrets[1], at=datetime.now(UTC))
        assert post(wrong).status_code == 401
        odd = json.dumps({"type": "url_verification", "challenge": 1}).encode()
        assert post(self.sign(odd, secret=self.secrets[0], at=datetime.now(UTC))).status_code == 400
        assert not WebhookEvent.objects.exists()

    @pytest.mark.parametrize("event", [None, [], "x", {}, {"type": 1}, {"type": ""}])
    def test_no_event(self, event: object) -> None:
        body = json.dumps({"type": "event_callback", "event_id": "Ev", "event": event}).encode()
        with pytest.raises(MalformedBody):
            self.parse(self.sign(body, secret=self.secrets[0], at=NOW))

    def test_an_event_outside(self) -> None:
        """Some speak of the app itself."""
        body = b'{"type": "app_rate_limited", "event_id": "Ev9"}'
        [envelope] = self.parse(self.sign(body, secret=self.secrets[0], at=NOW))
        assert envelope.event_type == "app_rate_limited"


def whsec(text: str) -> str:
    return f"whsec_{base64.b64encode(text.encode()).decode()}"


class StandardContract(SourceContract):
    secrets = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", whsec("another key of sufficient len"))
    prefix: ClassVar[str] = "webhook"
    tolerance = 300
    tolerates = frozenset({"in spaces"})

    def body(self, number: int = 1) -> bytes:
        return json.dumps({"type": "invoice.paid", "data": {"n": number}}).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        message = f"msg_{hashlib.md5(body).hexdigest()}"
        content = f"{message}.{seconds(at)}.".encode() + body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = base64.b64encode(hmac.new(key, content, "sha256").digest()).decode()
        headers = {"id": message, "timestamp": seconds(at), "signature": f"v1,{digest}"}
        return Delivery(body, {f"{self.prefix}-{name}": v for name, v in headers.items()})

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [(f"msg_{hashlib.md5(body).hexdigest()}", "invoice.paid")]

    def test_an_old_signature_beside(self) -> None:
        """Signed with two keys, or in a scheme to come: one that is right is enough."""
        right = self.delivery()
        name = f"{self.prefix}-signature"
        for line in (f"v1,{'A' * 43}= {{}}", "{} v2,abc", "v1a,QUJD {}"):
            assert self.verify(right.with_header(name, line.format(right.headers[name])))

    def test_too_many_signatures(self) -> None:
        right = self.delivery()
        name = f"{self.prefix}-signature"
        with pytest.raises(MissingSignature):
            self.verify(right.with_header(name, " ".join([right.headers[name]] * 21)))

    def test_ed25519(self) -> None:
        key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        public = f"whpk_{base64.b64encode(raw).decode()}"
        assert list(self.source_class().problems({"SECRETS": [public]})) == []
        source, right = self.source(secrets=(self.secrets[0], public)), self.delivery()
        message, at = (right.headers[f"{self.prefix}-{part}"] for part in ("id", "timestamp"))
        for signer in (key, other):
            proof = signer.sign(f"{message}.{at}.".encode() + right.body)
            line = f"v1a,{base64.b64encode(proof).decode()}"
            signed = right.with_header(f"{self.prefix}-signature", line)
            if signer is key:
                assert self.verify(signed, source).startswith("2-")
            else:
                with pytest.raises(InvalidSignature):
                    self.verify(signed, source)

    def test_without_a_type(self) -> None:
        delivery = self.sign(b"{}", secret=self.secrets[0], at=NOW)
        assert [e.event_type for e in self.parse(delivery)] == ["message"]

    @pytest.mark.parametrize(
        "secret", ["whsec_", "whsec_!", "whpk_YWJj", "nonsense!", "whsec_YWJj\n"]
    )
    def test_bad_secrets(self, secret: str) -> None:
        assert list(self.source_class().problems({"SECRETS": [secret]}))


class TestStandard(StandardContract, DoorContract):
    path = "webhooks.providers.standard.StandardSource"
    proofs = ("webhook-id", "webhook-timestamp", "webhook-signature")

    def test_the_official_vector(self) -> None:
        """https://github.com/standard-webhooks/standard-webhooks"""
        headers = {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        at = datetime.fromtimestamp(1614265330, UTC)
        assert self.source().verify(b'{"test": 2432232314}', headers, now=at)

    def test_the_official_package_agrees(self) -> None:
        """What it signs passes here, and what we sign in tests passes there."""
        theirs, delivery = standardwebhooks.Webhook(self.secrets[0]), self.delivery()
        with time_machine.travel(NOW, tick=False):
            assert theirs.verify(delivery.body.decode(), delivery.headers)
        line = theirs.sign("msg_1", NOW, delivery.body.decode())
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": seconds(NOW),
            "webhook-signature": line,
        }
        assert self.verify(replace(delivery, headers=headers))


class TestSvix(StandardContract, DoorContract):
    path = "webhooks.providers.standard.SvixSource"
    prefix = "svix"
    proofs = ("svix-id", "svix-timestamp", "svix-signature")

    def test_the_official_package_agrees(self) -> None:
        from svix.webhooks import Webhook  # takes longer to load than all else here

        theirs, delivery = Webhook(self.secrets[0]), self.delivery()
        with time_machine.travel(NOW, tick=False):
            theirs.verify(delivery.body, delivery.headers)
        line = theirs.sign("msg_1", NOW, delivery.body.decode())
        headers = {"svix-id": "msg_1", "svix-timestamp": seconds(NOW), "svix-signature": line}
        assert self.verify(replace(delivery, headers=headers))


class TestResend(TestSvix):
    """Svix under a name of its own."""

    path = "webhooks.providers.resend.ResendSource"

    def body(self, number: int = 1) -> bytes:
        document = {"type": "email.delivered", "data": {"email_id": f"m{number}"}}
        return json.dumps(document).encode()

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [(f"msg_{hashlib.md5(body).hexdigest()}", "email.delivered")]

    def test_what_it_is_about(self) -> None:
        [envelope] = self.parse(self.delivery())
        assert self.source().ordering_key(envelope) == "m1"
        odd: tuple[Any, ...] = (None, [], {}, {"email_id": 1}, {"email_id": ""})
        for about in odd:
            assert self.source().ordering_key(replace(envelope, payload={"data": about})) == ""


def public_of(key: EllipticCurvePrivateKey) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


KEYS = {public_of(key): key for key in (generate_private_key(SECP256R1()) for _ in range(2))}
PUBLIC_KEYS = (min(KEYS), max(KEYS))


class TestSendGrid(SourceContract, DoorContract):
    path = "webhooks.providers.sendgrid.SendGridSource"
    secrets = PUBLIC_KEYS
    proofs = (
        "X-Twilio-Email-Event-Webhook-Signature",
        "X-Twilio-Email-Event-Webhook-Timestamp",
    )
    tolerance = 600

    def body(self, number: int = 1) -> bytes:
        return json.dumps([self.item(number, "delivered"), self.item(number, "open")]).encode()

    def item(self, number: int, kind: str, **members: Any) -> dict[str, Any]:
        return {
            "sg_event_id": f"{kind}-{number}",
            "sg_message_id": f"m-{number}",
            "event": kind,
            "timestamp": 1_700_000_000,
            "email": "a@example.com",
            **members,
        }

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        proof = KEYS[secret].sign(seconds(at).encode() + body, ECDSA(SHA256()))
        values = (base64.b64encode(proof).decode(), seconds(at))
        return Delivery(body, dict(zip(self.proofs, values, strict=True)))

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("delivered-1", "delivered"), ("open-1", "open")]

    @pytest.mark.django_db
    def test_one_row_each(self, post: Callable[[Delivery], Any]) -> None:
        """Each row has its own item, in the order of the list; handlers see that, and no other."""
        seen: list[tuple[str, object]] = []

        @handles("tried", "delivered")
        def look(event: Event) -> None:
            seen.append((event.event_id, event.payload["n"]))

        items = [self.item(n, "delivered", n=n) for n in range(50)]
        body = json.dumps(items).encode()
        post(self.sign(body, secret=self.secrets[0], at=datetime.now(UTC)))
        rows = list(WebhookEvent.objects.order_by("received_at", "id"))
        assert [row.event_id for row in rows] == [item["sg_event_id"] for item in items]
        assert max(len(bytes(row.body or b"")) for row in rows) < 200
        for row in rows:
            engine.process(str(row.pk))
        assert seen == [(f"delivered-{n}", n) for n in range(50)]

    @pytest.mark.django_db
    def test_all_or_nothing(self, post: Callable[[Delivery], Any]) -> None:
        items = [*(self.item(n, "open") for n in range(3)), {"event": "open"}]
        body = json.dumps(items).encode()
        answer = post(self.sign(body, secret=self.secrets[0], at=datetime.now(UTC)))
        assert answer.status_code == 400
        assert not WebhookEvent.objects.exists()

    @pytest.mark.django_db
    def test_partly_known(self, post: Callable[[Delivery], Any]) -> None:
        """What is new is stored, what is known is counted; a list may name one twice."""
        for numbers, duplicate in (([1, 2], False), ([2, 3, 3], False), ([1, 3], True)):
            body = json.dumps([self.item(n, "open") for n in numbers]).encode()
            answer = post(self.sign(body, secret=self.secrets[0], at=datetime.now(UTC)))
            assert answer.json().get("duplicate", False) is duplicate
        seen = {r.event_id: r.deliveries_seen for r in WebhookEvent.objects.all()}
        assert seen == {"open-1": 2, "open-2": 2, "open-3": 2}

    @pytest.mark.django_db
    def test_an_empty_list(self, post: Callable[[Delivery], Any]) -> None:
        """SendGrid's own test may send one: there is nothing to store."""
        answer = post(self.sign(b"[]", secret=self.secrets[0], at=datetime.now(UTC)))
        assert (answer.status_code, answer.json()) == (200, {"received": True})

    @pytest.mark.parametrize("key", ["!", "YWJj", public_of(next(iter(KEYS.values())))[:-8]])
    def test_bad_keys(self, key: str) -> None:
        assert list(self.source_class().problems({"SECRETS": [key]}))


class TestMailgun(SourceContract, DoorContract):
    path = "webhooks.providers.mailgun.MailgunSource"
    secrets = ("key-one", "key-two")
    signs_body = False

    def body(self, number: int = 1, **members: Any) -> bytes:
        event = {"id": f"e{number}", "event": "delivered", "timestamp": 1521233195.375}
        return json.dumps({"event-data": event | members}).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime, token: str | None = None) -> Delivery:
        token = token or hashlib.sha256(body).hexdigest()[:50]
        time = seconds(at)
        proof = {
            "timestamp": time,
            "token": token,
            "signature": hexed(secret, f"{time}{token}".encode()),
        }
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return Delivery(body)
        if not isinstance(document, dict):
            return Delivery(body)
        return Delivery(json.dumps({"signature": proof, **document}).encode())

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("e1", "delivered")]

    @pytest.mark.parametrize(
        "proof",
        [
            None,
            [],
            "x",
            {},
            {"timestamp": 1, "token": "a", "signature": "b"},
            {"timestamp": "1", "token": "", "signature": "b"},
            {"timestamp": "1", "token": "a"},
            {"timestamp": "x", "token": "a", "signature": "b"},
            {"timestamp": "9" * 21, "token": "a", "signature": "b"},
            {"timestamp": "1", "token": "a" * 256, "signature": "b"},
            {"timestamp": "1", "token": "a\x00", "signature": "b"},
        ],
    )
    def test_no_proof(self, proof: object) -> None:
        body = json.dumps({**json.loads(self.body()), "signature": proof}).encode()
        with pytest.raises(MissingSignature):
            self.verify(Delivery(body))

    @pytest.mark.parametrize("change", ["timestamp", "token", "signature"])
    def test_another_proof(self, change: str) -> None:
        document = json.loads(self.delivery().body)
        document["signature"][change] = "1" + document["signature"][change]
        with pytest.raises(InvalidSignature):
            self.verify(Delivery(json.dumps(document).encode()))

    @pytest.mark.django_db
    @pytest.mark.both_databases
    def test_a_token_is_good_for_one_event(self, post: Callable[[Delivery], Any]) -> None:
        """The body is not signed: who has seen a proof cannot use it for an event of his own."""
        proof: dict[str, Any] = {"secret": self.secrets[0], "at": datetime.now(UTC)}
        proof["token"] = "t" * 50
        assert post(self.sign(self.body(1), **proof)).status_code == 200
        forged = post(self.sign(self.body(2), **proof))
        assert (forged.status_code, forged.json()["code"]) == (406, "wrong_signature")
        again = post(self.sign(self.body(1), **proof))
        assert again.json() == {"received": True, "duplicate": True}
        repeated = post(self.sign(self.body(1), **(proof | {"token": "u" * 50})))
        assert repeated.json() == {"received": True, "duplicate": True}
        assert WebhookEvent.objects.get().deliveries_seen == 3

    @pytest.mark.django_db
    def test_what_stops_the_repeats(self, post: Callable[[Delivery], Any]) -> None:
        """406 for what cannot become right, and no 406 for trouble of ours."""
        now = datetime.now(UTC)
        for delivery in (
            Delivery(b"{"),
            Delivery(b"{}"),
            self.sign(self.body(), secret=self.secrets[1], at=now),
            self.sign(b'{"event-data": []}', secret=self.secrets[0], at=now),
        ):
            assert post(delivery).status_code == 406

    def test_times_with_fractions(self) -> None:
        [envelope] = self.parse(self.delivery())
        assert envelope.occurred_at == datetime.fromtimestamp(1521233195, UTC)


class TestTwilio(SourceContract, DoorContract):
    path = "webhooks.providers.twilio.TwilioSource"
    secrets = ("12345", "67890")
    proofs = ("X-Twilio-Signature",)
    kind: ClassVar[str] = "application/x-www-form-urlencoded"

    def body(self, number: int = 1, **fields: str) -> bytes:
        return urlencode(
            {
                "MessageSid": f"SM{number}",
                "MessageStatus": "delivered",
                "AccountSid": "AC1",
                "Body": "grüß dich & mehr",
                "MediaUrl0": "",
                **fields,
            }
        ).encode()

    def sign(
        self, body: bytes, *, secret: str, at: datetime, url: str = URL, signed_url: str = ""
    ) -> Delivery:
        try:
            fields = QueryDict(body)
        except (ValueError, SuspiciousOperation):
            fields = QueryDict()
        proof = RequestValidator(secret).compute_signature(signed_url or url, fields)
        return Delivery(body, {"X-Twilio-Signature": proof, "Content-Type": self.kind}, url)

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("SM1:delivered", "message.delivered")]

    @pytest.mark.parametrize(
        "url,signed_url",
        [
            (URL, URL.replace("example.com", "example.com:443")),
            (URL.replace("example.com", "example.com:443"), URL),
            ("http://h/webhooks/tried", "http://h:80/webhooks/tried"),
            ("https://[::1]/webhooks/tried", "https://[::1]:443/webhooks/tried"),
            (f"{URL}?a=1&b=%20", f"{URL}?a=1&b=%20"),
        ],
    )
    def test_with_and_without_a_port(self, url: str, signed_url: str) -> None:
        signed = self.sign(
            self.body(), secret=self.secrets[0], at=NOW, url=url, signed_url=signed_url
        )
        assert self.verify(signed)

    @pytest.mark.parametrize(
        "url",
        [URL + "/", URL + "?x=1", URL.replace("https", "http"), URL.replace("hooks", "hook"), ""],
    )
    def test_another_address(self, url: str) -> None:
        with pytest.raises(InvalidSignature):
            self.verify(replace(self.delivery(), url=url))

    def test_a_port_that_is_none(self) -> None:
        with pytest.raises(InvalidSignature):
            self.verify(replace(self.delivery(), url="https://h:99999/x"))

    @pytest.mark.parametrize(
        "fields,event_id,event_type",
        [
            ({"MessageStatus": "sent"}, "SM1:sent", "message.sent"),
            ({"MessageStatus": "", "SmsStatus": "received"}, None, None),
            ({"MessageSid": "", "CallSid": "CA1", "CallStatus": "busy"}, "CA1:busy", "call.busy"),
            ({"MessageSid": ""}, None, None),
            ({"MessageSid": "x" * 250}, None, None),
        ],
    )
    def test_what_it_is_about(
        self, fields: dict[str, Any], event_id: str | None, event_type: str | None
    ) -> None:
        delivery = self.sign(self.body(**fields), secret=self.secrets[0], at=NOW)
        if event_id is None:
            with pytest.raises(MalformedBody):
                self.parse(delivery)
        else:
            found = [(e.event_id, e.event_type, e.account) for e in self.parse(delivery)]
            assert found == [(event_id, event_type, "AC1")]

    @pytest.mark.django_db
    def test_what_the_address_says(self, post: Callable[[Delivery], Any]) -> None:
        """What stands behind the ? is signed with it, so it belongs to the event; a header of the
        name under which it is kept is not."""
        url = f"{URL}?call=0198c0de-0000-7000-8000-000000000001&key=4111111111111111&empty="
        signed = self.sign(self.body(), secret=self.secrets[0], at=NOW, url=url)
        assert post(signed.with_header("X-Holdfast-Query", "call=forged")).status_code == 200
        event = engine.open_event(WebhookEvent.objects.get())
        assert event.payload["query"] == {
            "call": "0198c0de-0000-7000-8000-000000000001",
            "key": "4111111111111111",
        }
        plain = self.sign(self.body(2), secret=self.secrets[0], at=NOW)
        assert post(plain.with_header("X-Holdfast-Query", "call=forged")).status_code == 200
        row = WebhookEvent.objects.get(event_id="SM2:delivered")
        assert "query" not in engine.open_event(row).payload

    def test_json(self) -> None:
        """Only with its digest in the address, which is what is signed."""
        body = b'[{"id": "EZ1", "type": "com.twilio.messaging.message.sent"}]'
        digest = hashlib.sha256(body).hexdigest()
        for query, right in (
            (f"?bodySHA256={digest}", True),
            ("?bodySHA256=0", False),
            ("", False),
        ):
            url = URL + query
            proof = RequestValidator(self.secrets[0]).compute_signature(url, {})
            headers = {"X-Twilio-Signature": proof, "Content-Type": "application/json"}
            delivery = Delivery(body, headers, url)
            if right:
                assert self.verify(delivery)
                assert [e.event_id for e in self.parse(delivery)] == ["EZ1"]
            else:
                with pytest.raises(InvalidSignature):
                    self.verify(delivery)


class TestHmac(SourceContract, DoorContract):
    """As simple as it can be: hexadecimal in a header, the body's digest as the id."""

    path = "webhooks.providers.generic.HmacSource"
    secrets = ("one", "two")
    options: ClassVar[dict[str, Any]] = {"HEADER": "X-Signature"}
    proofs = ("X-Signature",)

    def body(self, number: int = 1) -> bytes:
        return json.dumps({"n": number}).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        return Delivery(body, {"X-Signature": hexed(secret, body)})

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [(hashlib.sha256(body).hexdigest(), "event")]


class TestTimedHmac(SourceContract, DoorContract):
    """With everything that can be set."""

    path = "webhooks.providers.generic.HmacSource"
    secrets = ("one", "two")
    options: ClassVar[dict[str, Any]] = {
        "HEADER": "X-Signature",
        "ALGORITHM": "sha512",
        "ENCODING": "base64",
        "PREFIX": "v7:",
        "TIMESTAMP_HEADER": "X-Time",
        "TOLERANCE": 60,
        "CONTENT": "{timestamp}|{body}|end",
        "ID_FIELD": "meta.id",
        "TYPE_HEADER": "X-Topic",
    }
    proofs = ("X-Signature", "X-Time")
    tolerance = 60

    def body(self, number: int = 1) -> bytes:
        return json.dumps({"meta": {"id": number}, "text": "{timestamp} {body}"}).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        content = seconds(at).encode() + b"|" + body + b"|end"
        digest = base64.b64encode(hmac.new(secret.encode(), content, "sha512").digest()).decode()
        headers = {"X-Signature": f"v7:{digest}", "X-Time": seconds(at), "X-Topic": "orders/paid"}
        return Delivery(body, headers)

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("1", "orders/paid")]

    @pytest.mark.parametrize("name", [None, True, 1.5, "", [], {}, "x" * 256])
    def test_ids_that_are_none(self, name: object) -> None:
        body = json.dumps({"meta": {"id": name}}).encode()
        with pytest.raises(MalformedBody):
            self.parse(self.sign(body, secret=self.secrets[0], at=NOW))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"HEADER": ""},
        {"HEADER": 1},
        {"HEADER": "X", "ALGORITHM": "md5"},
        {"HEADER": "X", "ALGORITHM": None},
        {"HEADER": "X", "ENCODING": "base32"},
        {"HEADER": "X", "PREFIX": 1},
        {"HEADER": "X", "CONTENT": "{timestamp}"},
        {"HEADER": "X", "CONTENT": "{timestamp}{body}"},
        {"HEADER": "X", "TIMESTAMP_HEADER": "Y"},
        {"HEADER": "X", "TOLERANCE": 0},
        {"HEADER": "X", "ID_FIELD": ""},
        {"HEADER": "X", "ID_FIELD": "a", "ID_HEADER": "b"},
        {"HEADER": "X", "TYPE_FIELD": 1},
    ],
)
def test_hmac_options(options: dict[str, Any]) -> None:
    """A mistake fails `manage.py check`, not the first delivery."""
    assert list(HmacSource.problems({"SECRETS": ["s"], **options}))


class TestBearer(SourceContract, DoorContract):
    path = "webhooks.providers.generic.SharedSecretSource"
    secrets = ("opensesame-1", "opensesame-2")
    options: ClassVar[dict[str, Any]] = {"ID_FIELD": "id", "TYPE_FIELD": "type"}
    proofs = ("Authorization",)
    signs_body = False

    def body(self, number: int = 1) -> bytes:
        return json.dumps({"id": f"e{number}", "type": "made"}).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        return Delivery(body, {"Authorization": f"Bearer {secret}"})

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("e1", "made")]


class TestBasic(TestBearer):
    secrets = ("user:pass:word", "user:other")
    options: ClassVar[dict[str, Any]] = {**TestBearer.options, "SCHEME": "basic"}

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        shown = base64.b64encode(secret.encode()).decode()
        return Delivery(body, {"Authorization": f"Basic {shown}"})


class TestPostmark(SourceContract, DoorContract):
    path = "webhooks.providers.postmark.PostmarkSource"
    secrets = ("user:pass:word", "user:other")
    proofs = ("Authorization",)
    signs_body = False

    def body(self, number: int = 1, **members: Any) -> bytes:
        document = {
            "RecordType": "Delivery",
            "MessageID": f"883953f4-6105-42a2-a16a-{number:012}",
            "Recipient": "jo@example.com",
            "DeliveredAt": "2026-11-24T13:00:00.0000000+01:00",
            "Metadata": {"n": "1"},
            **members,
        }
        return json.dumps(document).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        shown = base64.b64encode(secret.encode()).decode()
        return Delivery(body, {"Authorization": f"Basic {shown}"})

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [(self.id_of(body), "Delivery")]

    def id_of(self, body: bytes) -> str:
        [envelope] = self.source().parse(body, {})
        return envelope.event_id

    def test_the_id(self) -> None:
        """The same of what is said again, another one for another time, recipient, type or bounce;
        and it names nobody."""
        right = self.id_of(self.body())
        assert right.startswith("Delivery:883953f4-6105-42a2-a16a-000000000001:")
        assert "jo" not in right.rpartition(":")[2]
        assert self.id_of(self.body(Metadata={}, Details="250 OK", Tag="t")) == right
        others = (
            {"RecordType": "Open"},
            {"Recipient": "al@example.com"},
            {"DeliveredAt": "2026-11-24T13:00:01.0000000+01:00"},
            {"ReceivedAt": "2026-11-24T13:00:00Z"},
            {"ID": 42},
            {"MessageID": None},
            {"MessageID": "x" * 256},
            {"MessageID": "\x00"},
        )
        assert len({right, *(self.id_of(self.body(**other)) for other in others)}) == 9

    def test_when(self) -> None:
        [envelope] = self.parse(self.delivery())
        assert envelope.occurred_at == NOW
        odd: tuple[Any, ...] = (
            None,
            1,
            [],
            "",
            "yesterday",
            "0001-01-01T00:00:00+20:00",
            "9999-12-31",
        )
        for written in odd:
            [envelope] = self.source().parse(self.body(DeliveredAt=written), {})
            assert envelope.occurred_at is None

    @pytest.mark.django_db
    def test_what_stops_the_repeats(self, post: Callable[[Delivery], Any]) -> None:
        """403 for what cannot become right; 401 for a password that may be put right here."""
        now = datetime.now(UTC)
        for body in (b"{", b"{}", b'{"RecordType": 1}'):
            answer = post(self.sign(body, secret=self.secrets[0], at=now))
            assert (answer.status_code, answer.json()["code"]) == (403, "malformed")
        assert post(self.sign(self.body(), secret=self.secrets[1], at=now)).status_code == 401

    def test_no_name(self) -> None:
        """A check fails for credentials that are no user:password."""
        assert list(self.source_class().problems({"SECRETS": ["password"]}))
        assert list(self.source_class().problems({"SECRETS": ["a:b"], "SCHEME": "bearer"}))


@pytest.mark.parametrize(
    "options", [{"SCHEME": "digest"}, {"SCHEME": None}, {"SCHEME": "basic", "SECRETS": ["plain"]}]
)
def test_shared_secret_options(options: dict[str, Any]) -> None:
    assert list(SharedSecretSource.problems({"SECRETS": ["a:b"], **options}))


class TestStripe(SourceContract, DoorContract):
    """Beside its own tests."""

    path = "webhooks.providers.stripe.StripeSource"
    secrets = ("whsec_one", "whsec_two")
    proofs = ("Stripe-Signature",)
    tolerates = frozenset({"twice"})  # the second v1 stands alone
    tolerance = 300

    def body(self, number: int = 1) -> bytes:
        return json.dumps({"id": f"evt_{number}", "type": "charge.refunded"}).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        digest = hexed(secret, seconds(at).encode() + b"." + body)
        return Delivery(body, {"Stripe-Signature": f"t={seconds(at)},v1={digest}"})

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("evt_1", "charge.refunded")]


@pytest.mark.django_db
def test_probes_by_head(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 where the provider tries an address so, else 405; never a word."""
    settings.WEBHOOK_SOURCES = {
        "tried": {"SOURCE": TestMailgun.path, "OPTIONS": {"SECRETS": ["s"]}}
    }
    assert client.head("/webhooks/tried").status_code == 405
    monkeypatch.setattr(type(source_for("tried")), "probed_by_head", True)
    answer = client.head("/webhooks/tried")
    assert (answer.status_code, answer.content) == (200, b"")
    assert client.get("/webhooks/tried").status_code == 405


def test_a_delivery_of_two_days_ago_is_refused_by_its_time() -> None:
    """Not by its signature, which is right."""
    slack = TestSlack()
    old = slack.delivery(at=NOW - timedelta(days=2))
    with pytest.raises(InvalidSignature, match="too long ago"):
        slack.verify(old)


@pytest.mark.django_db
def test_failed_events_of_a_batch_are_re_armed_with_their_own_body(
    client: Client, settings: Settings
) -> None:
    sendgrid = TestSendGrid()
    settings.WEBHOOK_SOURCES = {
        "tried": {"SOURCE": sendgrid.path, "OPTIONS": {"SECRETS": list(sendgrid.secrets)}}
    }
    delivery = sendgrid.delivery(at=datetime.now(UTC))

    def send() -> None:
        client.post(
            "/webhooks/tried",
            delivery.body,
            content_type="application/json",
            headers=delivery.headers,
        )

    send()
    WebhookEvent.objects.update(status=EventStatus.FAILED)
    before = {row.event_id: row.body for row in WebhookEvent.objects.all()}
    send()
    after = {row.event_id: row.body for row in WebhookEvent.objects.all()}
    assert after == before
    assert {row.status for row in WebhookEvent.objects.all()} == {EventStatus.RECEIVED}
