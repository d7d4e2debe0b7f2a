"""Invariant 8: marked secrets and personal data go through every path, and are found nowhere but
at the provider and behind the encryption."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app, signals
from django.apps import apps
from django.db import connection
from pydantic import BaseModel
from pytest_django import Settings

from outbound import clock, engine, hints, tasks
from outbound.adapters import Adapter, CallContext, Payload, Reply, operation
from outbound.client import Request, Response, classify
from outbound.errors import (
    AdapterBug,
    DeliveryError,
    InvalidPayload,
    OutcomeUnknown,
    PermanentError,
)
from outbound.hints import Hint
from outbound.models import OutboundCall, PeriodicLease
from outbound.services import (
    deliver_now,
    enqueue_call,
    perform_read,
    retry_call,
    retry_call_as_new,
    settle_from_event,
)
from outbound.states import CallStatus
from outbound.sweep import look_up, sweep
from tests.outbound import wire
from tests.outbound.rows import attempt, reread

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

S = CallStatus

# Written in two halves, so that a traceback that shows this file's lines does not count.
MARK = "budge" + "rigar"
API_KEY = f"sk_live_{MARK}0"
EMAIL = f"{MARK}@example.com"
NAME = f"Ada {MARK} Lovelace"
CARD = "4242" * 4
TOKEN = f"{MARK}-token"
PAYLOAD = {"name": NAME, "email": EMAIL, "card": CARD, "amount": 5}
COMPLAINT = f"No {EMAIL} for card {CARD} with key {API_KEY} at https://x.test/?q={MARK}"
DOCUMENT = {
    "id": "obj-1",
    "owner": {"name": NAME, "email": EMAIL},
    "client_secret": f"pi_1_secret_{MARK}",
    "cards": [CARD],
    "error": {"message": COMPLAINT, "code": "declined"},
}


class Buyer(Payload):
    """Personal data of every kind."""

    name: str
    email: str
    card: str
    amount: int


class CanaryAdapter(Adapter):
    """Written as adapters are meant to be, with secrets wherever a request can hold one."""

    visible_fields = frozenset({"id", "amount", "code"})

    @operation(key_lifetime=timedelta(hours=20))
    def buy(self, payload: Buyer, context: CallContext) -> Reply:
        return self._send(payload, context, keyed=True)

    @operation(reads=True)
    def look(self, payload: Buyer, context: CallContext) -> Reply:
        return self._send(payload, context, reads=True)

    def resolve(self, name: str, payload: BaseModel, context: CallContext) -> Reply | None:
        assert isinstance(payload, Buyer)
        return self._send(payload, context, reads=True)

    def _send(
        self, payload: Buyer, context: CallContext, *, keyed: bool = False, reads: bool = False
    ) -> Reply:
        address = self.options["API_BASE"].replace("://", f"://user:{MARK}@")
        request = Request(
            "POST",
            f"{address}/things?token={TOKEN}",
            {"X-Api-Key": API_KEY, "Idempotency-Key": context.idempotency_key},
            payload.model_dump_json().encode(),
        )
        response = self.http.send(request, context)
        error = classify(response, keyed=keyed, reads=reads, message=self._words(response))
        if error is not None:
            error.code = self._document(response).get("error", {}).get("code", "")
            raise error
        if response.status == 299:
            raise ValueError(f"no idea what {response.body!r} is, asked for {payload!r}")
        document = response.json()
        return Reply(document, document["id"], response.status, response.headers["Request-Id"])

    def _words(self, response: Response) -> str:
        return f"acme: {self._document(response).get('error', {}).get('message', 'refused')}"

    def _document(self, response: Response) -> dict[str, Any]:
        try:
            document: dict[str, Any] = response.json()
        except ValueError:
            return {}
        return document


def answer(status: str) -> bytes:
    headers = f"Request-Id: req-1\r\nSet-Cookie: session={MARK}"
    return wire.reply(json.dumps(DOCUMENT).encode(), status=status, headers=headers)


class Traces:
    """All that was written down or sent somewhere."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.messages: list[Any] = []

    def everything(self) -> dict[str, str]:
        return {
            "log": self.caplog.text + repr([record.__dict__ for record in self.caplog.records]),
            "messages": repr(self.messages),
            "rows": "\n".join(_rows()),
        }

    def check(self) -> None:
        for place, text in self.everything().items():
            for secret in (MARK, CARD):
                where = text.find(secret)
                assert where < 0, f"in the {place}: ...{text[max(where - 200, 0) : where + 50]}"


