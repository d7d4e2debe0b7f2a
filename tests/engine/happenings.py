"""What can happen, and how often: the moves of the state machine."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

from django.db import IntegrityError, OperationalError, transaction
from hypothesis import strategies as st

from outbound import engine, services
from outbound.errors import IllegalMove, KeyExpired, KeyReused, ReasonRequired, RetryRefused
from outbound.hints import Hint
from outbound.models import OutboundCall
from outbound.states import SETTLED, WAITING, CallStatus
from outbound.sweep import sweep
from tests.engine.promises import Asked
from tests.engine.provider import Lookup, Script
from tests.engine.world import RESOLVE, Worker, World, deliver_hint

AT_MOST_OPEN, AT_MOST_CALLS, AT_MOST_WORKERS, AT_MOST_MESSAGES = 3, 12, 3, 12


class Fate(Enum):
    """What can become of a message. That it is late needs no mention: it is until delivered."""

    LOST = "lost"
    DOUBLED = "doubled"
    PURGED = "all are lost"
    NOWHERE = "comes out of nowhere: from long ago, or by a person's hand"


class Step(Enum):
    """What a worker does next."""

    STARTS = "takes a message"
    GOES_ON = "does what it has to do next"
    FREEZES = "stands still until its lease has ended and another worker has its call"
    DIES = "dies where it stands"


class Deed(Enum):
    """What a person can do to a call."""

    RETRY = "retry"
    RETRY_AS_NEW = "retry as new"
    RETRY_AS_NEW_UNEXPLAINED = "retry as new, without a reason"
    CANCEL = "cancel"
    RESOLVE = "say what became of it"


PICK = st.integers(0, 7)
# The statement at which a process dies: most processes live.
DEATH = st.sampled_from([None] * 36 + list(range(12)) + [13, 15, 18])
SCRIPT = st.sampled_from([Script.ACCEPTED] * 2 + list(Script))
STEP = st.sampled_from([Step.STARTS] * 3 + [Step.GOES_ON] * 6 + [Step.FREEZES] * 2 + [Step.DIES])
LOOKUP = st.sampled_from(Lookup)
HOOK_ERROR = st.sampled_from(
    [
        None,
        None,
        ValueError("the tenant's bug"),
        IntegrityError("the tenant's constraint"),
        OperationalError("no such table: tenant"),
    ]
)
SECONDS = st.sampled_from([None] * 20 + [1, 6, 31, 301, 4000, 20_000, 72_001, 90_000])
OPERATION = st.sampled_from(["charge", "charge", "charge", "notify", "notify", "look"])
SELDOM = st.sampled_from([False] * 9 + [True])
SOMETIMES = st.sampled_from([False, False, False, True])


# Each sort of happening: how often it comes, and with what.
SORTS: dict[str, tuple[int, st.SearchStrategy[dict[str, Any]]]] = {
    "somebody_asks": (
        3,
        st.fixed_dictionaries(
            {
                "operation": OPERATION,
                "n": st.integers(1, 2),
                "own_key": st.sampled_from([None, None, None, "key-a", "key-b"]),
                "delay": st.sampled_from([0, 0, 0, 0, 100, 5000]),
                "inline": SOMETIMES,
                "rolls_back": SOMETIMES,
                "death": DEATH,
            }
        ),
    ),
    "message_arrives": (
        7,
        st.fixed_dictionaries({"pick": PICK, "script": SCRIPT, "lookup": LOOKUP, "death": DEATH}),
    ),
    "worker_steps": (
        8,
        st.fixed_dictionaries({"pick": PICK, "step": STEP, "script": SCRIPT, "death": DEATH}),
    ),
    "time_passes": (
        5,
        st.fixed_dictionaries({"seconds": SECONDS, "sweeps": st.booleans(), "death": DEATH}),
    ),
    "message_goes_astray": (
        1,
        st.fixed_dictionaries({"pick": PICK, "fate": st.sampled_from(Fate)}),
    ),
    "provider_stirs": (
        2,
        st.fixed_dictionaries(
            {
                "pick": PICK,
                "late_request": st.booleans(),
                "other_key": SOMETIMES,
                "death": DEATH,
            }
        ),
    ),
    "circumstances_change": (
        1,
        st.fixed_dictionaries(
            {"hook_error": HOOK_ERROR, "refuses": SOMETIMES, "incomplete": SELDOM}
        ),
    ),
    "person_acts": (
        3,
        st.fixed_dictionaries({"deed": st.sampled_from(Deed), "pick": PICK, "death": DEATH}),
    ),
}


def first_calls() -> st.SearchStrategy[list[str]]:
    """The operations of the calls that are there at the beginning."""
    return st.lists(OPERATION, min_size=1, max_size=2)


def some_happenings() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A sort and its arguments. Hypothesis by itself would try all sorts equally often."""
    weighted = [name for name, (weight, _) in SORTS.items() for _ in range(weight)]
    return st.sampled_from(weighted).flatmap(lambda name: st.tuples(st.just(name), SORTS[name][1]))


