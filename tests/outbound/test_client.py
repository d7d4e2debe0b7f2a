"""Statuses and headers told apart, by table; what is an address and what is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings
from requests.structures import CaseInsensitiveDict

from outbound.client import (
    MAX_RETRY_AFTER,
    CallContext,
    HttpClient,
    Request,
    Response,
    check_url,
    classify,
    parse_retry_after,
)
from outbound.errors import OutcomeUnknown, PermanentError, RateLimited, TransientError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

KEYED = {"keyed": True, "reads": False}
UNKEYED = {"keyed": False, "reads": False}
READ = {"keyed": False, "reads": True}

# status -> class and effect_possible for (a write with a key, a write without, a read)
T, U, R, P = TransientError, OutcomeUnknown, RateLimited, PermanentError
STATUSES: dict[int, tuple[tuple[type[Exception], bool], ...]] = {
    300: ((P, False), (P, False), (P, False)),
    301: ((P, False), (P, False), (P, False)),
    302: ((P, False), (P, False), (P, False)),
    307: ((P, False), (P, False), (P, False)),
    400: ((P, False), (P, False), (P, False)),
    401: ((P, False), (P, False), (P, False)),
    402: ((P, False), (P, False), (P, False)),
    403: ((P, False), (P, False), (P, False)),
    404: ((P, False), (P, False), (P, False)),
    408: ((T, True), (U, True), (T, False)),
    409: ((P, False), (P, False), (P, False)),
    418: ((P, False), (P, False), (P, False)),
    422: ((P, False), (P, False), (P, False)),
    425: ((T, False), (T, False), (T, False)),
    429: ((R, False), (R, False), (R, False)),
    451: ((P, False), (P, False), (P, False)),
    500: ((T, True), (U, True), (T, False)),
    501: ((T, True), (U, True), (T, False)),
    502: ((T, True), (U, True), (T, False)),
    503: ((T, True), (U, True), (T, False)),
    504: ((T, True), (U, True), (T, False)),
    529: ((T, True), (U, True), (T, False)),
    599: ((T, True), (U, True), (T, False)),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("sort,column", [("keyed", 0), ("unkeyed", 1), ("read", 2)])
def test_classification(status: int, sort: str, column: int) -> None:
    """What a status stands for, for a write with a key, one without, and a read."""
    flags = (KEYED, UNKEYED, READ)[column]
    error = classify(Response(status, {}, b""), message="no", **flags)
    kind, possible = STATUSES[status][column]
    assert type(error) is kind
    assert error is not None
    assert (error.effect_possible, error.provider_status, error.message) == (possible, status, "no")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
@pytest.mark.parametrize("flags", [KEYED, UNKEYED, READ])
def test_success(status: int, flags: dict[str, bool]) -> None:
    """Any 2xx is a success."""
    assert classify(Response(status, {}, b""), message="no", **flags) is None


@pytest.mark.parametrize("status,seconds", [(429, 7), (503, 7), (500, 7), (408, 7), (425, 7)])
@pytest.mark.parametrize("flags", [KEYED, UNKEYED, READ])
def test_retry_after_is_kept(status: int, seconds: int, flags: dict[str, bool]) -> None:
    """Whatever is worth another attempt carries the provider's wish."""
    headers = CaseInsensitiveDict({"retry-after": "7"})
    error = classify(Response(status, headers, b""), message="no", **flags)
    assert isinstance(error, TransientError)
    assert error.retry_after == seconds


@pytest.mark.parametrize("status,ours", [(429, 429), (503, 502), (402, 400), (302, 400)])
def test_our_own_status(status: int, ours: int) -> None:
    """What our API answers with."""
    error = classify(Response(status, {}, b""), message="no", keyed=True, reads=False)
    assert error is not None
    assert error.http_status == ours


def http_date(delta: timedelta) -> str:
    return format_datetime(NOW + delta, usegmt=True)


