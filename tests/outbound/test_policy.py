"""When to try again, and when to stop: every rule a row of a table."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    StoredFailure,
    TransientError,
)
from outbound.policy import (
    Decision,
    Policy,
    Standing,
    after_crash,
    build_policy,
    decide,
    give_up,
    lookup_delay,
    retry_delay,
)
from outbound.states import CallStatus

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEADY = Policy(schedule=(10, 20, 30), jitter=0)

FIRST = Standing(  # the first of four attempts of a write with a key has just ended
    now=NOW,
    attempts=1,
    max_attempts=4,
    deadline_at=NOW + timedelta(hours=24),
    key_expires_at=NOW + timedelta(hours=20),
    reads=False,
    keyed=True,
    replays_failures=False,
    effect_possible_before=False,
    previous_status=None,
)
KEYED = FIRST
UNKEYED = dataclasses.replace(FIRST, keyed=False, key_expires_at=None)
READ = dataclasses.replace(FIRST, keyed=False, key_expires_at=None, reads=True)

SUCCEEDED, FAILED, UNKNOWN, RETRYING = (
    CallStatus.SUCCEEDED, CallStatus.FAILED, CallStatus.UNKNOWN, CallStatus.RETRYING
)  # fmt: skip

refused = TransientError("refused")
unavailable = TransientError("503", provider_status=503, effect_possible=True)
broken = TransientError("500", provider_status=500, effect_possible=True)
slow_down = RateLimited("429", provider_status=429)
lost = OutcomeUnknown("silent")
stored = StoredFailure("replayed 500", provider_status=500)
stored_without_effect = StoredFailure("replayed", effect_possible=False)
declined = PermanentError("402", provider_status=402)
unauthorised = PermanentError("401", conclusive=False, provider_status=401)
half_done = PermanentError("half done", effect_possible=True)

late = {"deadline_at": NOW + timedelta(seconds=10)}
fading = {"key_expires_at": NOW + timedelta(seconds=10)}
last = {"attempts": 4}
maybe = {"effect_possible_before": True}
storing = {"replays_failures": True}

# (case, standing, changes to it, error, status, words of the rule)
DECISIONS: list[tuple[str, Standing, dict[str, Any], DeliveryError | None, CallStatus, str]] = [
    ("success", KEYED, {}, None, SUCCEEDED, "accepted"),
    ("success at last", UNKEYED, last | maybe, None, SUCCEEDED, "accepted"),
    ("success of a read", READ, {}, None, SUCCEEDED, "accepted"),

    ("refused for good", KEYED, {}, declined, FAILED, "refused it for good"),
    ("refused for good, no key", UNKEYED, {}, declined, FAILED, "refused it for good"),
    ("refusal answers for earlier attempts", KEYED, maybe, declined, FAILED, "for good"),
    ("refusal that says nothing of them", KEYED, maybe, unauthorised, UNKNOWN, "may have worked"),
    ("refusal with nothing before", KEYED, {}, unauthorised, FAILED, "for good"),
    ("refusal of a read", READ, maybe, unauthorised, FAILED, "for good"),
    ("refusal after an effect", KEYED, {}, half_done, UNKNOWN, "may have worked"),
    ("refusal of a read after an effect", READ, {}, half_done, FAILED, "for good"),

    ("nothing sent, key", KEYED, {}, refused, RETRYING, "another attempt in 10.0 s"),
    ("nothing sent, no key", UNKEYED, {}, refused, RETRYING, "another attempt"),
    ("nothing sent, read", READ, {}, refused, RETRYING, "another attempt"),
    ("429, key", KEYED, {}, slow_down, RETRYING, "another attempt"),
    ("429, no key", UNKEYED, {}, slow_down, RETRYING, "another attempt"),
    ("5xx, key", KEYED, {}, unavailable, RETRYING, "another attempt"),
    ("5xx, no key", UNKEYED, {}, unavailable, UNKNOWN, "may have happened, and there is no key"),
    ("5xx, read", READ, {}, unavailable, RETRYING, "another attempt"),
    ("answer lost, key", KEYED, {}, lost, RETRYING, "another attempt"),
    ("answer lost, no key", UNKEYED, {}, lost, UNKNOWN, "there is no key"),
    ("answer lost, read", READ, {}, lost, RETRYING, "another attempt"),
    ("answer lost at the last try, no key", UNKEYED, last, lost, UNKNOWN, "there is no key"),

    ("stored failure", KEYED, {}, stored, UNKNOWN, "repeats the failure it stored"),
    ("stored failure without effect", KEYED, {}, stored_without_effect, RETRYING, "another"),
    ("stored failure of a read", READ, {}, stored, RETRYING, "another attempt"),
    ("500 twice where failures are stored", KEYED, storing | {"previous_status": 500}, broken,
     UNKNOWN, "repeats the failure it stored"),
    ("500 once where failures are stored", KEYED, storing, broken, RETRYING, "another"),
    ("500 after 503", KEYED, storing | {"previous_status": 503}, broken, RETRYING, "another"),
    ("503 after 500", KEYED, storing | {"previous_status": 500}, unavailable, RETRYING, "another"),
    ("503 twice", KEYED, storing | {"previous_status": 503}, unavailable, RETRYING, "another"),
    ("500 twice elsewhere", KEYED, {"previous_status": 500}, broken, RETRYING, "another"),

    ("last try, nothing sent", KEYED, last, refused, FAILED, "4 attempts made"),
    ("last try, 5xx", KEYED, last, unavailable, UNKNOWN, "4 attempts made; it may have happened"),
    ("last try, nothing sent, but before", KEYED, last | maybe, refused, UNKNOWN, "may have"),
    ("last try, read", READ, last | maybe, lost, FAILED, "4 attempts made"),
    ("too old, nothing sent", KEYED, late, refused, FAILED, "would pass the age limit"),
    ("too old, lost", KEYED, late, lost, UNKNOWN, "the age limit; it may have happened"),
    ("too old, read", READ, late, lost, FAILED, "the age limit"),
    ("too old, no key", UNKEYED, late, slow_down, FAILED, "the age limit"),
    ("key would expire, nothing sent", KEYED, fading, refused, FAILED, "key would expire first"),
    ("key would expire, lost", KEYED, fading, lost, UNKNOWN, "key would expire first; it may"),
    ("key would expire, but before", KEYED, fading | maybe, refused, UNKNOWN, "it may have"),
    ("no expiry known", KEYED, {"key_expires_at": None}, lost, RETRYING, "another attempt"),
]  # fmt: skip


@pytest.mark.parametrize(
    "standing,changes,error,status,words",
    [row[1:] for row in DECISIONS],
    ids=[row[0] for row in DECISIONS],
)
def test_decide(
    standing: Standing,
    changes: dict[str, Any],
    error: DeliveryError | None,
    status: CallStatus,
    words: str,
) -> None:
    """One row for each rule of what becomes of a call when an attempt has ended."""
    decision = decide(STEADY, dataclasses.replace(standing, **changes), error)
    assert decision.status == status
    assert words in decision.rule
    assert (decision.due_at is None) == (status in {SUCCEEDED, FAILED})
    if status is UNKNOWN:
        assert decision.due_at == NOW  # the first look-up is due at once


def test_decide_follows_the_schedule() -> None:
    """The n-th attempt is followed by the n-th wait, and after the last there is no other."""
    waits = []
    for attempts in (1, 2, 3):
        due_at = decide(STEADY, dataclasses.replace(FIRST, attempts=attempts), refused).due_at
        assert due_at is not None
        waits.append((due_at - NOW).total_seconds())
    assert waits == [10, 20, 30]


def test_the_schedule_begins_again_after_a_retry() -> None:
    """A person's retry grants a whole schedule more."""
    retried = dataclasses.replace(FIRST, attempts=7, max_attempts=10)
    decision = decide(STEADY, retried, refused)
    assert decision.due_at == NOW + timedelta(seconds=10)


