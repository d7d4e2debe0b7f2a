"""What becomes of an event after a try: pure functions of how often it was tried."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from webhooks.states import EventStatus

SCHEDULE = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 18000.0, 36000.0)  # between failed tries
JITTER = 0.2  # the share by which a wait may be shorter or longer
HINT_LIMIT = 300.0  # seconds: a longer wait is left to the row and the sweep
NOT_YET_SCHEDULE = (2.0, 8.0, 20.0, 60.0)  # within two minutes, also with all the jitter
CRASH_LIMIT = 8


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the event goes next, the rule that says so, in words, and after how many seconds it
    is due again (None: it is finished)."""

    status: EventStatus
    rule: str
    wait: float | None = None

    @property
    def countdown(self) -> float | None:
        """Seconds after which a message should speak of the event again; None where there is
        nothing to say, or where that is left to the row and the sweep."""
        return self.wait if self.wait is not None and self.wait <= HINT_LIMIT else None


def after_success(*, handled: int, missed: Sequence[str]) -> Decision:
    """`handled` functions took it; for those that did not, `missed` says what they lacked."""
    if not handled and not missed:
        return Decision(EventStatus.IGNORED, "no handler for this type")
    lacking = "; ".join(missed)
    if not handled:
        return Decision(EventStatus.IGNORED, f"not known here: {lacking}"[:200])
    names = "1 handler" if handled == 1 else f"{handled} handlers"
    return Decision(
        EventStatus.PROCESSED, (f"{names}; not known here: {lacking}" if missed else names)[:200]
    )


def after_failure(*, failures: int, schedule: Sequence[float]) -> Decision:
    """The `failures`-th try in a row has failed."""
    if failures > len(schedule):
        return Decision(EventStatus.FAILED, f"{failures} tries failed")
    return _again(schedule[failures - 1])


def after_miss(*, misses: int) -> Decision:
    """The `misses`-th try has come too early. Only for tries that are not the last of them."""
    return _again(NOT_YET_SCHEDULE[misses - 1], "too early")


def is_last_miss(*, misses_before: int) -> bool:
    """Whether another miss would be one too many."""
    return misses_before >= len(NOT_YET_SCHEDULE)


def after_crash(*, crashes: int, schedule: Sequence[float]) -> Decision:
    """The worker was lost for the `crashes`-th time. At first that is no fault of the event."""
    if crashes >= CRASH_LIMIT:
        return Decision(EventStatus.FAILED, f"the worker was lost {crashes} times")
    if crashes == 1 or not schedule:
        return Decision(EventStatus.RETRYING, "the worker was lost", 0.0)
    return _again(schedule[min(crashes - 2, len(schedule) - 1)], "the worker was lost")


def retry_schedule() -> Sequence[float]:
    """The waits between failed tries: those of outbound calls, so that RETRY_SCHEDULE sets both."""
    schedule: Sequence[float] = settings.OUTBOUND_POLICY.get("schedule", SCHEDULE)
    return schedule


def _again(planned: float, why: str = "failed") -> Decision:
    wait = planned * random.uniform(1 - JITTER, 1 + JITTER)
    return Decision(EventStatus.RETRYING, f"{why}; another try in {wait:.1f} s", wait)
