"""Stripe's verifier and parser: right signatures pass, everything else ends in a named refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.webhooks.deliveries import OLD_SECRET, SECRET, digest, signature, stripe_body
from webhooks.errors import (
    DeliveryRefused,
    InvalidSignature,
    MalformedBody,
    MissingSignature,
    WrongMode,
)
from webhooks.providers.stripe import StripeSource, matching_secret, read_header

NOW = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
T = 1_700_000_000
BODY = stripe_body(id="evt_1")
GOOD = digest(BODY, at=T)
OTHER = "0" * 64
ARABIC = "".join(chr(0x0660 + int(digit)) for digit in str(T))


def source(*, secrets: tuple[str, ...] = (SECRET,), **options: Any) -> StripeSource:
    return StripeSource(name="stripe", options={"SECRETS": list(secrets), **options})


def verify(header: str | None, *, body: bytes = BODY, now: datetime = NOW) -> str:
    headers: Mapping[str, str] = {} if header is None else {"Stripe-Signature": header}
    return source().verify(body, headers, now=now)


@dataclass(frozen=True)
class Hostile:
    """A header, and the refusal that it must end in."""

    name: str
    header: str | None
    refusal: type[DeliveryRefused]


def bad(name: str, header: str | None) -> Hostile:
    """Not put together as Stripe does it: 400."""
    return Hostile(name, header, MissingSignature)


def wrong(name: str, header: str) -> Hostile:
    """Put together well, and proves nothing: 401."""
    return Hostile(name, header, InvalidSignature)


HEADERS = [
    bad("absent", None),
    bad("empty", ""),
    bad("a space", " "),
    bad("a comma", ","),
    bad("many commas", "," * 5000),
    bad("an equals sign", "="),
    bad("only equals signs", "=,=,="),
    bad("a word", "signature"),
    bad("NUL", "\x00"),
    bad("line breaks", f"t={T}\r\n,v1={GOOD}"),
    bad("only t", f"t={T}"),
    bad("only t, with a comma", f"t={T},"),
    bad("only v1", f"v1={GOOD}"),
    bad("v0 only", f"t={T},v0={GOOD}"),
    bad("v2 only", f"t={T},v2={GOOD}"),
    bad("V1 for v1", f"t={T},V1={GOOD}"),
    bad("T for t", f"T={T},v1={GOOD}"),
    bad("v1 without an equals sign", f"t={T},v1"),
    bad("t without an equals sign", f"t,v1={GOOD}"),
    bad("v1 behind a space, which Stripe does not send", f"t={T}, v1={GOOD}"),
    bad("t behind a space", f" t={T},v1={GOOD}"),
    bad("a space before the equals sign", f"t ={T},v1={GOOD}"),
    bad("semicolons", f"t={T};v1={GOOD}"),
    bad("colons", f"t:{T},v1:{GOOD}"),
    bad("JSON", json.dumps({"t": T, "v1": GOOD})),
    bad("t twice, the same", f"t={T},t={T},v1={GOOD}"),
    bad("t twice, different", f"t={T},t={T + 1},v1={GOOD}"),
    bad("two headers joined by the server", f"t={T},v1={GOOD},t={T},v1={GOOD}"),
    bad("t empty", f"t=,v1={GOOD}"),
    bad("t a space", f"t= ,v1={GOOD}"),
    bad("t a word", f"t=now,v1={GOOD}"),
    bad("t negative", f"t=-{T},v1={GOOD}"),
    bad("t with a plus", f"t=+{T},v1={GOOD}"),
    bad("t with a point", f"t={T}.0,v1={GOOD}"),
    bad("t with an exponent", f"t=17e8,v1={GOOD}"),
    bad("t in hex", f"t=0x6553F100,v1={GOOD}"),
    bad("t with an underscore, which int() takes", f"t=1_700_000_000,v1={GOOD}"),
    bad("t with spaces, which int() takes", f"t= {T} ,v1={GOOD}"),
    bad("t with a NUL", f"t={T}\x00,v1={GOOD}"),
    bad("t NaN", f"t=NaN,v1={GOOD}"),
    bad("t infinity", f"t=inf,v1={GOOD}"),
    bad("t in Arabic digits, which int() takes", f"t={ARABIC},v1={GOOD}"),
    bad("t in superscript, a digit to Python", f"t=²,v1={GOOD}"),
    bad("t of 21 digits", f"t={'9' * 21},v1={GOOD}"),
    bad("t of 5000 digits, at which int() raises", f"t={'9' * 5000},v1={GOOD}"),
    bad("t with two equals signs", f"t=={T},v1={GOOD}"),
    wrong("t of 20 digits", f"t={'9' * 20},v1={digest(BODY, at='9' * 20)}"),
    wrong("t zero", f"t=0,v1={digest(BODY, at=0)}"),
    wrong("t changed by one second", f"t={T + 1},v1={GOOD}"),
    wrong("t written with another zero", f"t=0{T},v1={GOOD}"),
    wrong("v1 empty", f"t={T},v1="),
    wrong("v1 zeros", f"t={T},v1={OTHER}"),
    wrong("v1 too short", f"t={T},v1={GOOD[:-1]}"),
    wrong("v1 too long", f"t={T},v1={GOOD}0"),
    wrong("v1 with a space behind it", f"t={T},v1={GOOD} "),
    wrong("v1 in capitals", f"t={T},v1={GOOD.upper()}"),
    wrong("v1 with another last digit", f"t={T},v1={GOOD[:-1]}{'0' if GOOD[-1] != '0' else '1'}"),
    wrong("v1 in quotes", f't={T},v1="{GOOD}"'),
    wrong("v1 beyond ASCII, at which compare_digest raises", f"t={T},v1=ü{GOOD[1:]}"),
    wrong("v1 in full-width digits", f"t={T},v1={chr(0xFF10) * 64}"),
    wrong("v1 with a lone surrogate", f"t={T},v1=\ud800{GOOD[1:]}"),
    wrong("v1 with a NUL", f"t={T},v1={GOOD}\x00"),
    wrong("v1 with two equals signs", f"t={T},v1=={GOOD}"),
    wrong("v1 in base64", f"t={T},v1=dGhpcyBpcyBub3QgaGV4"),
    wrong("v1 the secret itself", f"t={T},v1={SECRET}"),
    wrong("five thousand v1", f"t={T}" + f",v1={OTHER}" * 5000),
    wrong("right only as v0", f"t={T},v1={OTHER},v0={GOOD}"),
    wrong("signed with another secret", signature(BODY, at=T, secret="whsec_other")),
    wrong("signed with an empty secret", signature(BODY, at=T, secret="")),
    wrong("signed without the prefix", signature(BODY, at=T, secret=SECRET[6:])),
    wrong("signed for another body", signature(BODY + b" ", at=T)),
    wrong("signed for an empty body", signature(b"", at=T)),
    wrong("signed without the time", f"t={T},v1={digest(BODY, at='')}"),
    wrong("301 seconds old", signature(BODY, at=T - 301)),
    wrong("301 seconds ahead", signature(BODY, at=T + 301)),
    wrong("a year old", signature(BODY, at=T - 31_536_000)),
    wrong("a year ahead", signature(BODY, at=T + 31_536_000)),
    wrong("in milliseconds", signature(BODY, at=T * 1000)),
]


@pytest.mark.parametrize("hostile", HEADERS, ids=[h.name for h in HEADERS])
def test_hostile_headers(hostile: Hostile) -> None:
    """Every header that is not a fresh proof ends in its own refusal."""
    with pytest.raises(DeliveryRefused) as caught:
        verify(hostile.header)
    assert type(caught.value) is hostile.refusal


def test_the_table_is_long_enough() -> None:
    """At least sixty headers, each of them different."""
    assert len({h.header for h in HEADERS}) == len(HEADERS) >= 60


@pytest.mark.parametrize(
    "header",
    [
        f"t={T},v1={GOOD}",
        f"v1={GOOD},t={T}",
        f"t={T},v1={OTHER},v1={GOOD}",
        f"t={T},v1={GOOD},v1={OTHER}",
        f"t={T},v1={'ü' * 64},v1={GOOD}",
        f"t={T},v1={GOOD},v0={OTHER}",
        f"t={T},v0=ü,v1={GOOD},v2=,scheme,=,",
    ],
)
def test_right_headers(header: str) -> None:
    """Any order, several v1, other schemes beside them."""
    assert verify(header)


@pytest.mark.parametrize("seconds", [-300, -299, 0, 299, 300])
def test_the_tolerance_goes_both_ways(seconds: int) -> None:
    """300 seconds before and after are fresh."""
    assert verify(signature(BODY, at=T + seconds))


@pytest.mark.parametrize("microseconds", [1, -1])
def test_the_tolerance_ends_sharply(microseconds: int) -> None:
    """A microsecond more is too much."""
    late = timedelta(microseconds=microseconds)
    edge = T - 300 if microseconds > 0 else T + 300
    with pytest.raises(InvalidSignature):
        verify(signature(BODY, at=edge), now=NOW + late)


def test_the_tolerance_is_an_option() -> None:
    """TOLERANCE in seconds."""
    headers = {"Stripe-Signature": signature(BODY, at=T - 20)}
    assert source(TOLERANCE=20).verify(BODY, headers, now=NOW)
    with pytest.raises(InvalidSignature):
        source(TOLERANCE=19).verify(BODY, headers, now=NOW)


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"{}", "ü".encode(), b"x" * 100_000])
def test_any_bytes_can_be_signed(body: bytes) -> None:
    """The signature is over the bytes; what they mean is another question."""
    assert verify(signature(body, at=T), body=body)


def test_every_active_secret_counts() -> None:
    """During a rotation both secrets work, and the label says which one did."""
    both = source(secrets=(SECRET, OLD_SECRET))
    labels = [
        both.verify(BODY, {"Stripe-Signature": signature(BODY, at=T, secret=secret)}, now=NOW)
        for secret in (SECRET, OLD_SECRET)
    ]
    assert [label.partition("-")[0] for label in labels] == ["1", "2"]
    assert labels[0].partition("-")[2] != labels[1].partition("-")[2]


def test_the_label_is_no_secret() -> None:
    """What is stored cannot be used to sign, and fits its column."""
    label = source().label_of(SECRET)
    assert SECRET not in label
    assert not any(part in label for part in (SECRET[6:14], SECRET[-8:]))
    assert len(label) <= 50


def test_the_fingerprint_outlives_a_rotation() -> None:
    """The same secret in another place keeps its fingerprint."""
    former = source(secrets=(OLD_SECRET,)).label_of(OLD_SECRET)
    now = source(secrets=(SECRET, OLD_SECRET)).label_of(OLD_SECRET)
    assert former.split("-")[1] == now.split("-")[1]


@pytest.mark.parametrize("body", [BODY, b'{"id":"evt_2","type":"a"}', '{"ü":1}'.encode()])
def test_the_stripe_package_agrees_on_right_signatures(body: bytes) -> None:
    """What Stripe's own library signs passes, and what we sign in tests passes there."""
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET, timestamp=T)
    assert verify(header, body=body)
    with time_machine.travel(NOW, tick=False):
        assert stripe.WebhookSignature.verify_header(
            body.decode(), signature(body, at=T), SECRET, tolerance=300
        )


