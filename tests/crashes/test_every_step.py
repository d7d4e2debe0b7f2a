"""Whatever the last thing is that a process does, the rest of the system puts it right.

Every SQL statement, commit, publish and request between asking for a call and knowing what became
of it is in turn the last one, before and after; the same for a webhook from its first byte to
PROCESSED. What is left is then swept and worked on by a process that lives.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from outbound import clock, engine, hints, registry, settlement
from outbound import sweep as calls_sweep
from outbound.hints import Hint
from outbound.services import CallAttempt, Circuit, OutboundCall, enqueue_call
from outbound.states import CallStatus
from tests.crashes.dying import Steps, run_in_child
from tests.crashes.provider import Ledger, LedgerAdapter
from webhooks import engine as events_engine
from webhooks import handlers
from webhooks import sweep as events_sweep
from webhooks.handlers import Event
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

pytestmark = [
    pytest.mark.faults,
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    # Python 3.12 and later: the child runs on in one thread and never comes back to pytest.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

SECRET = "whsec_crashes"
ROUNDS = 40
FEWEST_STEPS = 20  # fewer would mean that the steps are not counted


class Time:
    """The database's time, moved forward at will."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return timezone.now() + self.ahead


@pytest.fixture
def virtual() -> Iterator[Time]:
    moved = Time()
    with clock.use(moved):
        yield moved


@pytest.fixture
def ledger(tmp_path: Path, settings: Settings) -> Iterator[Ledger]:
    """A provider, and a tenant that notes in a group's name what it was told."""
    settings.OUTBOUND_ADAPTERS = {
        "files": {
            "ADAPTER": "tests.crashes.provider.LedgerAdapter",
            "QUEUE": "payments-v1",
            "POLICY": {"schedule": [1, 1, 1, 1], "jitter": 0},
        }
    }
    settings.EMBEDDED_BROKER = False
    LedgerAdapter.ledger = Ledger(tmp_path / "ledger")
    names = ("charge", "charge_at_last", "post_letter", "post_lost_letter")
    for name in names:
        settlement.on_settled("files", name)(note_outcome)
    yield LedgerAdapter.ledger
    for name in names:
        settlement._settled["files", name].remove(note_outcome)


def note_outcome(call: OutboundCall) -> None:
    Group.objects.filter(name__startswith=call.reference).update(
        name=f"{call.reference} {call.status}"
    )


def tell(hint: Hint) -> None:
    """Where hints go in these tests: nowhere. A process that dies tells nobody anything."""


def ask_and_deliver(operation: str, steps: Steps) -> None:
    """What a view and a worker do, in one process: business row and call, hint, attempts."""
    published: list[Hint] = []
    hints.announce = lambda hint: steps.step(lambda: published.append(hint))
    LedgerAdapter.around = staticmethod(steps.step)
    with transaction.atomic():
        Group.objects.create(name="order")
        call = enqueue_call(
            adapter="files", operation=operation, payload={"n": 1}, reference="order"
        )
    assert len(published) == 1
    engine.deliver(call.pk)


def recover(virtual: Time) -> None:
    """What workers that live do: sweep, and take what is announced, until nothing is left."""
    for _ in range(ROUNDS):
        announced: list[Hint] = []
        calls_sweep.sweep(announce=announced.append)
        for hint in announced:
            if hint.task == "outbound.deliver_call":
                engine.deliver(hint.kwargs["call_id"])
        moving = OutboundCall.objects.exclude(status__in=ENDED).exists()
        if not moving and not OutboundCall.objects.exclude(hook_due_at=None).exists():
            return
        virtual.ahead += timedelta(seconds=31)
    raise AssertionError(f"not at rest: {list(OutboundCall.objects.values('status', 'rule'))}")


ENDED = (CallStatus.SUCCEEDED, CallStatus.FAILED, CallStatus.CANCELLED, CallStatus.UNKNOWN)


def check(ledger: Ledger, *, keyed: bool, where: str) -> CallStatus | None:
    """The promises, for the one call that there may be. Its status."""
    calls = list(OutboundCall.objects.all())
    assert Group.objects.count() == len(calls), f"1: half of the transaction is there, {where}"
    if not calls:
        assert ledger.sent() == [], f"1: sent without a call, {where}"
        return None
    (call,) = calls
    attempts = list(CallAttempt.objects.order_by("number"))
    assert all(a.finished_at for a in attempts), f"2: an attempt never ended, {where}"
    for first, second in pairwise(attempts):
        assert first.finished_at
        assert second.started_at >= first.finished_at, f"3: attempts overlap, {where}"
    assert len(attempts) == call.attempts, f"3: attempts do not add up, {where}"
    assert len(ledger.effects()) <= 1, f"4, 5: {len(ledger.effects())} effects, {where}"
    if keyed:
        assert call.status == CallStatus.SUCCEEDED, f"2: {call.status} ({call.rule}), {where}"
        assert len(ledger.effects()) == 1, f"4: no effect, {where}"
    else:
        assert len(ledger.sent()) <= 1, f"5: sent again without a key, {where}"
        assert call.status in (CallStatus.SUCCEEDED, CallStatus.UNKNOWN), f"2: {where}"
    told = Group.objects.get().name
    assert told == f"order {call.status}", f"2: the tenant believes {told!r}, {where}"
    return CallStatus(call.status)


