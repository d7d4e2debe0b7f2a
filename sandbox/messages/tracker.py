"""Lets every accepted message go through its story, and has its provider tell of it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sandbox.fields import BadInput
from sandbox.messages.conditions import Conditions
from sandbox.messages.stories import UNSENT, Story
from sandbox.messages.tracking.telling import Telling
from sandbox.records import Message
from sandbox.webhooks.courier import Courier


class Tracker:
    """`couriers` and `tellings` by provider; who has none tells nothing."""

    def __init__(self, couriers: Mapping[str, Courier], tellings: Mapping[str, Telling]) -> None:
        self._couriers = couriers
        self._tellings = tellings
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def pending(self) -> int:
        """Steps that are still to come."""
        return len(self._timers)

    def follow(self, messages: Sequence[Message], conditions: Conditions) -> None:
        """From now on, one step after the other."""
        stories: dict[Story, list[Message]] = defaultdict(list)
        for message in messages:
            unsent = UNSENT.get(message.outcome)
            stories[unsent or conditions.story_of(message.recipient)].append(message)
        for story, some in stories.items():
            for place, step in enumerate(story, start=1):
                self._later(place * conditions.step_seconds, step, some)

    def tell(self, step: str, messages: Sequence[Message]) -> None:
        """This has just happened to these, which are of one provider."""
        provider = messages[0].provider
        for message in messages:
            message.status = step
        if provider in self._tellings:
            tidings = self._tellings[provider].tell(step, messages, now=time.time())
            self._couriers[provider].accept(tidings)

    def tell_now(self, step: str, messages: Sequence[Message]) -> None:
        """By hand. Raises BadInput when there is nobody to tell of, or to tell."""
        if not messages:
            raise BadInput("there is no such message")
        if messages[0].provider not in self._tellings:
            raise BadInput(f"{messages[0].provider} tells nothing of its messages")
        self.tell(step, messages)

    def reset(self) -> None:
        """Nothing more will happen."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _later(self, seconds: float, step: str, messages: Sequence[Message]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            self.tell(step, messages)

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)
