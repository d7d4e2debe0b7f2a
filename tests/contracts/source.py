"""What every source promises, whatever its scheme. A test class inherits `SourceContract` and says
how its provider signs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.test import Client
from django.utils.datastructures import CaseInsensitiveMapping
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from webhooks.envelopes import Envelope
from webhooks.errors import DeliveryRefused, InvalidSignature, MalformedBody, MissingSignature
from webhooks.models import WebhookEvent
from webhooks.sources import Source, source_for

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
REFUSALS = (MissingSignature, InvalidSignature, MalformedBody)
URL = "https://hooks.example.com/webhooks/tried"
LATE = 10_000_000


@dataclass(frozen=True)
class Delivery:
    """One HTTP request of a provider."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    url: str = URL

    def with_header(self, name: str, value: str | None) -> Delivery:
        headers = {k: v for k, v in self.headers.items() if k != name}
        return replace(self, headers=headers if value is None else headers | {name: value})


# One table for every header that a source reads. `{}`: what was right there.
HOSTILE_VALUES: dict[str, str] = {
    "empty": "",
    "a space": " ",
    "a tab": "\t",
    "a comma": ",",
    "many commas": "," * 5000,
    "an equals sign": "=",
    "many equals signs": "=" * 5000,
    "only a prefix": "sha256=",
    "another version": "v9=00",
    "another prefix": "md5=00",
    "a word": "signature",
    "null": "null",
    "true": "true",
    "a list": "[]",
    "an object": "[object]",
    "NUL": "\x00",
    "NUL behind it": "{}\x00",
    "NUL before it": "\x00{}",
    "line breaks": "{}\r\nX-Other: 1",
    "beyond ASCII": "ü{}",
    "beyond latin-1": "€{}",
    "a lone surrogate": "\ud800{}",
    "Arabic digits": "٣٤٥",
    "full-width digits": "\uff10\uff11",
    "a superscript digit": "²",
    "zero": "0",
    "negative": "-1",
    "a plus": "+1",
    "a point": "1.5",
    "an exponent": "1e9",
    "infinity": "inf",
    "no number": "NaN",
    "underscores, which int() takes": "1_0",
    "hexadecimal": "0x10",
    "21 digits": "9" * 21,
    "20 digits": "9" * 20,
    "5000 digits, at which int() raises": "9" * 5000,
    "base64 of nothing": "====",
    "base64 without its end": "YQ=",
    "base64 with junk": "YQ==!",
    "base64 with a line break": "YW\nJj",
    "base64 for addresses": "-_-_",
    "short base64": "YQ==",
    "long base64": "QUFB" * 4000,
    "hexadecimal of odd length": "abc",
    "hexadecimal zeros": "0" * 64,
    "long hexadecimal": "ab" * 4000,
    "twice": "{}{}",
    "twice with a comma": "{},{}",
    "capitals": "<upper>",
    "in quotes": '"{}"',
    "in brackets": "<{}>",
    "in spaces": "x {} x",
    "percent": "%00{}",
    "a path": "../../etc/passwd",
    "an address": "https://evil.example/key.pem",
    "a script": "<script>alert(1)</script>",
    "SQL": "' OR 1=1 --",
    "a format": "{0.__class__}",
    "64 KiB": "x" * 65536,
    "all of latin-1": "".join(map(chr, range(1, 256))),
}

HOSTILE_BODIES: dict[str, bytes] = {
    "empty": b"",
    "a space": b" ",
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a text": b'"x"',
    "NaN": b"NaN",
    "infinity": b'{"id": Infinity}',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a list of lists": b"[[]]",
    "a list of nulls": b"[null]",
    "a list of empty objects": b"[{}]",
    "half an object": b'{"id":',
    "two documents": b"{}{}",
    "a comma too many": b'{"id":"a",}',
    "single quotes": b"{'id': 'a'}",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"id":"a"}'.encode("utf-16"),
    "latin-1": b'{"id":"\xfc"}',
    "NUL": b"\x00",
    "binary": bytes(range(256)),
    "gzip": b"\x1f\x8b\x08\x00",
    "a number of 5000 digits": b'{"id":' + b"9" * 5000 + b"}",
    "ids of a wrong type": b'{"id":1,"type":2,"event_id":3,"sg_event_id":4,"event":5}',
    "ids that are null": b'{"id":null,"type":null,"event_id":null,"event":null}',
    "ids that are empty": b'{"id":"","type":"","event_id":"","event":""}',
    "ids with NUL": rb'{"id":"\u0000","type":"\u0000","event_id":"\u0000"}',
    "ids that are lone surrogates": rb'{"id":"\ud800","type":"\ud800","event_id":"\ud800"}',
    "ids of 256 characters": json.dumps(
        dict.fromkeys(["id", "type", "event_id"], "x" * 256)
    ).encode(),
    "a form": b"a=1&b=2",
    "a form without values": b"a&b",
    "a form with broken percents": b"a=%ff%fe",
    "a form of many fields": b"&".join(b"a=1" for _ in range(2000)),
    "a form with a payload": b"payload=%7B%7D",
    "a form with two payloads": b"payload=%7B%7D&payload=%7B%7D",
    "XML": b"<?xml version='1.0'?><a/>",
    "a multipart": b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--",
}