def test_a_shorter_schedule_since_then() -> None:
    """A call that was enqueued under a longer schedule still gets a wait of the present one."""
    decision = decide(STEADY, dataclasses.replace(FIRST, max_attempts=9), refused)
    assert decision.due_at == NOW + timedelta(seconds=10)


def test_one_attempt_only() -> None:
    """An empty schedule means one attempt."""
    once = Policy(schedule=())
    assert once.max_attempts == 1
    assert decide(once, dataclasses.replace(FIRST, max_attempts=1), refused).status is FAILED


def test_decide_knows_two_kinds_of_errors() -> None:
    """An error that is neither transient nor permanent has no rule, and that is said."""
    with pytest.raises(TypeError, match="neither transient nor permanent"):
        decide(STEADY, FIRST, DeliveryError("what?"))


past = {"deadline_at": NOW}
expired = {"key_expires_at": NOW}

CRASHES: list[tuple[str, Standing, dict[str, Any], CallStatus, str]] = [
    ("key valid", KEYED, {}, RETRYING, "repeated with the same key"),
    ("key never sent", KEYED, {"key_expires_at": None}, RETRYING, "the same key"),
    ("read", READ, {}, RETRYING, "the worker was lost"),
    ("no key", UNKEYED, {}, UNKNOWN, "repeating is not safe"),
    ("key expired", KEYED, expired, UNKNOWN, "repeating is not safe"),
    ("last try, key", KEYED, last, UNKNOWN, "4 attempts made; it may have happened"),
    ("last try, read", READ, last, FAILED, "4 attempts made"),
    ("too old, key", KEYED, past, UNKNOWN, "the age limit has passed; it may have happened"),
    ("too old, read", READ, past, FAILED, "the age limit has passed"),
]


