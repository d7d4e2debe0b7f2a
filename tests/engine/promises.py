"""What must hold of the rows, the provider's ledger and the tenant's knowledge at every moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from outbound.states import FINAL, SETTLED, WAITING, CallStatus
from tests.engine.looking import Picture
from tests.engine.provider import Sent

LEASE = timedelta(seconds=30)
PATIENCE = timedelta(seconds=60)  # after which a call that is due is announced again, at the latest

WITHOUT_EFFECT = frozenset({CallStatus.PENDING, CallStatus.FAILED, CallStatus.CANCELLED})


@dataclass(slots=True)
class Asked:
    """A call that somebody asked for in a transaction that committed."""

    operation: str
    n: int = 1
    own_key: str | None = None
    key: str = ""  # what goes to the provider
    suspect: bool = False  # no keys: an attempt was begun that may have had an effect

    @property
    def keyed(self) -> bool:
        return self.operation == "charge"

    @property
    def reads(self) -> bool:
        return self.operation == "look"


def check_all(
    picture: Picture, *, asked: Mapping[str, Asked], effects: Sequence[Sent], now: datetime
) -> None:
    """Invariants 1 to 5, as far as they can be seen from outside at one moment."""
    exactly_what_was_committed_exists(picture, asked)
    nothing_waits_unseen(picture, now)
    one_attempt_is_open_while_a_call_runs(picture)
    keys_do_not_change_by_themselves(picture, asked)
    the_tenant_knows(picture)
    nothing_happens_twice(effects)
    status_agrees_with_the_ledger(picture, asked, effects)
    attempts_agree_with_the_ledger(picture, effects)


def exactly_what_was_committed_exists(picture: Picture, asked: Mapping[str, Asked]) -> None:
    """Invariant 1: a call exists if and only if the transaction that asked for it committed."""
    assert picture.calls.keys() == asked.keys()


def nothing_waits_unseen(picture: Picture, now: datetime) -> None:
    """Invariant 2: what waits is announced again soon after it is due and has an attempt left;
    what runs has a lease that ends."""
    for row in picture.calls.values():
        assert row["attempts"] <= row["max_attempts"]
        assert (row["lease_token"] is not None) == (row["status"] == CallStatus.RUNNING)
        assert (row["finished_at"] is not None) == (row["status"] in FINAL)
        if row["status"] == CallStatus.RUNNING:
            assert row["lease_expires_at"] <= now + LEASE
        if row["status"] in WAITING:
            assert row["hint_at"] <= max(now, row["due_at"]) + PATIENCE
            assert row["attempts"] < row["max_attempts"]


def one_attempt_is_open_while_a_call_runs(picture: Picture) -> None:
    """Invariant 3, in the rows: one open attempt while a call runs, else none; none is missing."""
    for call_id, row in picture.calls.items():
        attempts = picture.attempts[call_id]
        still_open = [a for a in attempts if a["finished_at"] is None]
        assert len(still_open) == (row["status"] == CallStatus.RUNNING)
        assert [a["number"] for a in attempts] == list(range(1, row["attempts"] + 1))


def keys_do_not_change_by_themselves(picture: Picture, asked: Mapping[str, Asked]) -> None:
    """Invariant 4: a call keeps its key until a person gives it another one."""
    for call_id, row in picture.calls.items():
        assert row["idempotency_key"] == asked[call_id].key


def the_tenant_knows(picture: Picture) -> None:
    """Invariant 2, for the tenant: of a settled call it knows the outcome, or will be told."""
    for call_id, row in picture.calls.items():
        first_half, second_half = picture.told.get(call_id, ("", ""))
        assert first_half == second_half, "a hook that failed has left something behind"
        if row["status"] in SETTLED and row["hook_due_at"] is None:
            assert first_half == row["status"], "the tenant was not told"
            assert row["hook_error"] == ""


def nothing_happens_twice(effects: Sequence[Sent]) -> None:
    """Invariants 4 and 5: no key has two effects, and no call has, under whatever keys: another
    key is only given to a call that is known to have had no effect."""
    assert all(count == 1 for count in Counter(e.key for e in effects).values()), effects
    assert all(count == 1 for count in Counter(e.call_id for e in effects).values()), effects


def status_agrees_with_the_ledger(
    picture: Picture, asked: Mapping[str, Asked], effects: Sequence[Sent]
) -> None:
    """Invariants 2, 4 and 5: SUCCEEDED has its one effect, made with the key that the row shows;
    PENDING, FAILED and CANCELLED have none; reads never have any."""
    for call_id, row in picture.calls.items():
        keys = [effect.key for effect in effects if effect.call_id == call_id]
        if asked[call_id].reads or row["status"] in WITHOUT_EFFECT:
            assert not keys, f"{row['status']}, and it happened"
        elif row["status"] == CallStatus.SUCCEEDED:
            assert keys == [row["idempotency_key"]], "it succeeded, and did not happen"


def attempts_agree_with_the_ledger(picture: Picture, effects: Sequence[Sent]) -> None:
    """Invariants 4 and 5: where there is an effect, an attempt with its key is known that may
    have made it; where the row says that there is none, no attempt with its key is in doubt."""
    for call_id, row in picture.calls.items():
        attempts = picture.attempts[call_id]
        doubtful = {a["idempotency_key"] for a in attempts if a["effect_possible"]}
        made = {effect.key for effect in effects if effect.call_id == call_id}
        assert made <= doubtful, "no attempt is known that may have done it"
        if row["status"] in WITHOUT_EFFECT:
            assert row["idempotency_key"] not in doubtful, f"{row['status']}, and in doubt"
