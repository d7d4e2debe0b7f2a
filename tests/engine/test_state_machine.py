"""The real engine in virtual time, under every interleaving that hypothesis can think of."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.engine.happenings import Happenings, first_calls, some_happenings
from tests.engine.world import World

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES, STEPS = (5000, 150) if LONG else (300, 60)


class CallMachine(RuleBasedStateMachine):
    """Calls, workers, a broker that loses and doubles, a provider with whims, and people."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.open()
        self.happenings = Happenings(self.world)

    @initialize(operations=first_calls())
    def the_day_begins(self, operations: list[str]) -> None:
        self.happenings.first_calls(operations)

    @rule(happening=some_happenings())
    def something_happens(self, happening: tuple[str, dict[str, Any]]) -> None:
        sort, arguments = happening
        getattr(self.happenings, sort)(**arguments)

    @invariant()
    def every_promise_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.world.come_to_rest()
        finally:
            self.world.close()


def run(*, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        CallMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=not LONG,  # the same examples each time; the long profile looks further
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.faults
@pytest.mark.django_db
def test_every_interleaving_keeps_the_promises() -> None:
    """Invariants 1 to 5 hold after every step of every interleaving of messages, crashes,
    answers, sweeps, look-ups, events and people, and in the end everything comes to rest."""
    run(examples=EXAMPLES, steps=STEPS)


@pytest.mark.both_databases
@pytest.mark.django_db
def test_some_interleavings_keep_the_promises() -> None:
    """The same, in a few seconds and on both databases."""
    run(examples=15, steps=40)