class Happenings:
    """What can happen in a world, in any order: one method for each sort."""

    def __init__(self, world: World) -> None:
        self.world = world

    # Asking for calls.

    def first_calls(self, operations: list[str]) -> None:
        for operation in operations:
            with self.world.living(None), transaction.atomic():
                call = services.enqueue_call(
                    adapter="scripted", operation=operation, payload={"n": 1}
                )
            self.world.asked[str(call.pk)] = Asked(operation, key=call.idempotency_key)
        self.world.check()

    def somebody_asks(
        self,
        operation: str,
        n: int,
        own_key: str | None,
        delay: int,
        inline: bool,
        rolls_back: bool,
        death: int | None,
    ) -> None:
        """Somebody asks for a call, in a transaction that commits, is rolled back, or dies."""
        asked = self.world.asked
        if not self._room_for_calls():
            return
        known = [k for k, a in asked.items() if own_key is not None and a.own_key == own_key]
        clashes = any((asked[k].operation, asked[k].n) != (operation, n) for k in known)
        found: list[OutboundCall] = []
        refused = False
        with self.world.living(death) as life:
            try:
                with transaction.atomic():
                    call = services.enqueue_call(
                        adapter="scripted",
                        operation=operation,
                        payload={"n": n},
                        idempotency_key=own_key,
                        not_before=self.world.at + timedelta(seconds=delay) if delay else None,
                        inline=inline,
                    )
                    found.append(call)
                    transaction.set_rollback(rolls_back)
            except KeyReused:
                refused = True
        if life.died and not life.committed:
            return
        assert refused == clashes, "a key stands for one operation and payload"
        ids = [str(call.pk) for call in found]
        if known and not refused:
            assert ids == known, "the same key and content made another call"
        elif found and not rolls_back:
            asked[ids[0]] = Asked(operation, n, own_key, key=found[0].idempotency_key)

    def _room_for_calls(self) -> bool:
        unfinished = [row for row in self.world.seen.calls.values() if row["status"] not in SETTLED]
        return len(unfinished) < AT_MOST_OPEN and len(self.world.seen.calls) < AT_MOST_CALLS

    # Messages.

    def message_goes_astray(self, pick: int, fate: Fate) -> None:
        broker = self.world.broker
        if fate is Fate.NOWHERE:
            call_id = self._call(pick)
            hint = deliver_hint(call_id)
            broker.append(hint if pick % 2 else Hint(RESOLVE, hint.queue, hint.kwargs))
        elif fate is Fate.PURGED:
            broker.clear()
        elif broker and fate is Fate.LOST:
            broker.pop(pick % len(broker))
        elif broker and len(broker) < AT_MOST_MESSAGES:
            broker.append(broker[pick % len(broker)])

    def _message(self, pick: int) -> Hint | None:
        """A message that waits in the broker; else one out of nowhere about a call that waits,
        when the next of them is due."""
        broker = self.world.broker
        if broker:
            return broker.pop(pick % len(broker))
        rows = self.world.seen.calls
        due = {k: row["due_at"] for k, row in rows.items() if row["status"] in WAITING}
        if not due:
            return None
        self.world.wait_until(min(due.values()))
        ready = [call_id for call_id, due_at in due.items() if due_at <= self.world.at]
        return deliver_hint(ready[pick % len(ready)])

    # One attempt, whole or step by step.

    def message_arrives(self, pick: int, script: Script, lookup: Lookup, death: int | None) -> None:
        """A worker takes a message and goes all the way, or dies at some statement of it."""
        self.world.provider.script, self.world.provider.lookup = script, lookup
        hint = self._message(pick)
        if hint is not None:
            with self.world.living(death):
                self.world.handle(hint)

    def worker_steps(self, pick: int, step: Step, script: Script, death: int | None) -> None:
        """A worker takes its next step, perhaps long after the one before: it claims when others
        have claimed, it sends or settles when its lease has been given to another. Or it dies
        where it stands."""
        workers = self.world.workers
        self.world.provider.script = script
        if not workers or (step is Step.STARTS and len(workers) < AT_MOST_WORKERS):
            self._worker_starts(pick)
        elif step is Step.DIES:
            workers.pop(pick % len(workers))
        elif step is Step.FREEZES:
            self._worker_freezes(workers[pick % len(workers)])
        else:
            self._worker_goes_on(workers[pick % len(workers)], death)

    def _worker_starts(self, pick: int) -> None:
        hint = self._message(pick)
        if hint is None:
            return
        call_id = hint.kwargs["call_id"]
        with self.world.living(None):
            plan = engine.gate(call_id)
        if plan is not None:
            self.world.workers.append(Worker(call_id, plan))

    def _worker_freezes(self, worker: Worker) -> None:
        row = self.world.seen.calls[worker.call_id]
        if row["lease_expires_at"] is not None:
            self.world.wait_until(row["lease_expires_at"])
            with self.world.living(None):
                sweep(announce=self.world.broker.append)
            self.world.check()
        with self.world.living(None):
            plan = engine.gate(worker.call_id)
            other = Worker(worker.call_id, plan) if plan else None
            if other is not None and self.world.claim(other):
                self.world.workers.append(other)

    def _worker_goes_on(self, worker: Worker, death: int | None) -> None:
        goes_on = False
        with self.world.living(death) as life:
            if worker.claim is None:
                goes_on = self.world.claim(worker)
            elif worker.outcome is None:
                goes_on = self.world.send(worker)
            else:
                self.world.settle(worker)
        if life.died or not goes_on:
            self.world.workers.remove(worker)

    # What the provider does by itself.

    def provider_stirs(
        self, pick: int, late_request: bool, other_key: bool, death: int | None
    ) -> None:
        """A request that we had given up arrives; or the provider's event about an effect comes,
        early, late, again, or about another key."""
        in_transit = self.world.provider.in_transit
        if late_request and in_transit:
            self.world.provider.arrive(pick % len(in_transit))
        elif self.world.provider.effects:
            self._event_comes(pick, other_key, death)

    def _event_comes(self, pick: int, other_key: bool, death: int | None) -> None:
        effects = self.world.provider.effects
        effect = effects[pick % len(effects)]
        key = f"{effect.key}-other" if other_key else effect.key
        row = self.world.row(effect.call_id)
        fits = key == row["idempotency_key"]
        with self.world.living(death) as life:
            settled = services.settle_from_event(
                call_id=effect.call_id,
                idempotency_key=key,
                result={"id": "obj-event"},
                provider_reference="obj-event",
            )
            open_ = row["status"] in (CallStatus.RUNNING, CallStatus.UNKNOWN)
            assert life.died or settled == (fits and open_)

    # Time, repair and change.

    def time_passes(self, seconds: int | None, sweeps: bool, death: int | None) -> None:
        """So much of it, or just enough for the sweep to have something to do (None); and the
        sweep runs, or should have."""
        world = self.world
        at = world.next_time() if seconds is None else None
        world.wait_until(at or world.at + timedelta(seconds=seconds or 60))
        if sweeps:
            with world.living(death):
                sweep(announce=world.broker.append)

    def circumstances_change(
        self, hook_error: Exception | None, refuses: bool, incomplete: bool
    ) -> None:
        """The tenant's hooks fail or work, it wants failed calls again or not, and the adapter's
        settings lack something or are complete."""
        self.world.hook_error, self.world.tenant_refuses = hook_error, refuses
        self.world.configure(complete=not incomplete)

    # People.

    def person_acts(self, deed: Deed, pick: int, death: int | None) -> None:
        """A person does something to a call, mostly to one where it makes sense."""
        acts = {
            Deed.RETRY: (self._retry, {CallStatus.FAILED, CallStatus.UNKNOWN}),
            Deed.RETRY_AS_NEW: (self._retry_as_new, {CallStatus.FAILED}),
            Deed.RETRY_AS_NEW_UNEXPLAINED: (self._retry_unexplained, {CallStatus.FAILED}),
            Deed.CANCEL: (self._cancel, WAITING if pick < 3 else ()),
            Deed.RESOLVE: (self._resolve, {CallStatus.UNKNOWN}),
        }
        act, wanted = acts[deed]
        act(self._call(pick, *wanted), death)

    def _retry(self, call_id: str, death: int | None) -> None:
        asked, row = self.world.asked[call_id], self.world.row(call_id)
        refusal: type[Exception] | None = None
        if row["status"] not in (CallStatus.FAILED, CallStatus.UNKNOWN):
            refusal = IllegalMove
        elif row["key_expires_at"] is not None and row["key_expires_at"] <= self.world.at:
            refusal = KeyExpired
        elif row["status"] == CallStatus.UNKNOWN and not (asked.keyed or asked.reads):
            refusal = IllegalMove
        elif self.world.tenant_refuses:
            refusal = RetryRefused
        self.world.act(death, refusal, lambda: services.retry_call(call_id=call_id))

    def _retry_as_new(self, call_id: str, death: int | None) -> None:
        refusal: type[Exception] | None = None
        if self.world.row(call_id)["status"] != CallStatus.FAILED:
            refusal = IllegalMove
        elif self.world.tenant_refuses:
            refusal = RetryRefused
        reason = "the card was replaced"
        self.world.act(
            death, refusal, lambda: services.retry_call_as_new(call_id=call_id, reason=reason)
        )
        row, asked = self.world.row(call_id), self.world.asked[call_id]
        if row["status"] == CallStatus.PENDING and refusal is None:
            assert row["idempotency_key"] != asked.key
            assert row["key_expires_at"] is None, "a new key has its whole life before it"
            asked.key = row["idempotency_key"]

    def _retry_unexplained(self, call_id: str, death: int | None) -> None:
        self.world.act(
            death,
            ReasonRequired,
            lambda: services.retry_call_as_new(call_id=call_id, reason=" "),
        )

    def _cancel(self, call_id: str, death: int | None) -> None:
        refusal = None if self.world.row(call_id)["status"] in WAITING else IllegalMove
        self.world.act(death, refusal, lambda: services.cancel_call(call_id=call_id))

    def _resolve(self, call_id: str, death: int | None) -> None:
        """The person looks into the provider's books while nothing is under way."""
        if self.world.under_way(call_id):
            return
        asked = self.world.asked[call_id]
        unknown = self.world.row(call_id)["status"] == CallStatus.UNKNOWN
        happened = asked.reads or self.world.happened(call_id)
        self.world.act(
            death,
            None if unknown else IllegalMove,
            lambda: services.resolve_call(
                call_id=call_id, succeeded=happened, reason="seen in the provider's books"
            ),
        )

    def _call(self, pick: int, *wanted: CallStatus) -> str:
        """Some call; mostly one in a wanted status, if there is one."""
        rows = self.world.seen.calls
        calls = [call_id for call_id, row in rows.items() if row["status"] in wanted]
        if not calls or pick == 0:
            calls = list(self.world.asked)
        return calls[pick % len(calls)]
