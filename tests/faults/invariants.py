"""What must be true of a system at rest: its rows against the provider's own books."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from sandbox.records import Delivery, Effect, Seen
from tests.faults.rows import Attempt, Call, Event

ENDED = {"succeeded", "failed", "cancelled"}
WAITS_FOR_A_PERSON = {"unknown"}
EVENT_ENDED = {"processed", "ignored", "failed"}


@dataclass(frozen=True)
class Books:
    """Both sides of the story. Everything that the provider did was asked for by these rows."""

    calls: list[Call]
    attempts: list[Attempt]
    events: list[Event]
    effects: list[Effect]
    requests: list[Seen]
    deliveries: list[Delivery]


def violations(books: Books, *, client_frozen: bool = False) -> list[str]:
    """A line for each broken promise, with the number of the invariant; empty if all is well.

    client_frozen: a process of ours was frozen while it called. Then the provider may have seen
    two requests at once, and only the rows tell whether there was one attempt at a time.
    """
    return [
        *_asked_for(books),
        *_at_rest(books),
        *_one_at_a_time(books),
        *(() if client_frozen else _one_request_at_a_time(books.requests)),
        *_effects(books),
        *_events(books),
    ]


def _asked_for(books: Books) -> Iterator[str]:
    """1: an effect belongs to a committed call."""
    known = {call.idempotency_key for call in books.calls}
    known |= {attempt.idempotency_key for attempt in books.attempts}
    for effect in books.effects:
        if effect.by == "request" and effect.key not in known:
            yield f"1: {effect.kind} {effect.object} under {effect.key!r} belongs to no call"


def _at_rest(books: Books) -> Iterator[str]:
    """2: every call is final, or waits for a person."""
    for call in books.calls:
        if call.status not in ENDED | WAITS_FOR_A_PERSON:
            yield f"2: call {call.id} is left {call.status} ({call.rule})"
    for attempt in books.attempts:
        if attempt.finished_at is None:
            yield f"2: attempt {attempt.number} of {attempt.call_id} never ended"


def _one_at_a_time(books: Books) -> Iterator[str]:
    """3: by the rows, an attempt starts after the one before has ended."""
    by_call: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(books.attempts, key=lambda attempt: attempt.number):
        by_call[attempt.call_id].append(attempt)
    for attempts in by_call.values():
        for first, second in pairwise(attempts):
            if first.finished_at is None or second.started_at < first.finished_at:
                yield (f"3: attempts {first.number} and {second.number} of {first.call_id} overlap")


def _one_request_at_a_time(requests: Iterable[Seen]) -> Iterator[str]:
    """3: by the provider's clock. Requests whose client had gone are still worked on, so only
    those count of which the client heard the answer."""
    by_key: dict[str, list[Seen]] = defaultdict(list)
    for request in sorted(requests, key=lambda request: request.arrived_at):
        if request.key:
            by_key[request.key].append(request)
    for key, seen in by_key.items():
        for first, second in pairwise(seen):
            if first.answered and first.finished_at and second.arrived_at < first.finished_at:
                yield f"3: requests {first.request_id} and {second.request_id} overlap under {key}"


def _effects(books: Books) -> Iterator[str]:
    """4: one effect for a call that succeeded, none for one that did not happen, never two."""
    keys: dict[str, set[str]] = defaultdict(set)
    for call in books.calls:
        keys[call.id].add(call.idempotency_key)
    for attempt in books.attempts:
        keys[attempt.call_id].add(attempt.idempotency_key)
    done = Counter(effect.key for effect in books.effects if effect.outcome == "done")
    for key, count in Counter(effect.key for effect in books.effects if effect.key).items():
        if count > 1:
            yield f"4: {count} effects under {key}"
    for call in books.calls:
        count = sum(done[key] for key in keys[call.id])
        wanted = {"succeeded": {1}, "failed": {0}, "cancelled": {0}}.get(call.status, {0, 1})
        if count not in wanted:
            yield f"4: call {call.id} is {call.status} with {count} effects"


def _events(books: Books) -> Iterator[str]:
    """2 and 7: what was answered 2xx is a row, each once, and none is left half-way."""
    rows = Counter((event.source, event.account, event.event_id) for event in books.events)
    for identity, count in rows.items():
        if count > 1:
            yield f"7: event {identity} has {count} rows"
    stored = {event.event_id for event in books.events}
    for event_id in sorted({d.event for d in books.deliveries if d.outcome == "delivered"}):
        if event_id not in stored:
            yield f"7: event {event_id} was answered 2xx and is not stored"
    for event in books.events:
        if event.status not in EVENT_ENDED:
            yield f"2: event {event.event_id} is left {event.status} ({event.error})"
