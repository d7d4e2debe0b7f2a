"""Amazon SNS: signatures, certificates whose address the sender writes, and confirmations."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
import responses
import urllib3.util.connection
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as make_ec_key
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pytest_django import Settings

from outbound.models import OutboundCall
from tests.contracts.source import NOW, Delivery, DoorContract, SourceContract
from webhooks import certificates, engine, handlers
from webhooks.certificates import (
    FAILURE_SECONDS,
    FETCHES,
    KEPT,
    KEPT_SECONDS,
    STALE_SECONDS,
    TIMEOUTS,
    Certificates,
    demand_certificate_url,
    demand_subscribe_url,
)
from webhooks.errors import CannotVerify, InvalidSignature, MissingSignature
from webhooks.models import WebhookEvent
from webhooks.providers.sns import CONFIRMATION, SIGNED, SnsSource
from webhooks.states import EventStatus
from webhooks.webhook_handlers import confirm_subscription

HOST = "sns.us-east-1.amazonaws.com"
CERTIFICATE_URL = f"https://{HOST}/SimpleNotificationService-0123456789abcdef.pem"
TOPIC = "arn:aws:sns:us-east-1:123456789012:bounces"
OTHER_TOPIC = "arn:aws:sns:us-east-1:999999999999:bounces"
SUBSCRIBE_URL = f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=abc"
LONG = 20.0


def make_certificate(
    key: Any, *, host: str = "sns.amazonaws.com", ends: datetime = NOW + timedelta(days=90)
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, SHA256())
    )
    return built.public_bytes(Encoding.PEM)


KEY = generate_private_key(65537, 2048)
PEM = make_certificate(KEY)


@cache
def other_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def document(**members: Any) -> dict[str, Any]:
    """A notification; ... takes a member away."""
    usual = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": json.dumps({"eventType": "Bounce", "n": 1}),
        "Timestamp": stamp(NOW),
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
    }
    return {name: value for name, value in (usual | members).items() if value is not ...}


def signed(members: dict[str, Any], key: RSAPrivateKey = KEY) -> Delivery:
    """Signed as far as there is something to sign."""
    names = SIGNED.get(str(members.get("Type")), ())
    content = "".join(f"{n}\n{members[n]}\n" for n in names if members.get(n) is not None)
    version = SHA1() if members.get("SignatureVersion") == "1" else SHA256()
    proof = key.sign(content.encode("utf-8", "surrogatepass"), PKCS1v15(), version)
    body = json.dumps({**members, "Signature": base64.b64encode(proof).decode()})
    return Delivery(body.encode(), {"Content-Type": "text/plain; charset=UTF-8"})


class Fetched:
    """Instead of the network: what was asked for, and what is said."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.urls: list[str] = []
        self.answers = list(answers) or [PEM]

    def __call__(self, url: str) -> bytes:
        self.urls.append(url)
        answer = self.answers[min(len(self.urls), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Fetched:
    fetched = Fetched()
    monkeypatch.setattr(SnsSource, "certificates", Certificates(fetched))
    return fetched


@pytest.fixture(autouse=True)
def no_network(fetched: Fetched) -> None:
    """Nothing leaves this machine, unless a test brings a way."""


class TestSns(SourceContract, DoorContract):
    """The contract. What a secret is elsewhere is a topic here."""

    path = "webhooks.providers.sns.SnsSource"
    secrets = (TOPIC, OTHER_TOPIC)
    secrets_option = "TOPIC_ARNS"
    tolerance = 3600
    signs_body = False  # not all of it: see below

    def body(self, number: int = 1) -> bytes:
        return json.dumps(document(MessageId=f"m-{number}")).encode()

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        try:
            members = json.loads(body)
        except (ValueError, RecursionError):
            return Delivery(body)
        if not isinstance(members, dict):
            return Delivery(body)
        return signed({**members, "TopicArn": secret, "Timestamp": stamp(at)})

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        return [("m-1", "ses.bounce")]

    @pytest.mark.parametrize("version", ["1", "2"])
    @pytest.mark.parametrize("kind", [*SIGNED])
    def test_both_versions(self, version: str, kind: str) -> None:
        more = {"Subject": "s"}
        if kind != "Notification":
            more = {"Token": "abc", "SubscribeURL": SUBSCRIBE_URL}
        members = document(Type=kind, SignatureVersion=version, **more)
        assert self.verify(signed(members)) == f"1-v{version}"
        with pytest.raises(InvalidSignature):
            self.verify(signed(members, other_key()))

    @pytest.mark.parametrize("name", ["Message", "MessageId", "Timestamp", "Subject", "Type"])
    def test_tampered(self, name: str) -> None:
        """Each field that is signed."""
        delivery = signed(document(Subject="s"))
        members = json.loads(delivery.body)
        members[name] = {"Timestamp": stamp(NOW + timedelta(seconds=1)), "Type": CONFIRMATION}.get(
            name, members[name] + "x"
        )
        members |= {"Token": "t", "SubscribeURL": SUBSCRIBE_URL} if name == "Type" else {}
        with pytest.raises(InvalidSignature):
            self.verify(replace(delivery, body=json.dumps(members).encode()))

    @pytest.mark.parametrize(
        "members",
        [
            {"Type": ...},
            {"Type": 1},
            {"Type": "Other"},
            {"MessageId": ...},
            {"MessageId": ""},
            {"Message": ...},
            {"Message": 1},
            {"TopicArn": ...},
            {"TopicArn": 1},
            {"Timestamp": ...},
            {"Timestamp": "yesterday"},
            {"Timestamp": "2026-11-24"},
            {"SignatureVersion": ...},
            {"SignatureVersion": "3"},
            {"SignatureVersion": 2},
            {"SigningCertURL": ...},
            {"Subject": 1},
        ],
    )
    def test_members_that_are_none(self, members: dict[str, Any], fetched: Fetched) -> None:
        with pytest.raises(MissingSignature):
            self.verify(signed(document(**members)))
        assert fetched.urls == []

    @pytest.mark.parametrize("signature", ["", "!", "YQ=", None, 1, [], "YWJj"])
    def test_signatures_that_are_none(self, signature: object) -> None:
        body = json.dumps({**document(), "Signature": signature}).encode()
        with pytest.raises((MissingSignature, InvalidSignature)):
            self.verify(Delivery(body))

    @pytest.mark.parametrize(
        "topic",
        [
            OTHER_TOPIC,
            "arn:aws:sns:us-east-1:123456789012:bounces2",
            "arn:aws:sns:eu-west-1:123456789012:bounces",
            "arn:aws:sqs:us-east-1:123456789012:bounces",
            "arn:aws:sns::123456789012:bounces",
            "arn:aws:sns:evil.test/:1:x",
            "bounces",
            f"{TOPIC}\n",
        ],
    )
    def test_a_topic_of_somebody_else(self, topic: str, fetched: Fetched) -> None:
        """Refused before anything is fetched, however well it is signed."""
        with pytest.raises(InvalidSignature):
            self.verify(signed(document(TopicArn=topic)))
        assert fetched.urls == []

    def test_messages(self) -> None:
        """One that is a JSON object is read; any other is left as it is."""
        for message, kind in (
            ('{"notificationType": "Complaint"}', "ses.complaint"),
            ('{"eventType": 1}', "Notification"),
            ('{"a": 1}', "Notification"),
            ("[1]", "Notification"),
            ("hello", "Notification"),
            ("", "Notification"),
        ):
            [envelope] = self.parse(signed(document(Message=message)))
            assert envelope.event_type == kind
            assert ("message" in envelope.payload) is message.startswith("{")

    @pytest.mark.django_db
    def test_without_a_certificate(self, post: Callable[[Delivery], Any], fetched: Fetched) -> None:
        """503: SNS sends again. One line is logged, and nothing is stored."""
        fetched.answers = [CannotVerify("no connection")]
        answer = post(self.delivery(at=datetime.now(UTC)))
        assert (answer.status_code, answer["Retry-After"]) == (503, "30")
        assert not WebhookEvent.objects.exists()

    @pytest.mark.parametrize("topics", [["x"], [1], "text", [TOPIC, ""], ["arn:aws:sns:x:1:a"]])
    def test_bad_topics(self, topics: object) -> None:
        assert list(SnsSource.problems({"TOPIC_ARNS": topics}))


HOSTILE_URLS = [
    "",
    "x",
    "http://sns.us-east-1.amazonaws.com/a.pem",
    "HTTPS://sns.us-east-1.amazonaws.com.evil.test/a.pem",
    "https://sns.us-east-1.amazonaws.com.evil.test/a.pem",
    "https://evilsns.us-east-1.amazonaws.com/a.pem",
    "https://evil.test/sns.us-east-1.amazonaws.com/a.pem",
    "https://evil.test?sns.us-east-1.amazonaws.com/a.pem",
    "https://evil.test#sns.us-east-1.amazonaws.com/a.pem",
    "https://evil.test\\sns.us-east-1.amazonaws.com/a.pem",
    "https://sns.us-east-1.amazonaws.com@evil.test/a.pem",
    "https://user@sns.us-east-1.amazonaws.com/a.pem",
    "https://user:pass@sns.us-east-1.amazonaws.com/a.pem",
    "https://sns.us-east-1.amazonaws.com:443/a.pem",
    "https://sns.us-east-1.amazonaws.com:8443/a.pem",
    "https://sns.us-east-1.amazonaws.com:/a.pem",
    "https://sns.us-east-1.amazonaws.com./a.pem",
    "https://SNS.us-east-1.amazonaws.com/a.pem",
    "https://sns.us-east-1.amazonaws.com.cn/a.pem",
    "https://sns.eu-west-1.amazonaws.com/a.pem",
    "https://sns.evil.us-east-1.amazonaws.com/a.pem",
    "https://sns.us-east-1.amazonaws.com/a.pem?x=1",
    "https://sns.us-east-1.amazonaws.com/a.pem#x",
    "https://sns.us-east-1.amazonaws.com/a.pem#",
    "https://sns.us-east-1.amazonaws.com/a.pem/",
    "https://sns.us-east-1.amazonaws.com/a.crt",
    "https://sns.us-east-1.amazonaws.com/.pem",
    "https://sns.us-east-1.amazonaws.com/a/b.pem",
    "https://sns.us-east-1.amazonaws.com/../a.pem",
    "https://sns.us-east-1.amazonaws.com/%2e%2e/a.pem",
    "https://sns.us-east-1.amazonaws.com//evil.test/a.pem",
    "https://sns.us-east-1.amazonaws.com/a.pem\n",
    "https://sns.us-east-1.amazonaws.com/a .pem",
    "https://sns.us-east-1.amazonaws.com\t/a.pem",
    "https://sns.us-east-1.amazonaws.com/" + "a" * 300 + ".pem",
    "https://\uff53ns.us-east-1.amazonaws.com/a.pem",
    "https://[::1]/a.pem",
    "https://127.0.0.1/a.pem",
    "https://169.254.169.254/latest/meta-data/a.pem",
    "https://localhost/a.pem",
    "file:///etc/ssl/a.pem",
    "ftp://sns.us-east-1.amazonaws.com/a.pem",
    "//sns.us-east-1.amazonaws.com/a.pem",
    "https:///a.pem",
    "https://[sns.us-east-1.amazonaws.com/a.pem",
]


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_hostile_addresses(url: str, fetched: Fetched) -> None:
    """None is fetched, none is visited."""
    if url != "https://sns.us-east-1.amazonaws.com/.pem":
        with pytest.raises(InvalidSignature):
            demand_subscribe_url(url, region="us-east-1")
    delivery = signed(document(SigningCertURL=url))
    source = SnsSource(name="sns", options={"TOPIC_ARNS": [TOPIC]})
    with pytest.raises((InvalidSignature, MissingSignature)):
        source.verify(delivery.body, {}, now=NOW)
    assert fetched.urls == []


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-2", "us-gov-west-1", "ap-southeast-5"])
def test_addresses_of_amazon(region: str) -> None:
    demand_certificate_url(f"https://sns.{region}.amazonaws.com/Simple-1.pem", region=region)
    query = f"Action=ConfirmSubscription&TopicArn=arn:aws:sns:{region}:1:t&Token=1"
    demand_subscribe_url(f"https://sns.{region}.amazonaws.com/?{query}", region=region)


def test_addresses_in_china() -> None:
    demand_certificate_url("https://sns.cn-north-1.amazonaws.com.cn/a.pem", region="cn-north-1")


class TestCertificates:
    def test_once(self) -> None:
        """Twenty ask at once, one is fetched; and again after a day."""
        time, fetched = [0.0], Fetched()
        store = Certificates(fetched, monotonic=lambda: time[0])
        together = threading.Barrier(20)

        def ask(_: int) -> int:
            together.wait(LONG)
            return store.key(CERTIFICATE_URL, now=NOW).key_size

        with ThreadPoolExecutor(20) as threads:
            assert list(threads.map(ask, range(20))) == [2048] * 20
        assert fetched.urls == [CERTIFICATE_URL]
        time[0] = KEPT_SECONDS - 1
        store.key(CERTIFICATE_URL, now=NOW)
        assert len(fetched.urls) == 1
        time[0] = KEPT_SECONDS
        store.key(CERTIFICATE_URL, now=NOW)
        assert len(fetched.urls) == 2

    @pytest.mark.parametrize("answer", [CannotVerify("gone"), b"", b"x", PEM[:-100], b"\xff"])
    def test_a_failure_is_remembered(self, answer: bytes | Exception) -> None:
        """A flood does not fetch; a little later it is tried again."""
        time, fetched = [0.0], Fetched(answer, PEM)
        store = Certificates(fetched, monotonic=lambda: time[0])
        for _ in range(50):
            with pytest.raises(CannotVerify):
                store.key(CERTIFICATE_URL, now=NOW)
        assert len(fetched.urls) == 1
        time[0] = FAILURE_SECONDS
        assert store.key(CERTIFICATE_URL, now=NOW).key_size == 2048

    def test_a_flood_of_addresses(self) -> None:
        """So many a minute and no more; what is kept is bounded."""
        time, fetched = [0.0], Fetched()
        store = Certificates(fetched, monotonic=lambda: time[0])
        got = 0
        for number in range(1000):
            try:
                store.key(f"https://{HOST}/{number}.pem", now=NOW)
                got += 1
            except CannotVerify:
                pass
        assert got == len(fetched.urls) == FETCHES
        assert len(store._entries) == KEPT
        time[0] = 60.0
        assert store.key(CERTIFICATE_URL, now=NOW).key_size == 2048

    def test_made_up_addresses_do_not_drive_out_the_real_one(self) -> None:
        """A flood of names behind which there is nothing: the certificate is not fetched again."""
        time, fetched = [0.0], Fetched(PEM, *[CannotVerify("gone")] * 1000)
        store = Certificates(fetched, monotonic=lambda: time[0])
        store.key(CERTIFICATE_URL, now=NOW)
        for number in range(1000):
            time[0] += 10.0
            with pytest.raises(CannotVerify):
                store.key(f"https://{HOST}/{number}.pem", now=NOW)
        assert store.key(CERTIFICATE_URL, now=NOW).key_size == 2048
        assert fetched.urls.count(CERTIFICATE_URL) == 1
        assert len(store._entries) == KEPT

    def test_one_that_cannot_be_renewed(self) -> None:
        """It is used for some days more, while it is tried again and again, and then no longer."""
        time, fetched = [0.0], Fetched(PEM, *[CannotVerify("gone")] * 1000)
        store = Certificates(fetched, monotonic=lambda: time[0])
        store.key(CERTIFICATE_URL, now=NOW)
        for moment in (KEPT_SECONDS, KEPT_SECONDS + FAILURE_SECONDS, STALE_SECONDS - 1):
            time[0], before = moment, len(fetched.urls)
            for _ in range(3):
                assert store.key(CERTIFICATE_URL, now=NOW).key_size == 2048
            assert len(fetched.urls) == before + 1
        time[0] = STALE_SECONDS
        for _ in range(3):
            with pytest.raises(CannotVerify):
                store.key(CERTIFICATE_URL, now=NOW)

    def test_not_valid_now(self) -> None:
        old = make_certificate(KEY, ends=NOW - timedelta(seconds=1))
        with pytest.raises(CannotVerify, match="not valid now"):
            Certificates(Fetched(old)).key(CERTIFICATE_URL, now=NOW)
        with pytest.raises(CannotVerify, match="not valid now"):
            Certificates(Fetched()).key(CERTIFICATE_URL, now=datetime(2019, 1, 1, tzinfo=UTC))

    def test_another_kind_of_key(self) -> None:
        other = make_certificate(make_ec_key(SECP256R1()))
        with pytest.raises(CannotVerify, match="no RSA key"):
            Certificates(Fetched(other)).key(CERTIFICATE_URL, now=NOW)


class Amazon(BaseHTTPRequestHandler):
    """What a server on loopback answers by path."""

    seen: ClassVar[list[str]] = []
    stopped: ClassVar[threading.Event]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        name = self.path.partition("?")[0].strip("/")
        if name == "moved.pem":
            self.send_response(302)
            self.send_header("Location", f"https://{HOST}/right.pem")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = {"right.pem": PEM, "large.pem": PEM + b" " * 40_000}.get(name)
        self.send_response(404 if body is None and name != "slow.pem" else 200)
        self.send_header("Content-Length", str(len(body or b"") + 1000 * (name == "slow.pem")))
        self.end_headers()
        if name == "slow.pem":
            while not self.stopped.wait(0.05):
                self.wfile.write(b"-")
                self.wfile.flush()
        self.wfile.write(body or b"")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def amazon(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, host: str = HOST, trusted: bool = True
) -> Iterator[list[str]]:
    """A TLS server on loopback to which every connection leads. Yields the paths it was asked."""
    key = make_ec_key(SECP256R1())
    end = datetime.now(UTC) + timedelta(days=1)
    (folder / "certificate").write_bytes(make_certificate(key, host=host, ends=end))
    (folder / "key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    if trusted:
        bundle = str(folder / "certificate")
        monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", bundle)
    monkeypatch.setattr(Amazon, "seen", [])
    monkeypatch.setattr(Amazon, "stopped", threading.Event(), raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Amazon)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def connect(address: tuple[str, int], timeout: Any = None, **_: Any) -> socket.socket:
        assert address == (HOST, 443)
        return socket.create_connection(("127.0.0.1", server.server_port), timeout=timeout)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    try:
        yield Amazon.seen
    finally:
        Amazon.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(LONG)


class TestOverTls:
    """The fetch itself, by TLS on loopback."""

    def test_right(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with amazon(tmp_path, monkeypatch) as seen:
            store = Certificates()
            for _ in range(3):
                assert store.key(f"https://{HOST}/right.pem", now=NOW).key_size == 2048
        assert seen == ["/right.pem"]

    @pytest.mark.parametrize(
        "name, reason",
        [
            ("moved", "status 302"),
            ("large", "status 200"),
            ("gone", "status 404"),
            ("slow", "within 0.4 s"),
        ],
    )
    def test_wrong(
        self, name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A redirect is not followed, what is large is not read, what drips is cut: here sooner
        than after the four seconds that it has otherwise."""
        if name == "slow":
            assert TIMEOUTS.total == 4
            monkeypatch.setattr(certificates, "TIMEOUTS", replace(TIMEOUTS, total=0.4))
        with (
            amazon(tmp_path, monkeypatch) as seen,
            pytest.raises(CannotVerify, match=reason),
        ):
            Certificates().key(f"https://{HOST}/{name}.pem", now=NOW)
        assert seen == [f"/{name}.pem"]

    @pytest.mark.parametrize("host, trusted", [("sns.evil.test", True), (HOST, False)])
    def test_nobody_vouches(
        self, host: str, trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A TLS certificate for another host, or one that nobody signed: nothing is asked."""
        with (
            amazon(tmp_path, monkeypatch, host=host, trusted=trusted) as seen,
            pytest.raises(CannotVerify, match="TLS"),
        ):
            Certificates().key(f"https://{HOST}/right.pem", now=NOW)
        assert seen == []


@pytest.mark.django_db
class TestConfirmation:
    """From the topic's first word to the visit that says yes."""

    @pytest.fixture
    def confirmation(self, settings: Settings) -> Delivery:
        settings.WEBHOOK_SOURCES = {
            "sns": {
                "SOURCE": "webhooks.providers.sns.SnsSource",
                "OPTIONS": {"TOPIC_ARNS": [TOPIC]},
            }
        }
        settings.OUTBOUND_ADAPTERS = {
            "sns": {"ADAPTER": "webhooks.adapters.sns.SnsAdapter", "QUEUE": "webhooks-v1"}
        }
        handlers.handles("sns", CONFIRMATION)(confirm_subscription)
        members = document(
            Type=CONFIRMATION,
            Token="abc",
            SubscribeURL=SUBSCRIBE_URL,
            Timestamp=stamp(datetime.now(UTC)),
        )
        return signed(members)

    def receive(self, client: Any, delivery: Delivery) -> int:
        answer = client.post("/webhooks/sns", delivery.body, content_type="text/plain")
        status: int = answer.status_code
        return status

    def test_confirmed(self, confirmation: Delivery, client: Any) -> None:
        """The event is handled once, its call visits once; the token is in no clear column."""
        for _ in range(2):
            assert self.receive(client, confirmation) == 200
        event = WebhookEvent.objects.get()
        engine.process(str(event.pk))
        event.refresh_from_db()
        assert event.status == EventStatus.PROCESSED
        call = OutboundCall.objects.get()
        assert (call.adapter, call.operation) == ("sns", "confirm_subscription")
        assert call.payload == {"region": "us-east-1", "subscribe_url": SUBSCRIBE_URL}
        with responses.RequestsMock() as http:
            http.get(SUBSCRIBE_URL, body="<ConfirmSubscriptionResponse/>")
            from outbound import engine as outbound_engine

            outbound_engine.deliver(call.pk)
            assert len(http.calls) == 1
        call.refresh_from_db()
        assert (call.status, call.result) == ("succeeded", {"confirmed": True})

    def test_an_address_of_somebody_else(self, confirmation: Delivery, client: Any) -> None:
        members = json.loads(confirmation.body)
        del members["Signature"]
        hostile = signed(
            members | {"SubscribeURL": "https://evil.test/?Action=ConfirmSubscription&"}
        )
        assert self.receive(client, hostile) == 401
        assert not WebhookEvent.objects.exists()