@pytest.mark.parametrize(
    "standing,changes,status,words", [row[1:] for row in CRASHES], ids=[row[0] for row in CRASHES]
)
def test_after_crash(
    standing: Standing, changes: dict[str, Any], status: CallStatus, words: str
) -> None:
    """One row for each rule of what becomes of a call whose worker was lost."""
    decision = after_crash(dataclasses.replace(standing, **changes))
    assert decision.status == status
    assert words in decision.rule
    if status is RETRYING:
        assert decision.due_at == NOW  # it was our crash: at once


@pytest.mark.parametrize(
    "possible,decision",
    [
        (True, Decision(UNKNOWN, "enough; it may have happened", NOW)),
        (False, Decision(FAILED, "enough")),
    ],
)
def test_give_up(possible: bool, decision: Decision) -> None:
    """FAILED means that it did not happen; where it may have, the end is UNKNOWN."""
    assert give_up(FIRST, "enough", maybe=possible) == decision


# (step, Retry-After, wait without jitter): schedule 10, 20, 30, cap 60
DELAYS: list[tuple[int, float | None, float]] = [
    (1, None, 10),
    (2, None, 20),
    (3, None, 30),
    (9, None, 30),
    (1, 0, 10),
    (1, 10, 10),
    (1, 15, 15),
    (1, 60, 60),
    (1, 61, 60),
    (1, 10**9, 60),
    (3, 25, 30),
    (1, -5, 10),
]


@pytest.mark.parametrize("step,retry_after,seconds", DELAYS)
def test_retry_delay(step: int, retry_after: float | None, seconds: float) -> None:
    """The provider's wish counts between the planned step and the cap."""
    policy = dataclasses.replace(STEADY, retry_after_cap=60)
    assert retry_delay(policy, step=step, retry_after=retry_after) == seconds


def test_retry_delay_with_a_cap_below_the_plan() -> None:
    """The cap bounds the provider's wish, never our own plan."""
    policy = dataclasses.replace(STEADY, retry_after_cap=5)
    assert retry_delay(policy, step=3, retry_after=1000) == 30


def test_retry_delay_without_a_schedule() -> None:
    """Without a schedule there is nothing to wait for but the provider's wish."""
    policy = Policy(schedule=(), jitter=0)
    assert retry_delay(policy, step=1, retry_after=None) == 0
    assert retry_delay(policy, step=1, retry_after=7) == 7