def _rows() -> Iterator[str]:
    for model in apps.get_app_config("outbound").get_models():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")
            for row in cursor.fetchall():
                yield repr([bytes(c) if isinstance(c, memoryview) else c for c in row])


@pytest.fixture
def traces(caplog: pytest.LogCaptureFixture, settings: Settings) -> Iterator[Traces]:
    """Watches logs at their most talkative, rows and messages; checks them in the end, too."""
    caplog.set_level(logging.DEBUG)
    settings.EMBEDDED_BROKER = False
    traces = Traces(caplog)

    def spy(**message: Any) -> None:
        traces.messages.append(message)

    signals.before_task_publish.connect(spy, weak=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hints, "announce", hints.publish)
        yield traces
    signals.before_task_publish.disconnect(spy)
    current_app.control.purge()
    traces.check()


def use(peer: wire.Peer, settings: Settings) -> None:
    settings.OUTBOUND_POLICY = {}
    settings.OUTBOUND_ADAPTERS = {
        "acme": {
            "ADAPTER": f"{__name__}.CanaryAdapter",
            "QUEUE": "payments-v1",
            "OPTIONS": {"API_BASE": peer.url},
            "POLICY": {"connect_timeout": 5, "read_timeout": 8, "total_timeout": 9},
            "OPERATIONS": {"look": {"schedule": []}},
        }
    }


def buy(operation: str = "buy", **arguments: Any) -> OutboundCall:
    return enqueue_call(adapter="acme", operation=operation, payload=PAYLOAD, **arguments)


STATUSES = [
    ("200 OK", S.SUCCEEDED),
    ("402 Payment Required", S.FAILED),
    ("429 Too Many Requests", S.RETRYING),
    ("500 Oops", S.RETRYING),
    ("302 Found", S.FAILED),
]


@pytest.mark.parametrize("status,ends", STATUSES)
def test_answers(status: str, ends: CallStatus, traces: Traces, settings: Settings) -> None:
    """Whatever the provider answers, and quotes."""
    with wire.peer(wire.answers(answer(status))) as peer:
        use(peer, settings)
        call = attempt(buy())
        assert all(secret in str(peer.requests) for secret in (API_KEY, NAME, TOKEN, CARD))
    assert call.status == ends
    assert traces.messages
    traces.check()
    if ends == S.FAILED:
        assert call.error_message.startswith("acme: No [hidden] for card [hidden] with key")


@pytest.mark.parametrize(
    "behaviour",
    [
        wire.resets(),
        wire.answers_once(b""),
        wire.answers_once(f"HTTP/1.1 200 {MARK}\r\nContent-Length: 99\r\n\r\n{MARK}".encode()),
        wire.answers_once(f"{MARK} {API_KEY}\r\n\r\n".encode()),
        wire.answers_once(f"HTTP/1.1 500 {MARK}\r\nX: {MARK}\r\n\r\n<p>{MARK}</p>".encode()),
        wire.answers_once(wire.reply(f"{{'{MARK}".encode(), status="503 no")),
    ],
)
def test_transport_trouble(behaviour: wire.Behaviour, traces: Traces, settings: Settings) -> None:
    """However a connection breaks, the story has no URL, header or body in it."""
    with wire.peer(behaviour) as peer:
        use(peer, settings)
        call = attempt(buy())
    assert call.status == S.RETRYING
    traces.check()


def test_refused_connection(traces: Traces, settings: Settings) -> None:
    """Nor when there is no connection at all."""
    use(wire.Peer((), port=wire.closed_port()), settings)
    assert attempt(buy()).error_message == "acme: no connection; nothing was sent"


