"""Twilio's adapter: the contract, the same requests as Twilio's own client, and look-ups."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from notifications.adapters.messages import Sms
from notifications.adapters.replies import OPTED_OUT, OUT_OF_QUOTA, RECIPIENTS_REFUSED
from notifications.adapters.twilio import TwilioAdapter
from outbound import engine
from outbound.adapters import CallContext, Reply
from outbound.client import HttpClient
from outbound.errors import DeliveryError, DidNotHappen, PermanentError, RateLimited
from outbound.services import enqueue_call
from outbound.states import CallStatus
from outbound.sweep import look_up
from tests.contracts.adapter import PATIENT, AdapterContract, Sample
from tests.outbound import wire

SID, TOKEN = "AC00000000000000000000000000000001", "contract-token"
TO, FROM = "+15005550006", "+15005550001"
WORDS = "Grüße & 100 % + more"
MARKS = {
    "holdfast_call": "0198c0de-0000-7000-8000-000000000001",
    "holdfast_key": "key-1",
}
CALLBACK = "https://hooks.example.com/webhooks/twilio"
ASKED_AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SERVICE = "MG00000000000000000000000000000001"


def made(sid: str = "SM1", **members: Any) -> dict[str, Any]:
    """A message as Twilio shows it."""
    return {
        "sid": sid,
        "to": TO,
        "from": FROM,
        "messaging_service_sid": None,
        "body": WORDS,
        "direction": "outbound-api",
        "status": "queued",
        "date_created": format_datetime(ASKED_AT + timedelta(seconds=1)),
        "date_sent": None,
        "error_code": None,
        **members,
    }


class TestContract(AdapterContract):
    """One operation."""

    adapter_class = TwilioAdapter
    secrets = (TOKEN,)
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "send_sms": Sample(
            {"to": TO, "body": WORDS},
            json.dumps(made()).encode(),
            "SM1",
            private=(TO, WORDS),
            status="201 Created",
            headers="Twilio-Request-Id: RQ1",
        ),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {"ACCOUNT_SID": SID, "AUTH_TOKEN": TOKEN, "API_BASE": url, "FROM": FROM}

    @pytest.mark.parametrize(
        "code,status,kind,ours",
        [
            (21610, "400 Bad Request", PermanentError, OPTED_OUT),
            (21211, "400 Bad Request", PermanentError, RECIPIENTS_REFUSED),
            (21614, "400 Bad Request", PermanentError, RECIPIENTS_REFUSED),
            (21612, "400 Bad Request", PermanentError, "21612"),
            (21606, "400 Bad Request", PermanentError, "21606"),
            (21659, "400 Bad Request", PermanentError, "21659"),
            (20003, "401 Unauthorized", PermanentError, "20003"),
            (20429, "429 Too Many Requests", RateLimited, "20429"),
            (14107, "400 Bad Request", RateLimited, "14107"),
            (63038, "429 Too Many Requests", RateLimited, OUT_OF_QUOTA),
            (99999, "400 Bad Request", PermanentError, "99999"),
        ],
    )
    def test_codes(self, code: int, status: str, kind: type[DeliveryError], ours: str) -> None:
        """https://www.twilio.com/docs/api/errors"""
        message = f"The 'To' number {TO} wants no {WORDS!r}"
        body = json.dumps({"code": code, "message": message, "status": int(status[:3])}).encode()
        error = self.answered("send_sms", status, headers="Twilio-Request-Id: RQ1", body=body)
        assert isinstance(error, DeliveryError)
        assert type(error) is kind
        assert (error.code, error.provider_request_id) == (ours, "RQ1")
        assert str(code) in error.message
        if isinstance(error, PermanentError):
            assert error.conclusive is (code not in (21606, 21659, 20003))

    def test_given_up_at_once(self) -> None:
        """A message can fail in the answer that says that it was made."""
        body = json.dumps(made(status="failed", error_code=21610)).encode()
        error = self.answered("send_sms", "201 Created", body=body)
        assert (type(error), error.code) == (PermanentError, OPTED_OUT)

    def test_no_sender(self) -> None:
        """A setting is missing: nothing is sent, and the check tells which."""
        options = {**self.options("http://127.0.0.1:1"), "FROM": ""}
        adapter = TwilioAdapter(name="acme", options=options, http=HttpClient(provider="acme"))
        with pytest.raises(ImproperlyConfigured, match="TWILIO_FROM"):
            adapter.perform("send_sms", Sms(to=TO, body=WORDS), self.context())

    def test_the_receipt(self) -> None:
        with wire.peer(wire.answers(self.samples["send_sms"].answer())) as peer:
            reply = self.perform("send_sms", peer.url)
        [receipt] = reply.result["recipients"]
        assert receipt == {
            "address": TO, "accepted": True, "message_id": "SM1", "code": "", "reason": "",
        }  # fmt: skip
        assert reply.provider_request_id == "RQ1"