@given(
    step=st.integers(1, 20),
    retry_after=st.none() | st.floats(-1e6, 1e6),
    jitter=st.floats(0, 0.99),
    seed=st.integers(),
)
def test_jitter_bounds(step: int, retry_after: float | None, jitter: float, seed: int) -> None:
    """Around our plan jitter goes both ways; from a provider's wish only upward, since earlier
    than asked would be refused again. It is never further than its share."""
    random.seed(seed)
    policy = Policy(jitter=jitter)
    planned = policy.schedule[min(step, 8) - 1]
    delay = retry_delay(policy, step=step, retry_after=retry_after)
    if retry_after is not None and retry_after > planned:
        wished = min(retry_after, max(policy.retry_after_cap, planned))
        assert wished <= delay <= wished * (1 + jitter)
    else:
        assert planned * (1 - jitter) <= delay <= planned * (1 + jitter)


def test_jitter_is_there() -> None:
    """Two calls that failed together are not tried again together."""
    policy = Policy()
    assert len({retry_delay(policy, step=1, retry_after=None) for _ in range(20)}) > 1
    assert len({retry_delay(policy, step=1, retry_after=60) for _ in range(20)}) > 1


def test_lookup_delay() -> None:
    """Look-ups grow rare, and never cease."""
    seconds = [lookup_delay(n).total_seconds() for n in range(7)]
    assert seconds == [10, 60, 300, 1800, 7200, 7200, 7200]


def test_default_policy() -> None:
    """What holds where settings say nothing (seconds)."""
    policy = build_policy()
    assert policy == Policy()
    assert (policy.connect_timeout, policy.read_timeout, policy.total_timeout) == (3, 10, 15)
    assert list(policy.schedule) == [5, 30, 120, 600, 1800, 7200, 18000, 36000]
    assert (policy.jitter, policy.age_limit, policy.max_attempts) == (0.2, 86400, 9)


def test_later_overrides_win() -> None:
    """The operation's setting beats the adapter's, which beats the general one."""
    policy = build_policy(
        {"schedule": [1], "jitter": 0}, {"schedule": [2, 3], "read_timeout": 5}, {"read_timeout": 4}
    )
    assert (policy.schedule, policy.jitter, policy.read_timeout) == ((2, 3), 0, 4)


@pytest.mark.parametrize(
    "override,words",
    [
        ({"retries": 3}, "unknown policy setting 'retries'"),
        ({"read_timeout": "10"}, "'read_timeout' is no duration: '10'"),
        ({"read_timeout": True}, "'read_timeout' is no duration"),
        ({"read_timeout": None}, "'read_timeout' is no duration"),
        ({"age_limit": -1}, "'age_limit' is no duration"),
        ({"age_limit": float("inf")}, "'age_limit' is no duration"),
        ({"jitter": float("nan")}, "'jitter' is no duration"),
        ({"schedule": 5}, "'schedule' is no duration"),
        ({"schedule": "5"}, "'schedule' is no duration"),
        ({"schedule": [5, "30"]}, "'schedule' is no duration"),
        ({"schedule": [[5]]}, "'schedule' is no duration"),
        ({"schedule": [-5]}, "'schedule' is no duration"),
        ({"connect_timeout": 10}, "connect_timeout < read_timeout < total_timeout, got 10, 10, 15"),
        ({"read_timeout": 15}, "in the order"),
        ({"total_timeout": 2}, "in the order"),
        ({"connect_timeout": 0}, "connect_timeout must be above 0"),
        ({"total_timeout": 30}, r"total_timeout \(30\) must be shorter than the lease"),
        ({"jitter": 1}, "'jitter' must be below 1"),
    ],
)
def test_build_policy_errors(override: dict[str, Any], words: str, settings: Any) -> None:
    """A policy that makes no sense is refused, and the message names the setting."""
    settings.OUTBOUND_LEASE_SECONDS = 30
    with pytest.raises(ImproperlyConfigured, match=words):
        build_policy({}, override)


@pytest.mark.parametrize("override", [None, 5, "schedule", ["schedule"]])
def test_build_policy_needs_mappings(override: Any) -> None:
    """A POLICY that is no dict is refused in the same way."""
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        build_policy(override)