RETRY_AFTER: list[tuple[str | None, float | None]] = [
    (None, None),
    ("", None),
    (" ", None),
    ("0", 0),
    ("1", 1),
    (" 120 ", 120),
    ("007", 7),
    ("-1", None),
    ("-0", None),
    ("+5", None),
    ("1.5", None),
    ("1e3", None),
    ("0x10", None),
    ("1 s", None),
    ("soon", None),
    ("٣", None),  # a digit, but not an ASCII one
    ("\x00", None),
    ("99999999", 99999999),
    ("9" * 30, MAX_RETRY_AFTER),
    ("9" * 5000, MAX_RETRY_AFTER),
    (http_date(timedelta(seconds=90)), 90),
    (http_date(timedelta(seconds=0)), None),
    (http_date(timedelta(days=-1)), None),
    (http_date(timedelta(days=365 * 100)), MAX_RETRY_AFTER),
    ("Sun, 01 Mar 2026 12:01:00 GMT", 60),
    ("Sun, 01 Mar 2026 12:01:00", 60),
    ("Sun, 01 Mar 2026 13:01:00 +0100", 60),
    ("Sunday, 01-Mar-26 12:01:00 GMT", 60),
    ("Sun, 31 Feb 2026 12:00:00 GMT", None),
    ("Mon, 01 Jan 0000 00:00:00 GMT", None),
    ("Fri, 31 Dec 9999 23:59:59 -9999", None),
    ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ("Sun, 01 Mar 2026 99:99:99 GMT", None),
]


@pytest.mark.parametrize("value,seconds", RETRY_AFTER)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds or a date; anything else, and what has passed, is no wish at all."""
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.text(max_size=80) | st.text(alphabet="0123456789 :,GMTSunMar+-", max_size=80))
def test_retry_after_never_raises(value: str) -> None:
    """A header is written by a stranger."""
    found = parse_retry_after(value, now=NOW)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER


@given(st.binary(max_size=40))
def test_a_response_without_a_usable_header(value: bytes) -> None:
    """Header values are latin-1, whatever they meant to be."""
    response = Response(503, CaseInsensitiveDict({"Retry-After": value.decode("latin-1")}), b"")
    assert response.retry_after is None or response.retry_after >= 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        b"\xff\xfe",
        b"\x00",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_no_json(body: bytes) -> None:
    """What is no JSON, or a number that no database takes, is a ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - the texts are json's own
        Response(200, {}, body).json()


@pytest.mark.parametrize(
    "body,document",
    [
        (b'{"a": 1.5, "b": [true, null]}', {"a": 1.5, "b": [True, None]}),
        (b'"\xc3\xbc"', "ü"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"\xef\xbb\xbf{}", {}),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_json(body: bytes, document: Any) -> None:
    """JSON is read, after a byte order mark too."""
    assert Response(200, {}, body).json() == document


ADDRESSES: list[tuple[str, bool, bool]] = [  # (address, in development, in production)
    ("https://api.example.com", True, True),
    ("https://api.example.com:8443/v1", True, True),
    ("https://127.0.0.1:1", True, True),
    ("https://user:pw@api.example.com", True, True),
    ("http://127.0.0.1:8000", True, False),
    ("http://localhost", True, False),
    ("http://[::1]:8000/", True, False),
    ("http://127.0.0.2", False, False),
    ("http://localhost.example.com", False, False),
    ("http://127.0.0.1.example.com", False, False),
    ("http://127.0.0.1@api.example.com", False, False),
    ("http://api.example.com", False, False),
    ("http://mock.internal:80/x", True, True),  # named in ALLOW_HTTP_PROVIDERS
    ("http://MOCK.internal", True, True),
    ("http://mock.internal.example.com", False, False),
    ("https://", False, False),
    ("https:///v1", False, False),
    ("http:", False, False),
    ("", False, False),
    ("api.example.com", False, False),
    ("//api.example.com", False, False),
    ("ftp://api.example.com", False, False),
    ("file:///etc/passwd", False, False),
    ("https://api.example.com:port", False, False),
    ("https://api.example.com:99999", False, False),
    ("https://[::1", False, False),
]


@pytest.mark.parametrize("address,development,production", ADDRESSES)
@pytest.mark.parametrize("where", ["DEBUG", "EMBEDDED", "production"])
def test_addresses(
    address: str, development: bool, production: bool, where: str, settings: Settings
) -> None:
    """https, or plain http where it cannot leave the machine or is explicitly allowed."""
    settings.DEBUG, settings.EMBEDDED = where == "DEBUG", where == "EMBEDDED"
    settings.ALLOW_HTTP_PROVIDERS = ["mock.internal"]
    if production if where == "production" else development:
        check_url(address)
    else:
        with pytest.raises(ImproperlyConfigured):
            check_url(address)


def test_the_rule_holds_for_every_request(settings: Settings) -> None:
    """The client itself refuses, whoever built the request, and nothing is on record as sent."""
    settings.DEBUG = settings.EMBEDDED = False
    settings.ALLOW_HTTP_PROVIDERS = []
    context = CallContext("call", "key")
    with pytest.raises(ImproperlyConfigured, match="over https"):
        HttpClient(provider="acme").send(Request("POST", "http://127.0.0.1:1"), context)
    assert context.exchange.method == ""
