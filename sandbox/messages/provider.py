"""What every provider of messages is: it reads a request, and says what it has accepted."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sandbox.faults.fault import Met
from sandbox.fields import BadInput, Fields
from sandbox.messages.conditions import Conditions
from sandbox.messages.refused import Refused
from sandbox.recent import Recent
from sandbox.records import Message
from sandbox.wire import Answer, Request

Json = dict[str, Any]
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer, and one message for each recipient that was accepted."""

    answer: Answer
    messages: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A request under the provider's prefix. `path` is behind it, `now` in Unix seconds."""

    request: Request
    path: str
    now: float


class MessageProvider(ABC):
    """One provider. Subclass it in a file of its own, and name it in sandbox/messages/api.py."""

    name: ClassVar[str]
    kind: ClassVar[str] = "email"

    def __init__(self, arrivals: Recent[Message]) -> None:
        self.arrivals = arrivals
        self.conditions = Conditions()

    @abstractmethod
    def take(self, ask: Ask) -> Taken:
        """What comes of the request. Raises Refused, or BadInput for what is misshapen."""

    @abstractmethod
    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        """In the provider's words."""

    def misshapen(self, error: BadInput) -> Refused:
        """How the provider calls what it cannot read."""
        return Refused(400, str(error))

    def trouble(self, status: int, *, code: str, met: Met) -> Answer:
        """A failure of the provider's own, for the faults."""
        message = {429: "Too many requests", 503: "Service unavailable"}.get(
            status, "Internal server error"
        )
        return self.refusal(Refused(status, message), request_id=met.request_id)

    async def once(self, ask: Ask, execute: Callable[[], Awaitable[Answer]]) -> Answer:
        """Around the execution: who knows idempotency keys has a look first. Raises Refused."""
        return await execute()

    def reset(self) -> None:
        """As at the start."""
        self.conditions = Conditions()


def answer(status: int, document: object, **headers: str) -> Answer:
    """JSON, with headers whose names have hyphens in place of underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Answer(status, body, tuple(named.items()), JSON_TYPE)


def read_json(request: Request) -> Any:
    """The body. Raises BadInput; Refused with 415 for another content type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON_TYPE:
        raise Refused(415, f"Content-Type should be {JSON_TYPE}.")
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadInput("the body is no JSON") from error


def demand(conditions: Conditions, credential: str, refused: Refused) -> None:
    """Raises it when the credential is not one of the good ones."""
    if conditions.credentials is not None and credential not in conditions.credentials:
        raise refused


def bearer(request: Request) -> str:
    """The token of `Authorization: Bearer`; '' without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def strings(fields: Fields, name: str, *, most: int = 10_000) -> dict[str, str]:
    """An object whose members are texts, `most` bytes in all. Raises BadInput."""
    found = fields.string_map(name)
    if sum(len(key.encode()) + len(value.encode()) for key, value in found.items()) > most:
        raise BadInput(f"{name} must not be larger than {most} bytes")
    return found