def part() -> st.SearchStrategy[str]:
    """A piece of a header: right ones, wrong ones, and anything at all."""
    value = st.one_of(
        st.just(str(T)), st.just(GOOD), st.just(OTHER), st.text(max_size=30), st.integers().map(str)
    )
    name = st.sampled_from(["t", "v1", "v0", "", " t", "T"])
    return st.one_of(st.builds("{}={}".format, name, value), st.text(max_size=10))


@settings(deadline=None)
@given(st.lists(part(), max_size=8).map(",".join))
def test_any_header_ends_in_a_refusal_or_in_a_proof(header: str) -> None:
    """Whatever comes: a refusal by name, or a header that Stripe's own library accepts too."""
    try:
        verify(header)
    except (MissingSignature, InvalidSignature):
        return
    with time_machine.travel(NOW, tick=False):
        assert stripe.WebhookSignature.verify_header(BODY.decode(), header, SECRET, tolerance=300)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(header: str) -> None:
    """The header's reader raises nothing else."""
    try:
        signed_at, signatures = read_header(header)
    except MissingSignature:
        return
    assert 1 <= len(signed_at) <= 20
    assert signatures


@settings(deadline=None)
@given(st.binary(), st.binary())
def test_a_body_has_its_own_signature(body: bytes, other: bytes) -> None:
    """A signature proves the bytes it was made for, and no others."""
    header = signature(body, at=T)
    assert matching_secret(body, header, secrets=[SECRET], now=NOW) == SECRET
    if other != body:
        with pytest.raises(InvalidSignature):
            matching_secret(other, header, secrets=[SECRET], now=NOW)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    """The parser raises MalformedBody, and nothing else."""
    try:
        source().parse(body, {})
    except MalformedBody:
        return


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["id", "type", "created", "account", "livemode", "data", "x"]),
        JSON | st.sampled_from(["evt_1", "a.b"]),
    )
)
def test_any_document_is_parsed_or_refused(document: dict[str, Any]) -> None:
    """Whatever the members hold, an envelope has only values that can be stored."""
    try:
        [envelope] = source().parse(json.dumps(document).encode(), {})
    except MalformedBody:
        return
    for text in (envelope.event_id, envelope.event_type, envelope.account):
        assert len(text.encode()) <= 4 * 255
        assert "\x00" not in text
    assert envelope.livemode in (True, False, None)
    assert envelope.occurred_at is None or envelope.occurred_at.tzinfo is not None