def test_a_whole_story(traces: Traces, settings: Settings) -> None:
    """Crash, sweep, retry by a worker's task, doubt, look-up, refusal, retry as new, event."""
    behaviours = [
        answer("299 Strange"),
        answer("503 Later"),
        answer("402 Declined"),
        answer("500 Oops"),
        answer("500 Oops"),
    ]
    with wire.peer(wire.answers(*behaviours)) as peer:
        use(peer, settings)
        call = buy(reference="order 7")
        with pytest.raises(AdapterBug) as caught:
            engine.deliver(call.pk)
        bug = logging.Formatter().formatException(
            (AdapterBug, caught.value, caught.value.__traceback__)
        )
        assert MARK not in bug
        assert reread(call).status == S.RUNNING
        with clock.use(lambda: call.created_at + timedelta(seconds=31)):
            sweep()
            with pytest.raises(DeliveryError):
                tasks.deliver_call(call_id=str(call.pk))
        with clock.use(lambda: call.created_at + timedelta(seconds=100)):
            assert attempt(call).status == S.FAILED
            retry_call(call_id=call.pk, reason="again")
            assert attempt(call).status == S.RETRYING
            OutboundCall.objects.filter(pk=call.pk).update(max_attempts=5, due_at=clock.now())
            assert attempt(call).status == S.UNKNOWN
            assert not look_up(str(call.pk))
            assert settle_from_event(
                call_id=call.pk,
                idempotency_key=reread(call).idempotency_key,
                result=DOCUMENT,
                provider_reference="obj-1",
            )
        assert reread(call).result == DOCUMENT
    traces.check()


def test_retry_as_new(traces: Traces, settings: Settings) -> None:
    """A declined call, made anew."""
    with wire.peer(wire.answers(answer("402 Declined"), answer("200 OK"))) as peer:
        use(peer, settings)
        call = attempt(buy())
        retry_call_as_new(call_id=call.pk, reason="another card", actor="ada")
        assert attempt(call).status == S.SUCCEEDED


def test_inline(traces: Traces, settings: Settings) -> None:
    """Where somebody waits, the errors that reach him hold nothing either."""
    with wire.peer(wire.answers(answer("299 Strange"))) as peer:
        use(peer, settings)
        assert deliver_now(call=buy(inline=True), wait=5).status == S.RUNNING
    for status, kind in (("404 Not found", PermanentError), ("503 Later", DeliveryError)):
        with wire.peer(wire.answers(answer(status))) as peer:
            use(peer, settings)
            with pytest.raises(kind):
                perform_read(adapter="acme", operation="look", payload=PAYLOAD, wait=5)
    with wire.peer(wire.resets()) as peer:
        use(peer, settings)
        with pytest.raises(OutcomeUnknown) as caught:
            perform_read(adapter="acme", operation="look", payload=PAYLOAD, wait=5)
        assert MARK not in str(caught.value)


def test_refusals(traces: Traces, settings: Settings) -> None:
    """A payload that is refused is not quoted."""
    use(wire.Peer(()), settings)
    with pytest.raises(InvalidPayload) as caught:
        enqueue_call(adapter="acme", operation="buy", payload={**PAYLOAD, "amount": MARK, "x": 1})
    assert MARK not in f"{caught.value}"


def test_the_watch_sees(traces: Traces, caplog: pytest.LogCaptureFixture) -> None:
    """The canary does sing: each of the places is really searched."""
    traces.check()
    logging.getLogger("outbound.x").debug("%s", MARK)
    with pytest.raises(AssertionError, match="in the log"):
        traces.check()
    caplog.clear()
    hints.publish(Hint("outbound.deliver_call", "payments-v1", {"call_id": MARK}))
    with pytest.raises(AssertionError, match="in the messages"):
        traces.check()
    traces.messages.clear()
    PeriodicLease.objects.create(name=MARK, expires_at=clock.now())
    with pytest.raises(AssertionError, match="in the rows"):
        traces.check()
    PeriodicLease.objects.all().delete()