class Caught:
    """In place of the HTTP client of Twilio's own: what it would send."""

    caught: tuple[str, str, dict[str, Any]]

    def request(self, method: str, url: str, **request: Any) -> Any:
        self.caught = (method, url, request)
        raise TwilioRestException(500, url)


def theirs(ask: Any) -> tuple[str, str, dict[str, str], dict[str, str], tuple[str, str]]:
    """Method, path, query, form and credentials of a request of Twilio's client."""
    http = Caught()
    with pytest.raises(TwilioRestException):
        ask(Client(SID, TOKEN, http_client=http))
    method, url, request = http.caught
    clean = [
        {name: str(v) for name, v in (request.get(part) or {}).items() if v is not None}
        for part in ("params", "data")
    ]
    return method, urlsplit(url).path, clean[0], clean[1], request["auth"]


def ours(raw: bytes) -> tuple[str, str, dict[str, str], dict[str, str], tuple[str, str]]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    method, target, _ = line.split(" ")
    headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
    scheme, _, shown = headers["authorization"].partition(" ")
    assert scheme == "Basic"
    user, _, password = base64.b64decode(shown).decode().partition(":")
    form = dict(parse_qsl(body.decode("ascii"), strict_parsing=bool(body)))
    parts = urlsplit(target)
    return method, parts.path, dict(parse_qsl(parts.query)), form, (user, password)


class Desk:
    """An adapter whose provider answers with these pages, in turn; what was asked is kept."""

    def __init__(self, *pages: Any, **options: str) -> None:
        self.pages = pages
        self.options = options
        self.requests: list[bytes] = []

    def context(self, asked_at: datetime | None = ASKED_AT) -> CallContext:
        call, key = MARKS.values()
        return CallContext(call, key, timeouts=PATIENT, asked_at=asked_at)

    def run(self, do: Any, *, date: datetime) -> Any:
        header = f"Date: {format_datetime(date, usegmt=True)}"
        replies = [wire.reply(json.dumps(page).encode(), headers=header) for page in self.pages]
        # over one connection: another request may meet the end of one that was closed after each
        with wire.peer(wire.answers(*replies)) as peer:
            options = {
                "ACCOUNT_SID": SID, "AUTH_TOKEN": TOKEN, "API_BASE": peer.url, "FROM": FROM,
                **self.options,
            }  # fmt: skip
            http = HttpClient(provider="twilio")
            try:
                return do(TwilioAdapter(name="twilio", options=options, http=http))
            finally:
                self.requests = peer.requests

    def send(self, **payload: str) -> Reply:
        sms = Sms.model_validate({"to": TO, "body": WORDS, **payload})
        reply: Reply = self.run(lambda a: a.perform("send_sms", sms, self.context()), date=ASKED_AT)
        return reply

    def resolve(self, *, after: timedelta, sender: str = "") -> Reply | None:
        sms = Sms(to=TO, body=WORDS, sender=sender)
        reply: Reply | None = self.run(
            lambda a: a.resolve("send_sms", sms, self.context()), date=ASKED_AT + after
        )
        return reply


class TestRequests:
    """Our requests against those of the `twilio` package."""

    @pytest.mark.parametrize(
        "options,payload,asked",
        [
            ({}, {}, {"from_": FROM}),
            ({}, {"sender": "Acme Inc"}, {"from_": "Acme Inc"}),
            ({"MESSAGING_SERVICE_SID": SERVICE}, {}, {"messaging_service_sid": SERVICE}),
            ({"MESSAGING_SERVICE_SID": SERVICE}, {"sender": "Acme"}, {"from_": "Acme"}),
            (
                {"STATUS_CALLBACK": CALLBACK},
                {},
                {"from_": FROM, "status_callback": f"{CALLBACK}?{urlencode(MARKS)}"},
            ),
        ],
    )
    def test_sending(
        self, options: Mapping[str, str], payload: Mapping[str, str], asked: dict[str, str]
    ) -> None:
        desk = Desk(made(), **options)
        desk.send(**payload)
        [raw] = desk.requests
        expected = theirs(lambda c: c.messages.create(to=TO, body=WORDS, **asked))
        assert ours(raw) == expected

    def test_looking_up(self) -> None:
        desk = Desk({"messages": [made()]})
        desk.resolve(after=timedelta(minutes=1))
        [raw] = desk.requests
        since = ASKED_AT - timedelta(minutes=5)
        expected = theirs(lambda c: c.messages.page(to=TO, date_sent_after=since, page_size=100))
        assert ours(raw) == expected


SOON, LATER = timedelta(minutes=5), timedelta(hours=1, seconds=1)
NONE: dict[str, Any] = {"messages": [], "next_page_uri": None}
OTHERS = {"messages": [made("SM8", to="+15005550007")], "next_page_uri": None}