def forget_everything(ledger: Ledger) -> None:
    OutboundCall.objects.all().delete()
    WebhookEvent.objects.all().delete()
    Circuit.objects.all().delete()
    registry.breaker_for.cache_clear()  # each process starts without having seen the circuit
    Group.objects.all().delete()
    ledger.forget()


@pytest.mark.parametrize(
    "operation, keyed, outcomes",
    [
        ("charge", True, {None, CallStatus.SUCCEEDED}),
        ("charge_at_last", True, {None, CallStatus.SUCCEEDED}),
        ("post_letter", False, {None, CallStatus.SUCCEEDED, CallStatus.UNKNOWN}),
        ("post_lost_letter", False, {None, CallStatus.UNKNOWN}),
    ],
)
def test_a_call(
    operation: str,
    keyed: bool,
    outcomes: set[CallStatus | None],
    ledger: Ledger,
    virtual: Time,
    tmp_path: Path,
) -> None:
    """1 to 5: wherever the process ends between enqueue and settle, the call exists or not with
    its transaction, comes to an end, once, and is never sent twice without a key."""
    notes = tmp_path / "notes"

    def work(steps: Steps) -> None:
        ask_and_deliver(operation, steps)

    count = run_in_child(work, dies_at=None, notes=notes)
    assert count is not None
    assert count >= FEWEST_STEPS
    seen = set()
    for step in range(count):
        forget_everything(ledger)
        virtual.ahead = timedelta(0)
        assert run_in_child(work, dies_at=step, notes=notes) is None
        recover(virtual)
        seen.add(check(ledger, keyed=keyed, where=f"died at step {step} of {count}"))
    assert seen == outcomes


@pytest.fixture
def handled(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source whose events have a handler that leaves one row for each time it took effect."""
    settings.WEBHOOK_SOURCES = {
        "stripe": {
            "SOURCE": "webhooks.providers.stripe.StripeSource",
            "OPTIONS": {"SECRETS": [SECRET], "LIVEMODE": None, "TOLERANCE": 300},
        }
    }
    monkeypatch.setitem(handlers._handlers, ("stripe", "crash.tested"), [leave_effect])


def leave_effect(event: Event) -> None:
    Group.objects.create(name=f"effect {Group.objects.count()}")


def send_webhook() -> int:
    """One delivery by the provider; what it was answered."""
    body = json.dumps({"id": "evt_1", "type": "crash.tested", "data": {"object": {}}})
    now = int(time.time())
    mac = hmac.new(SECRET.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
    answer: Any = Client().post(
        "/webhooks/stripe",
        body,
        content_type="application/json",
        headers={"Stripe-Signature": f"t={now},v1={mac}"},
    )
    return int(answer.status_code)


def recover_events(virtual: Time) -> None:
    for _ in range(ROUNDS):
        announced: list[Hint] = []
        events_sweep.sweep(announce=announced.append)
        for hint in announced:
            for event_id in hint.kwargs["event_ids"]:
                events_engine.process(event_id)
        if not WebhookEvent.objects.exclude(status=EventStatus.PROCESSED).exists():
            return
        virtual.ahead += timedelta(seconds=31)
    raise AssertionError(f"not at rest: {list(WebhookEvent.objects.values('status', 'error'))}")


@pytest.mark.usefixtures("handled")
def test_a_webhook(ledger: Ledger, virtual: Time, tmp_path: Path) -> None:
    """2 and 7: wherever the process ends between the first byte and PROCESSED, a 2xx was only
    answered for what is stored, and the handler took effect exactly once."""
    notes, answered = tmp_path / "notes", tmp_path / "answered"

    def work(steps: Steps) -> None:
        hints.announce = lambda hint: steps.step(lambda: tell(hint))
        status = send_webhook()
        answered.write_text(str(status))
        steps.step(lambda: None)
        (event,) = WebhookEvent.objects.values_list("pk", flat=True)
        events_engine.process(str(event))

    count = run_in_child(work, dies_at=None, notes=notes)
    assert count is not None
    assert count >= FEWEST_STEPS
    lost = 0
    for step in range(count):
        where = f"died at step {step} of {count}"
        forget_everything(ledger)
        answered.unlink(missing_ok=True)
        virtual.ahead = timedelta(0)
        assert run_in_child(work, dies_at=step, notes=notes) is None
        stored = WebhookEvent.objects.exists()
        if answered.exists():
            assert answered.read_text() == "200"
            assert stored, f"7: answered 200 and not stored, {where}"
        else:
            lost += not stored
            assert send_webhook() == 200, where
        recover_events(virtual)
        assert WebhookEvent.objects.count() == 1, f"7: stored twice, {where}"
        assert Group.objects.count() == 1, f"7: {Group.objects.count()} effects, {where}"
    assert lost, "no process died before the event was stored"