LONG = "x" * 255
REFUSED_BODIES = {
    "empty": b"",
    "a space": b" ",
    "a word": b"hello",
    "form data": b"id=evt_1&type=a",
    "XML": b"<event id='evt_1'/>",
    "cut short": BODY[:-1],
    "twice": BODY + BODY,
    "NUL behind": BODY + b"\x00",
    "a BOM": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-32": BODY.decode().encode("utf-32"),
    "latin-1": '{"id":"evt_1","type":"a","x":"ü"}'.encode("latin-1"),
    "bytes that are no UTF-8": b'{"id":"\xff","type":"a"}',
    "a surrogate in UTF-8": b'{"id":"\xed\xa0\x80","type":"a"}',
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a string": b'"evt_1"',
    "a list": b"[]",
    "a list of events": b"[" + BODY + b"]",
    "NaN": b'{"id":"evt_1","type":"a","x":NaN}',
    "Infinity": b'{"id":"evt_1","type":"a","x":-Infinity}',
    "nested too deeply": b'{"id":"evt_1","type":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "single quotes": b"{'id':'evt_1','type':'a'}",
    "a trailing comma": b'{"id":"evt_1","type":"a",}',
    "no members": b"{}",
    "no id": stripe_body(id=...),
    "id null": stripe_body(id=None),
    "id empty": stripe_body(id=""),
    "id a number": stripe_body(id=1),
    "id true": stripe_body(id=True),
    "id a list": stripe_body(id=["evt_1"]),
    "id an object": stripe_body(id={"a": 1}),
    "id too long": stripe_body(id=LONG + "x"),
    "id with NUL": stripe_body(id="evt\x00"),
    "id with a lone surrogate": stripe_body(id="evt\ud800"),
    "no type": stripe_body(type=...),
    "type null": stripe_body(type=None),
    "type empty": stripe_body(type=""),
    "type a number": stripe_body(type=1.5),
    "type too long": stripe_body(type=LONG + "x"),
    "type with NUL": stripe_body(type="a\x00b"),
    "type with a lone surrogate": stripe_body(type="\udfff"),
}