# What a header could hold; a slice is a part of what was right there.
PIECES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from([slice(None), slice(10), slice(10, None), ",", "=", " ", "v1", "1"]),
    ),
    max_size=6,
)


class SourceContract:
    """Inherit it, set the class variables, and write `sign`."""

    path: ClassVar[str]
    secrets: ClassVar[tuple[str, str]]
    secrets_option: ClassVar[str] = "SECRETS"
    options: ClassVar[Mapping[str, Any]] = {}
    proofs: ClassVar[tuple[str, ...]] = ()
    """Headers without which there is no proof."""
    tolerance: ClassVar[float | None] = None
    signs_body: ClassVar[bool] = True
    tolerates: ClassVar[frozenset[str]] = frozenset()
    """Hostile values that hold the right one in a way that the provider allows."""

    def body(self, number: int = 1) -> bytes:
        """A delivery of the provider's, another one for each number."""
        raise AssertionError("write it")

    def sign(self, body: bytes, *, secret: str, at: datetime) -> Delivery:
        """The delivery as the provider sends it."""
        raise AssertionError("write it")

    def expect(self, body: bytes) -> list[tuple[str, str]]:
        """The (event id, event type) of each event in `body(1)`."""
        raise AssertionError("write it")

    # -- helpers

    def source(self, *, secrets: tuple[str, ...] | None = None) -> Source:
        options = {self.secrets_option: list(secrets or self.secrets[:1]), **self.options}
        return self.source_class()(name="tried", options=options)

    @classmethod
    def source_class(cls) -> type[Source]:
        module, _, name = cls.path.rpartition(".")
        found: type[Source] = getattr(__import__(module, fromlist=[name]), name)
        return found

    def delivery(self, number: int = 1, **options: Any) -> Delivery:
        return self.sign(self.body(number), **{"secret": self.secrets[0], "at": NOW, **options})

    def verify(self, delivery: Delivery, source: Source | None = None) -> str:
        headers = CaseInsensitiveMapping(delivery.headers)
        return (source or self.source()).verify(delivery.body, headers, now=NOW, url=delivery.url)

    def refuses(self, delivery: Delivery) -> bool:
        try:
            self.verify(delivery)
        except REFUSALS:
            return True
        return False

    def parse(self, delivery: Delivery) -> list[Envelope]:
        return self.source().parse(delivery.body, CaseInsensitiveMapping(delivery.headers))

    # -- the contract

    def test_options_are_sane(self) -> None:
        options = {self.secrets_option: list(self.secrets), **self.options}
        assert list(self.source_class().problems(options)) == []

    def test_right(self) -> None:
        assert self.verify(self.delivery()).startswith("1-")

    def test_header_names_have_no_case(self) -> None:
        delivery = self.delivery()
        lower = {name.lower(): value for name, value in delivery.headers.items()}
        assert self.verify(replace(delivery, headers=lower))

    def test_events(self) -> None:
        delivery = self.delivery()
        found = [(e.event_id, e.event_type) for e in self.parse(delivery)]
        assert found == self.expect(delivery.body)

    def test_what_is_stored_tells_the_same(self) -> None:
        """The stored bytes and the kept headers are enough to read each event again."""
        delivery, source = self.delivery(), self.source()
        kept = source.keep(CaseInsensitiveMapping(delivery.headers))
        for envelope in self.parse(delivery):
            stored = delivery.body if envelope.body is None else envelope.body
            again = [(e.event_id, e.payload) for e in source.parse_stored(stored, kept)]
            assert (envelope.event_id, envelope.payload) in again

    def test_what_is_kept_proves_nothing(self) -> None:
        """No signature is stored with an event."""
        kept = self.source().keep(CaseInsensitiveMapping(self.delivery().headers))
        assert not {name.lower() for name in kept} & {
            name.lower() for name in self.proofs if "sign" in name.lower() or "auth" in name.lower()
        }

    def test_wrong_secret(self) -> None:
        with pytest.raises(InvalidSignature):
            self.verify(self.delivery(secret=self.secrets[1]))

    def test_rotated(self) -> None:
        """Both secrets work while one replaces the other, and the label tells which it was."""
        both = self.source(secrets=self.secrets)
        labels = [self.verify(self.delivery(secret=secret), both) for secret in self.secrets]
        assert [label.partition("-")[0] for label in labels] == ["1", "2"]
        assert not any(secret in "".join(labels) for secret in self.secrets)

    def test_missing(self) -> None:
        for name in self.proofs:
            with pytest.raises(MissingSignature):
                self.verify(self.delivery().with_header(name, None))

    def test_stale_and_future(self) -> None:
        if self.tolerance is None:
            self.verify(self.delivery(at=NOW - timedelta(days=400)))
            return
        for sign in (-1, 1):
            near, far = (timedelta(seconds=sign * (self.tolerance + s)) for s in (-1, 2))
            assert self.verify(self.delivery(at=NOW + near))
            with pytest.raises(InvalidSignature):
                self.verify(self.delivery(at=NOW + far))

    def test_tampered_body(self) -> None:
        """No byte of the body can be another one."""
        if not self.signs_body:
            return
        right = self.delivery()
        for place in range(0, len(right.body), max(1, len(right.body) // 40)):
            changed = bytearray(right.body)
            changed[place] ^= 1
            with pytest.raises((*REFUSALS,)):
                self.verify(replace(right, body=bytes(changed)))

    def test_hostile_headers(self) -> None:
        """Each header that proves something, each hostile value: a refusal by name."""
        assert len(HOSTILE_VALUES) >= 60
        right = self.delivery()
        for header in self.proofs:
            value = right.headers[header]
            for name, hostile in HOSTILE_VALUES.items():
                text = value.swapcase() if hostile == "<upper>" else hostile.replace("{}", value)
                if name in self.tolerates or text.strip(" \t").lower() == value.lower():
                    continue
                delivery = right.with_header(header, text)
                assert self.refuses(delivery), f"{header}: {name} was taken for a proof"

    @pytest.mark.parametrize("name", HOSTILE_BODIES)
    def test_hostile_bodies(self, name: str) -> None:
        """Signed or not, they are parsed or refused by name; nothing else is raised."""
        body = HOSTILE_BODIES[name]
        unsigned = replace(self.delivery(), body=body)
        if self.signs_body:
            with pytest.raises(REFUSALS):
                self.verify(unsigned)
        self.read(self.sign(body, secret=self.secrets[0], at=NOW))

    def read(self, delivery: Delivery) -> None:
        """Verify and parse, with nothing raised but refusals."""
        source, headers = self.source(), CaseInsensitiveMapping(delivery.headers)
        try:
            source.verify(delivery.body, headers, now=NOW, url=delivery.url)
            if source.reply(delivery.body) is None:
                for envelope in source.parse(delivery.body, headers):
                    source.ordering_key(envelope)
        except REFUSALS:
            return

    @hypothesis_settings(
        deadline=None,
        max_examples=150,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(number=st.integers(0, 5), pieces=PIECES)
    def test_any_header(self, number: int, pieces: list[str | slice]) -> None:
        """Whatever a header holds: a refusal by name, or it is what the provider sent."""
        if not self.proofs:
            return
        right = self.delivery()
        header = self.proofs[number % len(self.proofs)]
        value = right.headers[header]
        text = "".join(value[piece] if isinstance(piece, slice) else piece for piece in pieces)
        try:
            self.verify(right.with_header(header, text))
        except REFUSALS:
            return
        assert value in text or value.lower() == text.strip(" \t").lower()

    @hypothesis_settings(
        deadline=None,
        max_examples=150,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(body=st.binary(max_size=120))
    def test_any_body(self, body: bytes) -> None:
        """Signed nonsense is read or refused by name."""
        self.read(self.sign(body, secret=self.secrets[0], at=NOW))

    def test_bad_options(self) -> None:
        problems = self.source_class().problems
        name = self.secrets_option
        assert list(problems({name: list(self.secrets), **self.options, "SECRT": "x"}))
        assert list(problems({**self.options, name: "text"}))
        assert list(problems({**self.options, name: [""]}))


class DoorContract:
    """The same over HTTP. Beside `SourceContract`, with a database."""

    @pytest.fixture
    def post(self, settings: Settings, client: Client) -> Callable[[Delivery], Any]:
        contract: Any = self
        settings.PUBLIC_URL = URL.removesuffix("/webhooks/tried")
        settings.WEBHOOK_SOURCES = {
            "tried": {
                "SOURCE": contract.path,
                "OPTIONS": {
                    contract.secrets_option: list(contract.secrets[:1]),
                    **contract.options,
                },
            }
        }

        def send(delivery: Delivery) -> Any:
            headers = dict(delivery.headers)
            kind = headers.pop("Content-Type", "application/json")
            path = delivery.url.removeprefix(settings.PUBLIC_URL)
            return client.post(path, delivery.body, content_type=kind, headers=headers)

        return send

    @pytest.mark.django_db
    def test_over_http(self, post: Callable[[Delivery], Any]) -> None:
        """Stored once, then known; what proves nothing leaves nothing."""
        contract: Any = self
        delivery = contract.delivery(at=datetime.now(UTC))
        expected = contract.expect(delivery.body)
        answer = post(delivery)
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        rows = list(WebhookEvent.objects.order_by("id"))
        assert [(row.event_id, row.event_type) for row in rows] == expected
        assert {row.matched_secret[:2] for row in rows} == {"1-"}
        again = post(delivery)
        assert (again.status_code, again.json()) == (200, {"received": True, "duplicate": True})
        assert WebhookEvent.objects.count() == len(expected)
        assert {row.deliveries_seen for row in WebhookEvent.objects.all()} == {2}
        unproven = contract.delivery(2, secret=contract.secrets[1], at=datetime.now(UTC))
        assert post(unproven).status_code == self.status(InvalidSignature(""))
        assert WebhookEvent.objects.count() == len(expected)

    def status(self, refusal: DeliveryRefused) -> int:
        return source_for("tried").status_of(refusal)
