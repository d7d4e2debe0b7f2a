"""The HTTP contract of `/webhooks/<source>`, sentence by sentence."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
)
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from tests.webhooks.conftest import STRIPE
from tests.webhooks.deliveries import OLD_SECRET, SECRET, signature, stripe_body
from tests.webhooks.rows import make_event
from webhooks.models import WebhookEvent
from webhooks.providers.stripe import StripeSource
from webhooks.rejects import RejectCounter, rejects
from webhooks.states import EventStatus

needs_database = pytest.mark.django_db
CAP = 4096
METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]


@pytest.fixture
def browser() -> Client:
    """A client that would fail without CSRF exemption, and shows errors as a provider sees them."""
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


def post(
    browser: Client,
    body: bytes,
    *,
    path: str = "/webhooks/stripe",
    header: str | None = "",
    content_type: str = "application/json; charset=utf-8",
) -> Any:
    """One delivery, signed unless another header is given; None: without one."""
    header = header or signature(body) if header is not None else None
    headers = {} if header is None else {"Stripe-Signature": header}
    return browser.generic("POST", path, body, content_type=content_type, headers=headers)


def refused(answer: Any, status: int) -> dict[str, Any]:
    """The problem in a refusal, after a look at what every refusal must be."""
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(answer.content)
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    return problem


@needs_database
@pytest.mark.parametrize("path", ["/webhooks/stripe", "/webhooks/stripe/"])
def test_a_delivery(browser: Client, path: str) -> None:
    """200 {"received": true}, with and without the slash, and the row is there."""
    body = stripe_body(id="evt_1")
    answer = post(browser, body, path=path)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert json.loads(answer.content) == {"received": True}
    assert bytes(WebhookEvent.objects.get(event_id="evt_1").body or b"") == body


@needs_database
@pytest.mark.parametrize("status", list(EventStatus))
def test_a_duplicate(browser: Client, status: EventStatus) -> None:
    """200 and `duplicate`, whatever became of the first one, also when that re-arms it."""
    make_event(event_id="evt_1", status=status)
    answer = post(browser, stripe_body(id="evt_1"))
    assert answer.status_code == 200
    assert json.loads(answer.content) == {"received": True, "duplicate": True}
    assert WebhookEvent.objects.count() == 1


@needs_database
@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "nonsense",
        "text/plain; charset=none",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
def test_any_content_type(browser: Client, content_type: str) -> None:
    """The bytes count, not what they are called."""
    assert post(browser, stripe_body(), content_type=content_type).status_code == 200


@needs_database
@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_every_active_secret(browser: Client, secret: str) -> None:
    """A rotation loses nothing."""
    body = stripe_body()
    assert post(browser, body, header=signature(body, secret=secret)).status_code == 200


@pytest.mark.parametrize("header", [None, " ", "t=1", "v1=00", "t=1,t=2,v1=00", "t=x,v1=00"])
def test_no_signature(browser: Client, header: str | None) -> None:
    """400 when there is none, or none that can be read. Nothing touches the database."""
    assert refused(post(browser, stripe_body(), header=header), 400)["code"] == "no_signature"


@pytest.mark.parametrize("age", [301, -301, 10**9])
def test_a_signature_of_another_time(browser: Client, age: int) -> None:
    """401 in the past and in the future."""
    body = stripe_body()
    header = signature(body, at=int(time.time()) - age)
    assert refused(post(browser, body, header=header), 401)["code"] == "wrong_signature"


def test_a_wrong_signature(browser: Client) -> None:
    """401."""
    body = stripe_body()
    for header in ("t=1,v1=ü", "t=1,v1=", signature(body, secret="other"), signature(body + b" ")):
        assert refused(post(browser, body, header=header), 401)["code"] == "wrong_signature"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"id":"","type":"a"}', stripe_body(id="a\x00")]
)
def test_a_malformed_body(browser: Client, body: bytes) -> None:
    """400, when it was signed; nothing is said about bodies that were not."""
    assert refused(post(browser, body), 400)["code"] == "malformed"
    assert refused(post(browser, body, header="t=1,v1=0"), 401)["code"] == "wrong_signature"


def test_the_other_mode(browser: Client) -> None:
    """400."""
    assert refused(post(browser, stripe_body(livemode=True)), 400)["code"] == "wrong_mode"


@pytest.mark.parametrize("method", ["POST", *METHODS])
@pytest.mark.parametrize("path", ["nobody", "closed", "Stripe", "stripe%00", "%FF", "stripe%20"])
def test_an_unknown_source(browser: Client, method: str, path: str) -> None:
    """404 for every method: no such source, or one that has no secret."""
    answer = browser.generic(method, f"/webhooks/{path}", b"{}")
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (404, b"")
    else:
        assert refused(answer, 404)["code"] == "unknown_source"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_another_method(browser: Client, method: str, slash: str) -> None:
    """405 with Allow."""
    answer = browser.generic(method, f"/webhooks/stripe{slash}", b"{}")
    assert answer["Allow"] == "POST"
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (405, b"")
    else:
        refused(answer, 405)


@needs_database
@pytest.mark.parametrize("signed", [True, False])
def test_too_large(browser: Client, settings: Settings, signed: bool) -> None:
    """413 for one byte more than the cap, signed or not; the cap itself fits."""
    settings.WEBHOOK_MAX_BYTES = CAP
    fits = stripe_body(x="x" * (CAP - len(stripe_body(x=""))))
    assert len(fits) == CAP
    assert post(browser, fits).status_code == 200
    answer = post(browser, fits + b" ", header="" if signed else None)
    assert refused(answer, 413)["code"] == "too_large"


@needs_database
def test_a_cap_above_djangos_own(browser: Client, settings: Settings) -> None:
    """WEBHOOK_MAX_BYTES is the only cap."""
    settings.WEBHOOK_MAX_BYTES = 8_000_000
    assert post(browser, stripe_body(x="x" * 7_000_000)).status_code == 200


class Broken:
    """A database in which every statement fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *args: object) -> None:
        raise self._error