@pytest.mark.parametrize("body", REFUSED_BODIES.values(), ids=REFUSED_BODIES.keys())
def test_bodies_that_are_no_event(body: bytes) -> None:
    """Not a JSON object in UTF-8 with a usable id and type."""
    with pytest.raises(MalformedBody):
        source().parse(body, {})


ODD_BODIES = {
    "id of one character": stripe_body(id="e"),
    "id of 255 characters": stripe_body(id=LONG),
    "id of 255 wide characters": stripe_body(id="😀" * 255),
    "id with blanks": stripe_body(id=" \n"),
    "created missing": stripe_body(created=...),
    "created null": stripe_body(created=None),
    "created a string": stripe_body(created="2023-11-14"),
    "created true": stripe_body(created=True),
    "created a float": stripe_body(created=1.5),
    "created negative": stripe_body(created=-1),
    "created far away": stripe_body(created=10**17),
    "created longer than int() takes": BODY.replace(b"1700000000", b"9" * 5000),
    "created a list": stripe_body(created=[]),
    "data missing": stripe_body(data=...),
    "data a string": stripe_body(data="x"),
    "NUL elsewhere": stripe_body(data={"x": "\x00"}),
    "a lone surrogate elsewhere": stripe_body(data={"x": "\ud800"}),
    "a huge float": BODY.replace(b"1700000000", b"1e999"),
    "an unknown member": stripe_body(something={"new": 1}),
    "a member twice": BODY.replace(b"{", b'{"id":"first",', 1),
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
def test_other_oddities_are_taken(body: bytes) -> None:
    """What does not make a key of ours is the handler's business."""
    [envelope] = source().parse(body, {})
    assert envelope.event_type == "payment_intent.succeeded"
    assert envelope.payload["id"] == envelope.event_id


@pytest.mark.parametrize("name", [name for name in ODD_BODIES if name.startswith("created")])
def test_an_unusable_time_is_null(name: str) -> None:
    """`occurred_at` is the provider's word or nothing."""
    [envelope] = source().parse(ODD_BODIES[name], {})
    assert envelope.occurred_at is None


def test_an_envelope_has_what_the_body_says() -> None:
    """Id, type, time, mode, account and the whole document."""
    body = stripe_body(id="evt_1", type="charge.refunded", created=T, account="acct_1")
    [envelope] = source().parse(body, {})
    assert (envelope.event_id, envelope.event_type) == ("evt_1", "charge.refunded")
    assert (envelope.occurred_at, envelope.livemode) == (NOW, False)
    assert envelope.account == "acct_1"
    assert envelope.payload == json.loads(body)


@pytest.mark.parametrize("account", [None, "", 1, [], {}, True, "x" * 256, "a\x00", "\ud800"])
def test_an_unusable_account_is_empty(account: object) -> None:
    """The account is never NULL."""
    [envelope] = source().parse(stripe_body(account=account), {})
    assert envelope.account == ""


@pytest.mark.parametrize("livemode", [None, "yes", 1, [], ...])
def test_an_unusable_mode_is_null(livemode: object) -> None:
    """Only true and false are modes."""
    [envelope] = source().parse(stripe_body(livemode=livemode), {})
    assert envelope.livemode is None


@pytest.mark.parametrize(
    "expected,said,taken",
    [
        (False, False, True),
        (True, True, True),
        (False, True, False),
        (True, False, False),
        (False, ..., True),
        (True, ..., True),
        (True, None, True),
        (None, True, True),
        (None, False, True),
        (None, "yes", True),
        (True, "yes", False),
        (True, 1, False),
        (False, 0, False),
    ],
)
def test_the_other_mode_is_refused(expected: bool | None, said: object, taken: bool) -> None:
    """Absent is accepted; anything that is not the source's own mode is refused, if it has one."""
    mine = source(LIVEMODE=expected)
    [envelope] = mine.parse(stripe_body(livemode=said), {})
    if taken:
        mine.admit(envelope)
    else:
        with pytest.raises(WrongMode):
            mine.admit(envelope)


def test_refusals_quote_nothing() -> None:
    """No message repeats what was sent, nor any secret."""
    planted = "CANARY-31415"
    refusals = []
    for header in (f"t={planted},v1={planted}", f"t={T},v1={planted}", f"{planted}={planted}"):
        with pytest.raises(DeliveryRefused) as caught:
            verify(header)
        refusals.append(str(caught.value))
    for body in (planted.encode(), b'{"id": ["%s"]}' % planted.encode()):
        with pytest.raises(DeliveryRefused) as caught:
            source().parse(body, {})
        refusals.append(str(caught.value))
    assert not any(planted in refusal or SECRET in refusal for refusal in refusals)
