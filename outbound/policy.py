"""When to try again, and when to stop: pure functions of what is known about a call."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from outbound.errors import DeliveryError, PermanentError, StoredFailure, TransientError
from outbound.states import CallStatus

HINT_LIMIT = 300.0  # seconds: a longer wait is left to the row and the sweep
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """How one operation is tried. All times in seconds.

    `connect_timeout` < `read_timeout` < `total_timeout` < the lease. `schedule` holds the waits
    between attempts, so there is one attempt more than it has entries. `jitter` is the share by
    which a wait may be shorter or longer. `age_limit` ends the automatic attempts.
    `retry_after_cap` bounds what a provider's Retry-After can ask for. `priority` (0 to 9, lower
    first) orders calls that were parked together.
    """

    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    total_timeout: float = 15.0
    schedule: tuple[float, ...] = (5, 30, 120, 600, 1800, 7200, 18000, 36000)
    jitter: float = 0.2
    age_limit: float = 86400.0
    retry_after_cap: float = 3600.0
    priority: int = 5

    @property
    def max_attempts(self) -> int:
        return len(self.schedule) + 1


READ_POLICY: Mapping[str, Any] = {"schedule": (0.5, 1.0), "age_limit": 15.0}
"""Reads are made while somebody waits: three tries inside fifteen seconds."""


def build_policy(*overrides: Any) -> Policy:
    """A policy from settings, later overrides winning. Raises ImproperlyConfigured."""
    merged: dict[str, Any] = {}
    for override in overrides:
        if not isinstance(override, Mapping):
            raise ImproperlyConfigured(f"a policy must be a dict, not {override!r}")
        merged.update(override)
    unknown = merged.keys() - {f.name for f in fields(Policy)}
    if unknown:
        raise ImproperlyConfigured(f"unknown policy setting {sorted(unknown)[0]!r}")
    for name, value in merged.items():
        numbers = value if name == "schedule" else (value,)
        if not isinstance(numbers, list | tuple) or not all(_is_duration(n) for n in numbers):
            raise ImproperlyConfigured(f"policy setting {name!r} is no duration: {value!r}")
    if "schedule" in merged:
        merged["schedule"] = tuple(merged["schedule"])
    policy = Policy(**merged)
    _check_bounds(policy)
    return policy


def _check_bounds(policy: Policy) -> None:
    if policy.connect_timeout <= 0:
        raise ImproperlyConfigured("policy setting connect_timeout must be above 0")
    if not policy.connect_timeout < policy.read_timeout < policy.total_timeout:
        raise ImproperlyConfigured(
            "timeouts must be in the order connect_timeout < read_timeout < total_timeout, got "
            f"{policy.connect_timeout:g}, {policy.read_timeout:g}, {policy.total_timeout:g}"
        )
    if policy.total_timeout >= settings.OUTBOUND_LEASE_SECONDS:
        raise ImproperlyConfigured(
            f"total_timeout ({policy.total_timeout:g}) must be shorter than the lease "
            f"(LEASE_SECONDS, {settings.OUTBOUND_LEASE_SECONDS:g})"
        )
    if policy.priority not in range(10):
        raise ImproperlyConfigured("policy setting 'priority' must be a whole number, 0 to 9")
    if policy.jitter >= 1:
        raise ImproperlyConfigured("policy setting 'jitter' must be below 1")


def _is_duration(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < float("inf")


def retry_delay(policy: Policy, *, step: int, retry_after: float | None) -> float:
    """Seconds to wait before the attempt after the `step`-th (1 is the first).

    The provider's wish is honoured between the planned step and the cap, and then the jitter
    only goes upward: earlier than asked would be refused again.
    """
    planned = float(policy.schedule[min(step, len(policy.schedule)) - 1]) if policy.schedule else 0
    if retry_after is not None and retry_after > planned:
        wished = min(retry_after, max(policy.retry_after_cap, planned))
        return wished * random.uniform(1, 1 + policy.jitter)
    return planned * random.uniform(1 - policy.jitter, 1 + policy.jitter)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known about a call when one of its attempts has ended."""

    now: datetime
    attempts: int
    max_attempts: int
    deadline_at: datetime
    key_expires_at: datetime | None
    reads: bool
    keyed: bool
    replays_failures: bool
    effect_possible_before: bool  # an earlier attempt may have worked
    previous_status: int | None  # what the provider answered to the attempt before


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the call goes next, when, and the rule that says so, in words."""

    status: CallStatus
    rule: str
    due_at: datetime | None = None


def decide(policy: Policy, standing: Standing, error: DeliveryError | None) -> Decision:
    """The next state after an attempt that ended with `error` (None: it succeeded)."""
    if error is None:
        return Decision(CallStatus.SUCCEEDED, "the provider accepted it")
    if isinstance(error, PermanentError):
        earlier = standing.effect_possible_before and not error.conclusive
        if not standing.reads and (error.effect_possible or earlier):
            return Decision(
                CallStatus.UNKNOWN, "refused, but an attempt may have worked", standing.now
            )
        return Decision(CallStatus.FAILED, "the provider refused it for good")
    if not isinstance(error, TransientError):
        raise TypeError(f"{error!r} is neither transient nor permanent")
    if not standing.reads and error.effect_possible:
        if not standing.keyed:
            return Decision(
                CallStatus.UNKNOWN, "may have happened, and there is no key", standing.now
            )
        if isinstance(error, StoredFailure) or _same_failure_again(standing, error):
            return Decision(
                CallStatus.UNKNOWN, "the provider repeats the failure it stored", standing.now
            )
    return _again(policy, standing, error)


def _same_failure_again(standing: Standing, error: TransientError) -> bool:
    return (
        standing.replays_failures
        and error.provider_status == SERVER_ERROR
        and standing.previous_status == SERVER_ERROR
    )


def _again(policy: Policy, standing: Standing, error: TransientError) -> Decision:
    maybe = not standing.reads and (error.effect_possible or standing.effect_possible_before)
    step = policy.max_attempts - (standing.max_attempts - standing.attempts)
    delay = retry_delay(policy, step=max(step, 1), retry_after=error.retry_after)
    due_at = standing.now + timedelta(seconds=delay)
    if standing.attempts >= standing.max_attempts:
        return give_up(standing, f"{standing.attempts} attempts made", maybe=maybe)
    if due_at >= standing.deadline_at:
        return give_up(standing, "the next attempt would pass the age limit", maybe=maybe)
    if standing.keyed and standing.key_expires_at and due_at >= standing.key_expires_at:
        return give_up(standing, "the idempotency key would expire first", maybe=maybe)
    return Decision(CallStatus.RETRYING, f"another attempt in {delay:.1f} s", due_at)


def give_up(standing: Standing, why: str, *, maybe: bool) -> Decision:
    """No more automatic attempts: UNKNOWN where an attempt may have worked, else FAILED."""
    if maybe:
        return Decision(CallStatus.UNKNOWN, f"{why}; it may have happened", standing.now)
    return Decision(CallStatus.FAILED, why)


def after_crash(standing: Standing) -> Decision:
    """The next state of a call whose lease ran out: our crash, not the provider's."""
    key_valid = standing.keyed and (
        standing.key_expires_at is None or standing.now < standing.key_expires_at
    )
    if not (standing.reads or key_valid):
        return Decision(
            CallStatus.UNKNOWN, "the worker was lost, and repeating is not safe", standing.now
        )
    maybe = not standing.reads
    if standing.attempts >= standing.max_attempts:
        return give_up(standing, f"{standing.attempts} attempts made", maybe=maybe)
    if standing.now >= standing.deadline_at:
        return give_up(standing, "the age limit has passed", maybe=maybe)
    return Decision(CallStatus.RETRYING, "the worker was lost; repeated with the same key",
                    standing.now)  # fmt: skip


LOOKUP_SCHEDULE = (10, 60, 300, 1800, 7200)  # seconds between look-ups of an UNKNOWN call


def lookup_delay(lookups: int) -> timedelta:
    """How long to wait after the `lookups`-th look-up that found nothing."""
    return timedelta(seconds=LOOKUP_SCHEDULE[min(lookups, len(LOOKUP_SCHEDULE) - 1)])