def page(*messages: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages), "next_page_uri": None}


class TestLookUps:
    def test_found(self) -> None:
        """Among others, by number, sender, words and time."""
        day = timedelta(days=1)
        desk = Desk(
            page(
                made("SM2", body="another text"),
                made("SM3", date_created=format_datetime(ASKED_AT - day)),
                made("SM4", direction="inbound"),
                made("SM5", **{"from": "+15005550002"}),
                made("SM1"),
            )
        )
        reply = desk.resolve(after=SOON)
        assert reply is not None
        assert reply.provider_reference == "SM1"
        assert reply.result["recipients"][0]["message_id"] == "SM1"

    def test_by_its_service(self) -> None:
        """A service has many numbers."""
        desk = Desk(page(made(messaging_service_sid=SERVICE)), MESSAGING_SERVICE_SID=SERVICE)
        reply = desk.resolve(after=SOON)
        assert reply is not None
        assert reply.provider_reference == "SM1"

    @pytest.mark.parametrize(
        "listed",
        [
            page(made("SM1"), made("SM2")),  # which of them?
            page(made(body="")),  # words are hidden there
            page(made(body="Grusse")),  # the sender alters them
        ],
    )
    @pytest.mark.parametrize("after", [SOON, LATER])
    def test_what_cannot_be_told(self, listed: dict[str, Any], after: timedelta) -> None:
        """Something went to the number then: a person decides."""
        assert Desk(listed).resolve(after=after) is None

    def test_not_found_at_first(self) -> None:
        """A list may lag: it is no proof within the hour, and nothing more is asked."""
        desk = Desk(NONE)
        assert desk.resolve(after=timedelta(minutes=59)) is None
        assert len(desk.requests) == 1

    def test_not_found_in_the_end(self) -> None:
        """After an hour it is: not in the list of that number, with those that wait, in an account
        that shows numbers."""
        desk = Desk(NONE, NONE, OTHERS)
        with pytest.raises(DidNotHappen):
            desk.resolve(after=LATER)
        queries = [ours(raw)[2] for raw in desk.requests]
        assert queries[1:] == [{"To": TO, "PageSize": "100"}, {"PageSize": "100"}]

    @pytest.mark.parametrize(
        "pages",
        [
            (NONE, page(made())),  # it waits to be sent
            (NONE, {"messages": [], "next_page_uri": "/more"}),  # there is more of the list
            (NONE, {}),
            (NONE, NONE, page(made(to="+1500555XXXX"))),  # numbers are hidden there
            (NONE, NONE, NONE),  # there is nothing to see at all
            (NONE, NONE, {"messages": [1, None]}),
        ],
    )
    def test_no_proof(self, pages: tuple[dict[str, Any], ...]) -> None:
        assert Desk(*pages).resolve(after=LATER) is None

    def test_no_time(self) -> None:
        """Without a time of the attempt there is nothing to compare with."""
        desk = Desk(page(made()))
        context = replace(desk.context(), asked_at=None)
        sms = Sms(to=TO, body=WORDS)
        assert desk.run(lambda a: a.resolve("send_sms", sms, context), date=ASKED_AT) is None
        assert desk.requests == []

    @pytest.mark.parametrize("listed", [{}, [], {"messages": {}}, {"messages": [1, {}, None]}])
    def test_odd_lists(self, listed: Any) -> None:
        assert Desk(listed).resolve(after=SOON) is None


@pytest.mark.django_db
def test_a_lost_answer(settings: LazySettings) -> None:
    """The connection breaks after the message was taken: the look-up finds it, and the call is
    settled without a second message."""
    listed = page(made(date_created=format_datetime(datetime.now(UTC))))
    found = wire.answers(wire.reply(json.dumps(listed).encode()))
    with wire.peer(wire.resets(), found) as peer:
        options = {"ACCOUNT_SID": SID, "AUTH_TOKEN": TOKEN, "API_BASE": peer.url, "FROM": FROM}
        settings.OUTBOUND_ADAPTERS = {
            "twilio": {
                "ADAPTER": "notifications.adapters.twilio.TwilioAdapter",
                "QUEUE": "notifications-v1",
                "OPTIONS": options,
            }
        }
        call = enqueue_call(adapter="twilio", operation="send_sms", payload=Sms(to=TO, body=WORDS))
        engine.deliver(call.pk)
        call.refresh_from_db()
        assert call.status == CallStatus.UNKNOWN
        assert look_up(str(call.pk))
    call.refresh_from_db()
    assert (call.status, call.provider_reference) == (CallStatus.SUCCEEDED, "SM1")
    assert [request[:4] for request in peer.requests] == [b"POST", b"GET "]
