"""Failover: the next provider is asked when the first is out of order, out of quota, or refuses
before accepting; never after a doubt."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings

from notifications.adapters.replies import OUT_OF_QUOTA
from notifications.dispatching import fail_over
from notifications.models import Message
from notifications.services import send_email
from notifications.states import MessageStatus, RecipientStatus
from notifications.sweep import sweep
from outbound import engine
from outbound.errors import OutcomeUnknown, PermanentError, RateLimited, TransientError
from outbound.models import Circuit, OutboundCall
from outbound.states import CircuitMode
from tests.notifications.conftest import Providers, calls_of, statuses
from tests.notifications.scripted import entry
from tests.outbound.conftest import VirtualTime

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db]

OPEN = CircuitMode.FORCED_OPEN
TO = "ann@example.com"


def email(**options: Any) -> Message:
    return send_email(to=TO, subject="Receipt", text="Thank you.", **options)


def arrived(providers: Providers) -> tuple[int, int]:
    """How many requests each provider has seen."""
    return len(providers.first.seen), len(providers.second.seen)


def why(message: Message) -> list[str]:
    rows = message.dispatches.order_by("created_at", "pk")
    return [f"{row.provider}: {row.why}" for row in rows]


def test_refused_before_accepting(providers: Providers) -> None:
    """Another one is asked at once, and the message says why."""
    message = email()
    providers.first.then(PermanentError("first: the account is suspended"))
    providers.work()
    assert calls_of(message) == [
        ("first", "send_email", "failed"),
        ("second", "send_email", "succeeded"),
    ]
    assert why(message) == [
        "first: first in the route",
        "second: first did not take it: first: the account is suspended",
    ]
    assert statuses(message) == {TO: RecipientStatus.QUEUED}
    assert arrived(providers) == (1, 1)


def test_refused_by_all(providers: Providers) -> None:
    """Then it has failed, with the last reason."""
    message = email()
    providers.first.then(PermanentError("suspended"))
    providers.second.then(PermanentError("suspended too", code="gone"))
    providers.work()
    message.refresh_from_db()
    assert message.status == MessageStatus.FAILED
    recipient = message.recipients.get()
    assert (recipient.code, recipient.reason) == ("gone", "suspended too")


def test_the_circuit_is_open_already(providers: Providers) -> None:
    """A new message does not go there at all."""
    providers.force("first", OPEN)
    message = email()
    providers.work()
    assert why(message) == ["second: the circuit of first is open"]
    assert arrived(providers) == (0, 1)


def test_the_circuit_opens_while_it_waits(providers: Providers) -> None:
    """The worker that finds it open takes the message to the other provider."""
    message = email()
    providers.force("first", OPEN)
    providers.work()
    assert calls_of(message) == [
        ("first", "send_email", "cancelled"),
        ("second", "send_email", "succeeded"),
    ]
    assert why(message)[1] == "second: the circuit of first is open"
    assert arrived(providers) == (0, 1)


def test_the_sweep_finds_what_no_worker_saw(providers: Providers) -> None:
    """Calls of an open circuit are announced to nobody; the sweep takes them away."""
    message = email()
    providers.force("first", OPEN)
    assert sweep()["failed_over"] == 1
    assert sweep()["failed_over"] == 0
    providers.work()
    assert statuses(message) == {TO: RecipientStatus.QUEUED}
    assert arrived(providers) == (0, 1)


def test_all_circuits_are_open(providers: Providers, time: VirtualTime) -> None:
    """It waits for the first of them that works again."""
    providers.force("second", OPEN)
    message = email()
    providers.force("first", OPEN)
    providers.work()
    sweep()
    assert calls_of(message) == [("first", "send_email", "pending")]
    providers.force("first", CircuitMode.AUTO)
    OutboundCall.objects.update(due_at=time.now)
    providers.work()
    assert statuses(message) == {TO: RecipientStatus.QUEUED}


def test_connection_refused_until_the_circuit_opens(
    providers: Providers, time: VirtualTime, settings: LazySettings
) -> None:
    """A provider that is down: nothing was sent, so when the circuit opens the other one has it."""
    down = TransientError("first: no connection; nothing was sent")
    settings.OUTBOUND_ADAPTERS |= {
        "first": entry(providers.first, BREAKER={"consecutive_failures": 2})
    }
    providers.first.then(*[down] * 9)
    messages = [email(), email()]
    providers.work()
    assert Circuit.objects.get(pk="first").state == "open"
    time.passes(seconds=61)
    for call in OutboundCall.objects.filter(adapter="first"):
        engine.deliver(call.pk)
    sweep()
    providers.work()
    assert [statuses(message) for message in messages] == [{TO: "queued"}, {TO: "queued"}]
    assert len(providers.second.seen) == 2


def test_a_circuit_that_may_be_probed_is_asked(
    providers: Providers, time: VirtualTime, settings: LazySettings
) -> None:
    """Else nobody would ever find out that the first provider works again."""
    settings.OUTBOUND_ADAPTERS |= {
        "first": entry(providers.first, BREAKER={"consecutive_failures": 1, "open_seconds": 30})
    }
    providers.first.then(TransientError("down"))
    email()
    providers.work()
    assert Circuit.objects.get(pk="first").state == "open"
    assert why(email()) == ["second: the circuit of first is open"]
    time.passes(seconds=45)
    assert why(email()) == ["first: first in the route"]
    providers.work()
    assert Circuit.objects.get(pk="first").state == "half-open"


def test_out_of_quota(providers: Providers) -> None:
    """Waiting until tomorrow is worse than another provider."""
    message = email()
    providers.first.then(RateLimited("first: 200 a day", code=OUT_OF_QUOTA, retry_after=36000))
    providers.work()
    assert statuses(message) == {TO: RecipientStatus.QUEUED}
    assert why(message)[1] == "second: first is out of quota"
    assert arrived(providers) == (1, 1)


def test_out_of_quota_with_nobody_else(providers: Providers) -> None:
    """Then it waits."""
    message = email(route=["first"])
    providers.first.then(RateLimited("200 a day", code=OUT_OF_QUOTA, retry_after=36000))
    providers.work()
    assert calls_of(message) == [("first", "send_email", "retrying")]


def test_slow_down_is_no_reason(providers: Providers) -> None:
    """An ordinary 429 is waited out where it was met."""
    message = email()
    providers.first.then(RateLimited("slow down", retry_after=5))
    providers.work()
    assert calls_of(message) == [("first", "send_email", "retrying")]


@pytest.mark.parametrize("after", ["nothing", "circuit", "sweep", "by hand"])
def test_never_after_a_doubt(providers: Providers, after: str) -> None:
    """An answer that was lost may have been an acceptance: nobody else is asked, whatever happens
    to the circuit afterwards."""
    message = email()
    providers.first.then(OutcomeUnknown("lost"))
    providers.work()
    call = OutboundCall.objects.get()
    if after != "nothing":
        providers.force("first", OPEN)
    if after == "sweep":
        sweep()
    if after == "by hand":
        assert not fail_over(call.pk, why="a test")
    providers.work()
    message.refresh_from_db()
    assert message.status == MessageStatus.UNKNOWN
    assert statuses(message) == {TO: RecipientStatus.UNKNOWN}
    assert arrived(providers) == (1, 0)


def test_a_hook_that_runs_again_asks_nobody_twice(providers: Providers) -> None:
    """As after a crash between the settlement and its hook."""
    from notifications.settlements import settle_dispatch

    message = email()
    providers.first.then(PermanentError("suspended"))
    providers.work()
    failed = OutboundCall.objects.get(adapter="first")
    settle_dispatch(failed)
    settle_dispatch(failed)
    providers.work()
    assert arrived(providers) == (1, 1)
    assert statuses(message) == {TO: RecipientStatus.QUEUED}
