"""One fault: what it changes about a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sandbox.sending import WHOLE, Manner, Reply
from sandbox.stripe.cards import Decline
from sandbox.wire import Answer


class Trouble(Protocol):
    """How a provider words a failure that is its own: a 5xx, too many requests, a conflict."""

    def __call__(self, status: int, *, code: str, met: Met) -> Answer: ...


class Met(NamedTuple):
    """The request that meets the fault. `now` is in Unix seconds."""

    now: float
    request_id: str
    key: str
    trouble: Trouble


def _nothing(_met: Met) -> Reply | None:
    return None


def _same(answer: Answer, _met: Met) -> Answer:
    return answer


@dataclass(frozen=True)
class Fault:
    """As it stands here: no fault at all. Each kind sets what it is about."""

    kind: str = ""
    instead: Callable[[Met], Reply | None] = _nothing  # of everything: no effect, nothing stored
    wait_before: float = 0.0  # seconds until the effect; meanwhile the key is in use
    executes: bool = True  # whether the effect happens
    decline: Decline | None = None  # how the payment is declined
    stored: Callable[[Answer, Met], Answer] = _same  # under the key, in place of the true answer
    wait_after: float = 0.0  # seconds between effect and answer
    sent: Callable[[Answer, Met], Answer] = _same  # in place of what is stored
    silence: Reply | None = None  # no answer, although it happened
    manner: Manner = WHOLE  # how the answer leaves


NONE = Fault()