DATABASE_ERRORS = [
    DatabaseError, DataError, IntegrityError, InterfaceError, InternalError, NotSupportedError,
    OperationalError, ProgrammingError,
]  # fmt: skip


@needs_database
@pytest.mark.parametrize("error", DATABASE_ERRORS)
def test_database_trouble(browser: Client, error: type[Exception]) -> None:
    """503 with Retry-After, so that the provider sends again; the message says nothing."""
    with connection.execute_wrapper(Broken(error("secret detail"))):
        answer = post(browser, stripe_body())
    assert refused(answer, 503)["code"] == "unavailable"
    assert 1 <= int(answer["Retry-After"]) <= 3600
    assert b"secret detail" not in answer.content


# Every statement succeeds, and the commit does not.
REFUSE_COMMITS = {
    "sqlite": """
        CREATE TABLE nobody (id integer PRIMARY KEY);
        CREATE TABLE promised (id integer REFERENCES nobody DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER promise AFTER INSERT ON webhooks_webhookevent
            BEGIN INSERT INTO promised VALUES (1); END
    """,
    "postgresql": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'no commit'; END $$;
        CREATE CONSTRAINT TRIGGER promise AFTER INSERT ON webhooks_webhookevent
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()
    """,
}
ALLOW_COMMITS = {
    "sqlite": "DROP TRIGGER promise; DROP TABLE promised; DROP TABLE nobody",
    "postgresql": "DROP TRIGGER promise ON webhooks_webhookevent; DROP FUNCTION refuse",
}


@contextmanager
def refused_commits() -> Iterator[None]:
    """The database refuses to commit an event while the block runs."""
    execute(REFUSE_COMMITS)
    try:
        yield
    finally:
        execute(ALLOW_COMMITS)


def execute(script: Mapping[str, str]) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executescript(script["sqlite"])
        else:
            cursor.execute(script["postgresql"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_no_2xx_without_a_commit(browser: Client) -> None:
    """When it is the commit that fails, the answer is 503, and sending again succeeds."""
    body = stripe_body()
    with refused_commits():
        refused(post(browser, body), 503)
    assert not WebhookEvent.objects.exists()
    assert json.loads(post(browser, body).content) == {"received": True}


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_atomic_requests_change_nothing(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is committed before the answer is made, not after it: others can see it."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    def others_see() -> int:
        try:
            return WebhookEvent.objects.count()
        finally:
            connection.close()

    def answer(content: bytes, **_: Any) -> HttpResponse:
        with ThreadPoolExecutor(1) as other:
            return HttpResponse(f"{content.decode()} {other.submit(others_see).result()}")

    monkeypatch.setattr("webhooks.views.HttpResponse", answer)
    assert post(browser, stripe_body()).content == b'{"received": true} 1'


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_databases
def test_one_statement(browser: Client) -> None:
    """A new event is one statement, which commits by itself, and once in a while a look at the
    database's clock."""
    with CaptureQueriesContext(connection) as statements:
        post(browser, stripe_body())
    executed = [each["sql"] for each in statements.captured_queries]
    others = [sql for sql in executed if sql != "SELECT clock_timestamp()"]
    assert len(others) == 1
    assert others[0].startswith(
        ('INSERT INTO "webhooks_webhookevent"', "EXECUTE insert_webhooks_webhookevent_")
    )


def test_past_what_is_for_people(browser: Client) -> None:
    """A delivery meets no session, no log-in, no rule for browsers; a host that is not ours is
    refused all the same, and an address below that is none is not found."""
    answer = post(browser, stripe_body(), path="/webhooks/nobody")
    assert refused(answer, 404)["code"] == "unknown_source"
    assert {"X-Request-ID", "X-Content-Type-Options"} <= set(answer.headers)
    assert not {"Content-Security-Policy", "X-Frame-Options", "Vary"} & set(answer.headers)
    assert browser.post("/webhooks/stripe", headers={"Host": "elsewhere.test"}).status_code == 400
    assert browser.post("/webhooks/").status_code == 404
    assert browser.post("/webhooks/stripe/more").status_code == 404


@needs_database
def test_a_bug_of_ours(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, never 500: the provider keeps the event until we have mended it."""
    monkeypatch.setattr(StripeSource, "parse", Broken(ZeroDivisionError("secret detail")))
    answer = post(browser, stripe_body())
    refused(answer, 503)
    assert answer["Retry-After"]
    assert b"secret detail" not in answer.content


@needs_database
def test_no_encryption_key(browser: Client, settings: Settings) -> None:
    """Nothing can be stored, so nothing is acknowledged."""
    settings.FIELD_ENCRYPTION_KEYS = []
    refused(post(browser, stripe_body()), 503)


def test_a_source_that_cannot_be_imported(
    browser: Client, sources: dict[str, Any], settings: Settings
) -> None:
    """Our trouble as well."""
    settings.WEBHOOK_SOURCES = {"stripe": STRIPE | {"SOURCE": "webhooks.providers.gone.Source"}}
    refused(post(browser, stripe_body()), 503)


class ShakingSource(StripeSource):
    """A provider that tries an address before it uses it."""

    def handshake(self, query: Mapping[str, str]) -> str | None:
        return query.get("challenge")


def test_a_handshake(browser: Client, settings: Settings) -> None:
    """GET answers as the provider's handshake needs; without one it is 405 as elsewhere."""
    source = "tests.webhooks.test_views.ShakingSource"
    settings.WEBHOOK_SOURCES = {"shaking": STRIPE | {"SOURCE": source}}
    answer = browser.get("/webhooks/shaking", {"challenge": "abc<b>"})
    assert (answer.status_code, answer.content) == (200, b"abc<b>")
    assert answer["Content-Type"].startswith("text/plain")
    assert browser.head("/webhooks/shaking?challenge=abc").content == b""
    refused(browser.get("/webhooks/shaking"), 405)
    refused(browser.put("/webhooks/shaking?challenge=abc"), 405)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO):
        yield caplog


def test_refusals_are_counted(browser: Client) -> None:
    """By source and kind; made-up names of sources do not fill the memory."""
    before = rejects.counts.copy()
    post(browser, b"{}", header=None)
    for name in ("a", "b"):
        post(browser, b"{}", path=f"/webhooks/{name}")
    found = rejects.counts - before
    assert found == {("stripe", "no_signature"): 1, ("", "unknown_source"): 2}


def test_refusals_do_not_fill_the_log(
    browser: Client, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of junk leaves a few lines, none of them with what was sent."""
    monkeypatch.setattr("webhooks.views.rejects", RejectCounter(samples=3))
    for _ in range(50):
        post(browser, b"CANARY-BODY", header="t=1,v1=CANARY-HEADER")
    about = [line for line in lines.records if line.name.startswith(("webhooks", "django"))]
    assert len(about) == 3
    assert "CANARY" not in lines.text


def test_no_cookie_and_no_redirect(browser: Client) -> None:
    """A provider is no browser."""
    for path in ("/webhooks/stripe", "/webhooks/stripe/", "/webhooks/nobody"):
        answer = post(browser, stripe_body(), path=path, header=None)
        assert not answer.cookies
        assert "Location" not in answer


@needs_database
def test_what_is_accepted_is_not_logged(browser: Client, lines: pytest.LogCaptureFixture) -> None:
    """Neither body nor signature nor secret."""
    body = stripe_body(id="evt_1", data={"object": {"name": "CANARY"}})
    header = signature(body)
    assert post(browser, body, header=header).status_code == 200
    for secret in ("CANARY", SECRET, header.partition("v1=")[2]):
        assert secret not in lines.text
