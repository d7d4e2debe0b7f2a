"""The embedded form whole: a real Celery worker on the in-process broker, fed from the rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app, signals
from celery.contrib.testing.worker import start_worker
from pytest_django import DjangoDbBlocker, Settings

from outbound import dispatcher
from outbound.adapters import CallContext, Reply
from outbound.errors import OutcomeUnknown, PermanentError, RateLimited, TransientError
from outbound.models import OutboundCall
from outbound.states import CallStatus
from tests.house.polling import wait_until
from tests.outbound.rows import attempts, enqueue, reread
from tests.outbound.scripted import DONE, Script, scripted_settings

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

S = CallStatus
CANARY = "ada" + "lovelace"
THREADS = 4


@pytest.fixture(scope="module")
def worker(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A worker with a pool of threads, and its dispatcher, which sweeps all the time."""
    app: Any = current_app
    app = app._get_current_object()
    app.control.purge()
    beat, app.conf.beat_schedule = (
        app.conf.beat_schedule,
        {"sweep": {"task": "outbound.sweep", "schedule": 0.2}},
    )
    with (
        django_db_blocker.unblock(),
        start_worker(
            app, pool="threads", concurrency=THREADS, perform_ping_check=False, shutdown_timeout=30
        ) as working,
    ):
        consumer: Any = working
        signals.worker_ready.send(sender=consumer.consumer)  # left out by Celery's test worker
        running = dispatcher._dispatcher
        assert running is not None
        yield
        running.stop()
        running.join(20)
    app.conf.beat_schedule = beat
    app.control.purge()


@pytest.fixture
def impatient(worker: None, script: Script, settings: Settings) -> Script:
    """Short waits, and short leases."""
    settings.OUTBOUND_ADAPTERS = scripted_settings(
        script,
        POLICY={
            "connect_timeout": 0.1, "read_timeout": 0.2, "total_timeout": 0.3,
            "schedule": [0.05, 0.05, 0.05], "jitter": 0, "retry_after_cap": 0.2,
        },
        OPERATIONS={"charge": {"schedule": [0.05]}},
    )  # fmt: skip
    settings.OUTBOUND_LEASE_SECONDS = 1
    return script


def settled(call: OutboundCall) -> OutboundCall:
    """The call when it has an outcome."""
    wait_until(lambda: reread(call).settled, what=f"an outcome of {call}")
    return reread(call)


@pytest.mark.usefixtures("impatient")
class TestWorker:
    def test_delivered(self, script: Script) -> None:
        """A committed call is made, without anybody's message."""
        call = settled(enqueue())
        assert (call.status, call.result) == (S.SUCCEEDED, {"id": "obj-1"})
        assert [a.trigger for a in attempts(call)] == ["auto"]

    def test_retried_by_celery(self, script: Script) -> None:
        """Transient failures of each kind are retried by autoretry until it works, under one
        key."""
        script.then(
            TransientError("away"), RateLimited("slow", retry_after=0.1), OutcomeUnknown("lost")
        )
        call = settled(enqueue())
        assert call.status == S.SUCCEEDED
        assert [a.outcome for a in attempts(call)] == [
            "transient", "rate_limited", "unknown", "succeeded",
        ]  # fmt: skip
        assert {seen.key for seen in script.seen} == {call.idempotency_key}

    def test_given_up(self, script: Script) -> None:
        """The row's limit ends it, and its doubt decides how."""
        script.then(*(TransientError("503", effect_possible=True) for _ in range(2)))
        call = settled(enqueue("charge"))
        assert (call.status, len(attempts(call))) == (S.UNKNOWN, 2)

    def test_a_bug_in_an_adapter(self, script: Script, caplog: pytest.LogCaptureFixture) -> None:
        """A bug is logged with a traceback that leads to its line, and with nothing of the
        payload; the sweep repairs the row, and the next attempt succeeds."""
        script.then(ValueError(f"no such customer: {CANARY}"))
        call = settled(enqueue(payload={"n": 1, "note": CANARY}))
        assert call.status == S.SUCCEEDED
        assert [a.outcome for a in attempts(call)] == ["crashed", "succeeded"]
        assert "Traceback (most recent call last)" in caplog.text
        assert "tests/outbound/scripted.py" in caplog.text
        assert "ValueError in scripted.create" in caplog.text
        assert CANARY not in caplog.text

    def test_an_unknown_outcome_is_looked_up(self, script: Script) -> None:
        """The dispatcher feeds look-ups, too."""
        script.lookups.append(DONE)
        script.then(OutcomeUnknown("lost"))
        call = enqueue("notify")
        wait_until(lambda: reread(call).status == S.SUCCEEDED)
        assert reread(call).rule == "found at the provider"
        assert len(script.seen) == 1

    def test_many(self, script: Script) -> None:
        """More calls than threads, some of which fail at first: each is made, one at a time, and
        no more at once than there are threads."""
        working, most, lock = [0], [0], threading.Lock()

        def answer(context: CallContext) -> Reply:
            with lock:
                working[0] += 1
                most[0] = max(most[0], working[0])
            threading.Event().wait(0.01)
            with lock:
                working[0] -= 1
            return DONE

        script.then(*(TransientError("away") for _ in range(5)), *([answer] * 100))
        calls = [enqueue() for _ in range(40)]
        refused = enqueue()
        script.answers.appendleft(PermanentError("no"))
        ends = [settled(call).status for call in [*calls, refused]]
        assert sorted(set(ends)) == [S.FAILED, S.SUCCEEDED]
        assert ends.count(S.FAILED) == 1
        assert len(script.seen) == 46
        assert 1 <= most[0] <= THREADS
