"""An adapter that does what a test's script says, without a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from outbound.adapters import Adapter, CallContext, Payload, Reply, operation

KEY_LIFETIME = timedelta(hours=20)

Answer = Reply | BaseException | Callable[[CallContext], Reply]
DONE = Reply({"id": "obj-1"}, provider_reference="obj-1", provider_status=200)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the provider saw it."""

    operation: str
    payload: dict[str, Any]
    context: CallContext

    @property
    def key(self) -> str:
        return self.context.idempotency_key


@dataclass
class Script:
    """What the provider answers, in turn; DONE when nothing is left. `seen` is all it was asked,
    `lookups` what it answers to a look-up."""

    answers: deque[Answer] = field(default_factory=deque)
    lookups: deque[Reply | BaseException | None] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)

    def then(self, *answers: Answer) -> Script:
        self.answers.extend(answers)
        return self

    def perform(self, seen: Seen) -> Reply:
        self.seen.append(seen)
        answer = self.answers.popleft() if self.answers else DONE
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Reply) else answer(seen.context)

    def look_up(self) -> Reply | None:
        answer = self.lookups.popleft() if self.lookups else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Item(Payload):
    """Something of each kind that a payload can hold."""

    n: int = Field(ge=1, le=1000)
    note: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    anything: Any = None


class ScriptedAdapter(Adapter):
    """One operation of each sort. The script is handed in as an option."""

    required_options = {"SCRIPT": "SCRIPTED_SCRIPT"}  # noqa: RUF012  # declared ClassVar by Adapter
    visible_fields = frozenset({"n", "id", "status"})

    @operation(key_lifetime=KEY_LIFETIME)
    def create(self, payload: Item, context: CallContext) -> Reply:
        """A write with a key."""
        return self._perform("create", payload, context)

    @operation(key_lifetime=KEY_LIFETIME, replays_failures=True)
    def charge(self, payload: Item, context: CallContext) -> Reply:
        """A write with a key, under which failures are stored, too."""
        return self._perform("charge", payload, context)

    @operation()
    def notify(self, payload: Item, context: CallContext) -> Reply:
        """A write where the provider knows no keys."""
        return self._perform("notify", payload, context)

    @operation(reads=True)
    def look(self, payload: Item, context: CallContext) -> Reply:
        """A read."""
        return self._perform("look", payload, context)

    def resolve(self, name: str, payload: BaseModel, context: CallContext) -> Reply | None:
        return self._script.look_up()

    @property
    def _script(self) -> Script:
        script: Script = self.options["SCRIPT"]
        return script

    def _perform(self, name: str, payload: Item, context: CallContext) -> Reply:
        return self._script.perform(Seen(name, payload.model_dump(exclude_none=True), context))


class DeafAdapter(Adapter):
    """An adapter that cannot look anything up."""

    @operation()
    def notify(self, payload: Item, context: CallContext) -> Reply:
        raise TypeError("never performed")


def scripted_settings(script: Script | None, **entry: Any) -> dict[str, Any]:
    """An OUTBOUND_ADAPTERS setting in which `scripted` follows the script."""
    return {
        "scripted": {
            "ADAPTER": f"{__name__}.ScriptedAdapter",
            "QUEUE": "payments-v1",
            "OPTIONS": {"SCRIPT": script},
            **entry,
        }
    }
