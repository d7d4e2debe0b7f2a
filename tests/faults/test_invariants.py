"""Every broken promise is found, and a sound system has none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox.records import Delivery, Effect, Seen
from tests.faults.invariants import Books, violations
from tests.faults.rows import Attempt, Call, Event

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


CALL = Call(
    id="c1",
    adapter="stripe",
    operation="create_refund",
    status="succeeded",
    attempts=2,
    idempotency_key="k1",
    provider_reference="re_1",
    reference="",
    rule="",
    error_kind="",
    error_code="",
    created_at=at(0),
    finished_at=at(4),
)
FIRST = Attempt(
    call_id="c1",
    number=1,
    idempotency_key="k1",
    outcome="unknown",
    started_at=at(1),
    finished_at=at(2),
    worker="",
)
SECOND = replace(FIRST, number=2, outcome="succeeded", started_at=at(3), finished_at=at(4))
EVENT = Event(
    id="e1",
    source="stripe",
    account="",
    event_id="evt_1",
    event_type="charge.refunded",
    status="processed",
    attempts=1,
    deliveries_seen=2,
    error="",
)
EFFECT = Effect(
    seq=1,
    kind="refund.created",
    object="re_1",
    outcome="done",
    amount=100,
    key="k1",
    call="c1",
    account="",
    request_id="req_1",
    by="request",
    at=1.5,
)
LOST = Seen(
    seq=1,
    method="POST",
    path="/v1/refunds",
    account="",
    key="k1",
    body_sha256="",
    request_id="req_1",
    arrived_at=1.0,
    finished_at=9.0,
    effects=1,
)
REPLAYED = replace(
    LOST,
    seq=2,
    request_id="req_2",
    arrived_at=3.0,
    finished_at=3.5,
    answered=True,
    effects=0,
)
DELIVERY = Delivery(
    seq=1,
    event="evt_1",
    type="charge.refunded",
    copy=1,
    attempt=1,
    outcome="delivered",
    status=200,
    error="",
    at=5.0,
    seconds=0.1,
)
SOUND = Books(
    calls=[CALL],
    attempts=[FIRST, SECOND],
    events=[EVENT],
    effects=[EFFECT],
    requests=[LOST, REPLAYED],
    deliveries=[DELIVERY, replace(DELIVERY, copy=2)],
)


def books(**changes: Any) -> Books:
    return replace(SOUND, **changes)


def in_status(status: str) -> list[Call]:
    return [replace(CALL, status=status)]


def test_a_sound_system_has_none() -> None:
    """An answer lost and asked for again, an event twice: all promises hold."""
    assert violations(SOUND) == []


UNANSWERED = replace(DELIVERY, event="evt_2", outcome="failed", status=None)

SOUND_TOO = {
    "nothing happened": books(calls=[], attempts=[], events=[], effects=[], deliveries=[]),
    "failed, declined": books(
        calls=in_status("failed"), effects=[replace(EFFECT, outcome="declined")]
    ),
    "unknown, happened": books(calls=in_status("unknown")),
    "unknown, did not happen": books(calls=in_status("unknown"), effects=[]),
    "cancelled": books(calls=in_status("cancelled"), attempts=[], effects=[]),
    "made by control": books(effects=[EFFECT, replace(EFFECT, by="control", key="", seq=2)]),
    "a delivery that was not answered": books(deliveries=[UNANSWERED]),
    "a new key": books(
        calls=[replace(CALL, idempotency_key="k2")],
        effects=[replace(EFFECT, outcome="declined"), replace(EFFECT, seq=2, key="k2")],
    ),
}


@pytest.mark.parametrize("found", SOUND_TOO.values(), ids=SOUND_TOO)
def test_what_may_be(found: Books) -> None:
    """States of affairs that break nothing."""
    assert violations(found) == []


BROKEN = {
    "an effect of nobody": (books(effects=[replace(EFFECT, key="other")]), "1: refund.created"),
    "left pending": (books(calls=in_status("pending"), effects=[]), "2: call c1 is left pending"),
    "left running": (books(calls=in_status("running")), "2: call c1 is left running"),
    "left retrying": (books(calls=in_status("retrying")), "2: call c1 is left retrying"),
    "an attempt without an end": (
        books(attempts=[FIRST, replace(SECOND, finished_at=None)]),
        "2: attempt 2 of c1 never ended",
    ),
    "two attempts at once": (
        books(attempts=[FIRST, replace(SECOND, started_at=at(1.9))]),
        "3: attempts 1 and 2 of c1 overlap",
    ),
    "two requests at once": (
        books(requests=[replace(LOST, answered=True), REPLAYED]),
        "3: requests req_1 and req_2 overlap",
    ),
    "two effects": (books(effects=[EFFECT, replace(EFFECT, seq=2)]), "4: 2 effects under k1"),
    "declined, and then done, under one key": (
        books(effects=[replace(EFFECT, outcome="declined"), replace(EFFECT, seq=2)]),
        "4: 2 effects under k1",
    ),
    "succeeded without an effect": (books(effects=[]), "4: call c1 is succeeded with 0"),
    "succeeded, but declined": (
        books(effects=[replace(EFFECT, outcome="declined")]),
        "4: call c1 is succeeded with 0",
    ),
    "failed with an effect": (books(calls=in_status("failed")), "4: call c1 is failed with 1"),
    "cancelled with an effect": (
        books(calls=in_status("cancelled")),
        "4: call c1 is cancelled with 1",
    ),
    "an effect under each of two keys": (
        books(
            calls=[replace(CALL, idempotency_key="k2")],
            effects=[EFFECT, replace(EFFECT, seq=2, key="k2")],
        ),
        "4: call c1 is succeeded with 2",
    ),
    "an event twice": (books(events=[EVENT, replace(EVENT, id="e2")]), "7: event"),
    "an event lost": (books(events=[]), "7: event evt_1 was answered 2xx"),
    "an event left": (
        books(events=[replace(EVENT, status="processing")]),
        "2: event evt_1 is left processing",
    ),
}


@pytest.mark.parametrize("found, line", BROKEN.values(), ids=BROKEN)
def test_what_must_not_be(found: Books, line: str) -> None:
    """Each broken promise is named."""
    assert any(violation.startswith(line) for violation in violations(found)), violations(found)


def test_a_frozen_client() -> None:
    """A process that was frozen while it called: only the rows count."""
    frozen = books(requests=[replace(LOST, answered=True), REPLAYED])
    assert violations(frozen, client_frozen=True) == []
