"""The states of a call and the moves between them. There are no others."""

from __future__ import annotations

from django.db.models import TextChoices


class CallStatus(TextChoices):
    """Where a call stands."""

    PENDING = "pending", "Pending"  # waits for its first attempt
    RUNNING = "running", "Running"  # one attempt is in flight, under a lease
    RETRYING = "retrying", "Retrying"  # waits for its next attempt
    UNKNOWN = "unknown", "Unknown"  # may have happened: is looked up, never blindly repeated
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"  # did not happen
    CANCELLED = "cancelled", "Cancelled"  # did not happen, because we stopped it


S = CallStatus

MOVES: dict[CallStatus, frozenset[CallStatus]] = {
    S.PENDING: frozenset({S.PENDING, S.RUNNING, S.FAILED, S.CANCELLED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.RETRYING, S.UNKNOWN, S.FAILED}),
    S.RETRYING: frozenset({S.RETRYING, S.RUNNING, S.UNKNOWN, S.FAILED, S.CANCELLED}),
    S.UNKNOWN: frozenset({S.SUCCEEDED, S.FAILED, S.RETRYING}),
    S.FAILED: frozenset({S.PENDING}),
    S.SUCCEEDED: frozenset(),
    S.CANCELLED: frozenset(),
}

WAITING = frozenset({S.PENDING, S.RETRYING})
SETTLED = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED, S.UNKNOWN})
FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED})


def sources_of(target: CallStatus) -> frozenset[CallStatus]:
    """The statuses from which `target` may be reached."""
    return frozenset(source for source, targets in MOVES.items() if target in targets)


class AttemptTrigger(TextChoices):
    """Who asked for an attempt."""

    AUTO = "auto", "Automatic"
    INLINE = "inline", "Inline, by the process that enqueued it"
    MANUAL = "manual", "By a person"
    PROBE = "probe", "Probe of a half-open circuit"


class AttemptOutcome(TextChoices):
    """How an attempt ended."""

    RUNNING = "running", "In flight"
    SUCCEEDED = "succeeded", "Succeeded"
    TRANSIENT = "transient", "Failed, worth another attempt"
    RATE_LIMITED = "rate_limited", "Refused by the provider's rate limit"
    UNKNOWN = "unknown", "Sent, answer lost"
    PERMANENT = "permanent", "Failed for good"
    CRASHED = "crashed", "Never reported back"
    SUPERSEDED = "superseded", "Settled by the provider's event meanwhile"


class CircuitState(TextChoices):
    """Where a circuit stands; the values are pybreaker's."""

    CLOSED = "closed", "Closed"  # calls go through
    OPEN = "open", "Open"  # calls are parked
    HALF_OPEN = "half-open", "Half-open"  # a few probes go through


class CircuitMode(TextChoices):
    """Who decides: the counts, or an operator."""

    AUTO = "auto", "Automatic"
    FORCED_OPEN = "forced_open", "Forced open"  # nothing goes through
    FORCED_CLOSED = "forced_closed", "Forced closed"  # everything goes through, nothing trips
    OBSERVE = "observe", "Observe only"  # changes state as if automatic, and never blocks
