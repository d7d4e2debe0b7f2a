"""A world in virtual time around the real engine: workers, a broker, a provider, a tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import structlog
from django.test import override_settings

from outbound import clock, engine, hints, registry, services, settlement
from outbound.adapters import Reply
from outbound.errors import CallRefused, DeliveryError, RetryRefused
from outbound.hints import Hint
from outbound.models import CallNote, OutboundCall
from outbound.settlement import on_revived, on_settled
from outbound.states import SETTLED, WAITING, AttemptTrigger, CallStatus
from outbound.sweep import look_up, sweep
from tests.emptying import rolled_back
from tests.engine.dying import Life, living
from tests.engine.looking import Picture, Row, see_call, take_picture
from tests.engine.promises import LEASE, Asked, check_all
from tests.engine.provider import Lookup, Provider, Script, Sent, scripted_settings

START = datetime(2031, 1, 1, tzinfo=UTC)
SCHEDULE = (5, 600, 36000)
OPERATIONS = ("charge", "notify", "look")
DELIVER, RESOLVE = "outbound.deliver_call", "outbound.resolve_call"
ROUNDS_TO_REST = 150
BUGS = frozenset({"sweep_failed"})  # what the engine logs and survives, and nobody foresaw


@dataclass(slots=True)
class Worker:
    """A process on its way through one attempt: gated, then claimed, then answered."""

    call_id: str
    plan: engine.Plan
    claim: engine.Claim | None = None
    outcome: Reply | DeliveryError | None = None


class World:
    """Everything around the engine, and what must hold at each step of a worker."""

    def __init__(self) -> None:
        self.at = START
        self.asked: dict[str, Asked] = {}
        self.broker: list[Hint] = []
        self.workers: list[Worker] = []
        self.provider = Provider(
            now=self.now, monotonic=self.monotonic, meanwhile=self._try_again_meanwhile
        )
        self.hook_error: Exception | None = None
        self.tenant_refuses = False
        self.life = Life(None)
        self.seen = Picture()
        self._stale = True
        self._options: dict[str, object] = {"PROVIDER": self.provider, "TOKEN": "t"}
        self._open = ExitStack()
        self._logs: list[MutableMapping[str, Any]] = []

    def open(self) -> None:
        """Begin: from here on the engine lives in this world, until `close`."""
        adapters = scripted_settings(self._options, schedule=SCHEDULE)
        virtual_time = SimpleNamespace(monotonic=self.monotonic, sleep=self._sleep)
        for part in (
            rolled_back(),
            clock.use(self.now),
            override_settings(
                OUTBOUND_ADAPTERS=adapters,
                OUTBOUND_LEASE_SECONDS=LEASE.total_seconds(),
                OUTBOUND_HINT_GRACE_SECONDS=10,
                OUTBOUND_REANNOUNCE_SECONDS=60,
                EMBEDDED_BROKER=False,
            ),
            mock.patch.object(hints, "announce", self.broker.append),
            mock.patch.object(engine, "time", virtual_time),
            self._tenant(),
        ):
            self._open.enter_context(part)
        self._logs = self._open.enter_context(structlog.testing.capture_logs())

    def close(self) -> None:
        self._open.close()

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()

    def _sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    # The tenant.

    @contextmanager
    def _tenant(self) -> Iterator[None]:
        for operation in OPERATIONS:
            on_settled("scripted", operation)(self._learn)
            on_revived("scripted", operation)(self._agree)
        yield
        for operation in OPERATIONS:
            settlement._settled["scripted", operation].remove(self._learn)
            settlement._revived["scripted", operation].remove(self._agree)

    def _learn(self, call: OutboundCall) -> None:
        """The tenant writes down what it is told, in two steps, and may fall over in between."""
        known = CallNote.objects.filter(call=call, actor="tenant")
        if not known.update(action=call.status):
            CallNote.objects.create(call=call, at=self.at, actor="tenant", action=call.status)
        if self.hook_error is not None:
            raise self.hook_error
        known.update(reason=call.status)

    def _agree(self, call: OutboundCall) -> None:
        if self.tenant_refuses:
            raise RetryRefused("not wanted any more")

    def configure(self, *, complete: bool) -> None:
        """The adapter's settings are complete, or lack something, in every process from now on."""
        self._options["TOKEN"] = "t" if complete else ""
        registry.adapter_for.cache_clear()

    # The steps of a worker, and what must hold at each of them.

    @contextmanager
    def living(self, death: int | None) -> Iterator[Life]:
        with living(death) as self.life:
            try:
                yield self.life
            finally:
                self._stale |= self.life.wrote

    def handle(self, hint: Hint) -> None:
        """A worker takes a message and goes all the way."""
        call_id = hint.kwargs["call_id"]
        if hint.task == RESOLVE:
            look_up(call_id)
            return
        plan = engine.gate(call_id)
        worker = Worker(call_id, plan) if plan else None
        if worker is not None and self.claim(worker) and self.send(worker):
            self.settle(worker)

    def _try_again_meanwhile(self, call_id: str) -> None:
        """While a look-up is on its way a person tries the call again, who has seen in the books
        that nothing happened if there is no key; and a worker makes an attempt."""
        asked = self.asked[call_id]
        with suppress(CallRefused):
            if not (asked.keyed or asked.reads):
                if self.happened(call_id) or self.under_way(call_id):
                    return
                services.resolve_call(call_id=call_id, succeeded=False, reason="seen in the books")
                asked.suspect = False
            services.retry_call(call_id=call_id)
            self._stale = True
            self.check()
            self.handle(deliver_hint(call_id))

    def claim(self, worker: Worker) -> bool:
        """Invariant 5: nothing is sent again while the attempt before may have worked, unless
        there is a key. Returns whether the worker got the call."""
        asked, row = self.asked[worker.call_id], self.seen.calls[worker.call_id]
        worker.claim = engine.claim_call(worker.plan, trigger=AttemptTrigger.AUTO, wait=None)
        if worker.claim is None:
            return False
        assert row["status"] in WAITING
        assert row["due_at"] <= self.at < row["deadline_at"]
        assert row["key_expires_at"] is None or self.at < row["key_expires_at"]
        assert not asked.suspect, "claimed again, though the attempt before may have worked"
        asked.suspect = not (asked.keyed or asked.reads)
        return True

    def send(self, worker: Worker) -> bool:
        """False when the worker fell over a bug."""
        assert worker.claim is not None
        before = len(self.provider.sent)
        try:
            worker.outcome = engine.call_provider(worker.claim)
        except KeyError:
            return False
        finally:
            if len(self.provider.sent) > before:
                row = self.row(worker.call_id)
                check_sent(self.provider.sent[-1], row, worker.claim)
                assert self.provider.sent[-1].n == self.asked[worker.call_id].n
        return True

    def settle(self, worker: Worker) -> None:
        """Invariant 3: a worker that has lost its lease changes nothing; one that has it is
        heard, whatever the tenant's hooks do."""
        assert worker.claim is not None
        assert worker.outcome is not None
        ours = self.row(worker.call_id)["lease_token"] == worker.claim.token
        before = None if ours else self.picture()
        try:
            delivery = engine.settle(worker.claim, worker.outcome)
            assert (delivery is not None) == ours
            if delivery is not None and delivery.hint_in is not None:
                self.broker.append(deliver_hint(worker.call_id))
        finally:
            if before is not None:
                assert self.picture() == before, "a worker without a lease changed something"
            elif self.row(worker.call_id)["lease_token"] is None:
                self._note_outcome(worker)

    def _note_outcome(self, worker: Worker) -> None:
        if isinstance(worker.outcome, DeliveryError) and not worker.outcome.effect_possible:
            self.asked[worker.call_id].suspect = False

    def act(
        self, death: int | None, refusal: type[Exception] | None, deed: Callable[[], object]
    ) -> None:
        """Somebody does something: it is done, or refused for exactly this reason and then
        nothing has changed."""
        with self.living(death) as life:
            if refusal is None:
                deed()
                return
            before = self.picture()
            with pytest.raises(refusal):
                deed()
            assert life.died or self.picture() == before

    # What an onlooker sees.

    def row(self, call_id: str) -> Row:
        with self.life.watched():
            return see_call(call_id)

    def picture(self) -> Picture:
        with self.life.watched():
            return take_picture()

    def check(self) -> None:
        """To be called whenever something has happened: remembers what is to be seen now."""
        if self._stale:
            self.seen, self._stale = self.picture(), False
        for call_id, row in self.seen.calls.items():
            if row["status"] == CallStatus.FAILED and call_id in self.asked:
                self.asked[call_id].suspect = False
        told = {hint.kwargs["call_id"] for hint in self.broker}
        assert told <= self.asked.keys(), "announced before it was committed"
        assert not [log for log in self._logs if log["event"] in BUGS], self._logs
        check_all(self.seen, asked=self.asked, effects=self.provider.effects, now=self.at)

    def happened(self, call_id: str) -> bool:
        return any(effect.call_id == call_id for effect in self.provider.effects)

    def wait_until(self, moment: datetime) -> None:
        if moment > self.at + timedelta(hours=1):  # no network holds a request for hours
            self.all_arrive()
        self.at = max(self.at, moment)

    def under_way(self, call_id: str) -> bool:
        return any(sent.call_id == call_id for sent in self.provider.in_transit)

    def all_arrive(self) -> None:
        while self.provider.in_transit:
            self.provider.arrive(0)

    def next_time(self) -> datetime | None:
        """When the sweep has something to do; None when everything is at rest."""
        times = [self._next_time(call_id, row) for call_id, row in self.seen.calls.items()]
        return min((time for time in times if time is not None), default=None)

    def _next_time(self, call_id: str, row: Row) -> datetime | None:
        status = row["status"]
        moment: datetime | None = row["hook_due_at"]
        if status in WAITING:
            ends = row["key_expires_at"] or row["deadline_at"]
            moment = min(max(row["due_at"], row["hint_at"]), ends, row["deadline_at"])
        elif status == CallStatus.RUNNING:
            moment = row["lease_expires_at"]
        elif status == CallStatus.UNKNOWN and self.happened(call_id):
            moment = row["due_at"]
        return moment

    def come_to_rest(self) -> None:
        """Invariant 2: with the provider, the hooks and the broker in order again, every call
        comes to its end, or to UNKNOWN if nobody but a person can say; and it has not happened
        then, for that a look-up would have seen."""
        self.workers.clear()
        self.broker.clear()
        self.hook_error = None
        self.configure(complete=True)
        self.provider.script, self.provider.lookup = Script.ACCEPTED, Lookup.TRUTH
        self.all_arrive()
        for _ in range(ROUNDS_TO_REST):
            with self.living(None):
                sweep(announce=self.broker.append)
            self.check()
            while self.broker:
                with self.living(None):
                    self.handle(self.broker.pop())
                self.check()
            next_time = self.next_time()
            if next_time is None:
                break
            self.at = max(self.at + timedelta(seconds=1), next_time)
        else:
            raise AssertionError(f"does not come to rest: {self.seen.calls}")
        for call_id, row in self.seen.calls.items():
            assert row["status"] in SETTLED
            assert row["status"] != CallStatus.UNKNOWN or not self.happened(call_id)


def check_sent(sent: Sent, row: Row, claim: engine.Claim) -> None:
    """Invariant 3: who sends has the lease, unless the provider's event has settled the call
    meanwhile. Invariant 4: nothing is sent after the promise of the key has ended, but for an
    attempt that had begun before."""
    assert row["status"] == CallStatus.SUCCEEDED or row["lease_token"] == claim.token, (
        "sent by a worker that had lost its lease"
    )
    if sent.honours_keys:
        assert sent.at <= row["key_expires_at"] + LEASE, "sent with a key of yesterday"


def deliver_hint(call_id: str) -> Hint:
    return Hint(DELIVER, "payments-v1", {"call_id": call_id})
