"""The front door of the webhook engine. Names are keyword-only."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils.datastructures import CaseInsensitiveMapping

from outbound import clock, hints
from outbound.ids import uuid7
from outbound.inserts import insert_new
from outbound.paging import Page, Position, page_of
from webhooks.announcements import hint_grace, process_hint
from webhooks.envelopes import Envelope
from webhooks.errors import (
    BodyGone,
    DeliveryRefused,
    IllegalMove,
    InvalidSignature,
    UnknownEvent,
)
from webhooks.filters import EventFilter
from webhooks.metrics import count_verified
from webhooks.models import EventNote, Replay, WebhookEvent
from webhooks.replaying import ReplayCount, cancel_replay, count_replay, start_replay
from webhooks.sources import Source, enabled_source
from webhooks.states import FINISHED, EventStatus
from webhooks.sweep import mark_dead_letter
from webhooks.throttle import throttle

__all__ = [
    "EventFilter",
    "EventNote",
    "Received",
    "Replay",
    "ReplayCount",
    "WebhookEvent",
    "cancel_replay",
    "count_replay",
    "find_event",
    "list_events",
    "mark_dead_letter",
    "receive",
    "receive_listed",
    "replay_event",
    "start_replay",
]


LISTED = "listed"  # in place of a secret: we asked the provider ourselves


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one delivery: the ids of its rows, whether all of them were known, how many
    were not, and the source's answer to one without events."""

    events: tuple[uuid.UUID, ...]
    duplicate: bool
    new: int = field(default=0, compare=False)
    reply: str | None = None


def receive(
    *,
    source: str,
    body: bytes,
    headers: Mapping[str, str],
    now: datetime,
    url: str = "",
    sender: str | None = None,
) -> Received:
    """Verify a delivery and store each of its events once, all or none. They are committed when
    this returns, unless the caller holds a transaction.

    `now` is the host's clock: freshness is judged without the database. `url`: the address to
    which it was sent, for schemes that sign it. `sender`: from where, for the throttle. Raises
    DeliveryRefused when the sender is to blame; anything else is our own trouble.
    """
    scheme, headers = enabled_source(source), CaseInsensitiveMapping(headers)
    try:
        label = scheme.verify(body, headers, now=now, url=url)
    except DeliveryRefused:
        if sender is not None:
            throttle.failed(source, sender)
        raise
    if sender is not None:
        throttle.proved(source, sender)
    count_verified(source, label)
    headers = scheme.with_address(headers, url)
    reply = scheme.reply(body)
    if reply is not None:
        return Received(events=(), duplicate=False, reply=reply)
    envelopes = scheme.parse(body, headers)
    for envelope in envelopes:
        scheme.admit(envelope)
    return _store(scheme, envelopes, body=body, headers=scheme.keep(headers), label=label)


def receive_listed(*, source: str, envelopes: Collection[Envelope]) -> Received:
    """Store what the provider's own list says has happened, as if it had been delivered. What is
    not for us is left out. Raises UnknownSource."""
    sender = enabled_source(source)
    ours = [envelope for envelope in envelopes if _is_admitted(sender, envelope)]
    return _store(sender, ours, body=b"", headers={}, label=LISTED)


def _is_admitted(source: Source, envelope: Envelope) -> bool:
    try:
        source.admit(envelope)
    except DeliveryRefused:
        return False
    return True


def _store(source: Source, envelopes: list[Envelope], **delivered: Any) -> Received:
    """All or none. A single event is one statement, which needs no transaction around it: what may
    follow, where it was known, are notes that can be made again."""
    with nullcontext() if len(envelopes) == 1 else transaction.atomic():
        return _insert(source, envelopes, **delivered)


def _insert(
    source: Source,
    envelopes: list[Envelope],
    *,
    body: bytes,
    headers: dict[str, str],
    label: str,
) -> Received:
    """Insert, and let the unique constraint decide which events are new."""
    now = clock.now()
    ordered = bool(source.options.get("ORDERED"))
    ids = sorted(uuid7() for _ in envelopes)  # in the order of the body
    rows = {
        (envelope.account, envelope.event_id): WebhookEvent(
            id=row_id,
            source=source.name,
            account=envelope.account,
            event_id=envelope.event_id,
            event_type=envelope.event_type,
            livemode=envelope.livemode,
            occurred_at=envelope.occurred_at,
            received_at=now,
            ordering_key=source.ordering_key(envelope) if ordered else "",
            body=body if envelope.body is None else envelope.body,
            headers=headers,
            matched_secret=label,
            nonce=envelope.nonce,
            status=EventStatus.RECEIVED,
            due_at=now,
            hint_at=now + hint_grace(),
            updated_at=now,
        )
        for row_id, envelope in zip(ids, envelopes, strict=True)
    }
    # In one order, whatever the body's: two deliveries of the same events must not deadlock.
    inserted = insert_new([rows[key] for key in sorted(rows)])
    new = {key: row for key, row in rows.items() if row.pk in inserted}
    others = rows.keys() - new.keys()
    like = _like(others, source) if others else ()
    known = [row for row in like if (row.account, row.event_id) in others]
    if len(known) < len(others):
        raise InvalidSignature("this proof was used before")
    for row in new.values():
        hints.announce_on_commit(process_hint(row.pk))
    for row in known if label != LISTED else []:
        if row.status == EventStatus.FAILED:
            fresh = rows[row.account, row.event_id]
            _rearm(row, now=now, body=fresh.body, headers=headers, matched_secret=label)
    if known and label != LISTED:
        _count_deliveries({row.pk for row in known})
    return Received(
        events=tuple(row.pk for row in [*new.values(), *known]),
        duplicate=bool(known) and not new,
        new=len(new),
    )


def _like(keys: Collection[tuple[str, str]], source: Source) -> QuerySet[WebhookEvent]:
    """The rows with one of these accounts and one of these ids: hardly more than the keys'."""
    accounts, event_ids = {key[0] for key in keys}, {key[1] for key in keys}
    return WebhookEvent.objects.filter(
        source=source.name, account__in=accounts, event_id__in=event_ids
    ).only("account", "event_id", "status")


def _rearm(row: WebhookEvent, *, now: datetime, **delivered: Any) -> None:
    """An event that FAILED is handled anew, with what has just come."""
    armed = WebhookEvent.objects.failed().filter(pk=row.pk).arm(
        now=now,
        hint_at=now + hint_grace(),
        rule="delivered again after it had failed",
        **delivered,
    )  # fmt: skip
    if armed:
        hints.announce_on_commit(process_hint(row.pk))


@transaction.atomic
def _count_deliveries(seen: Collection[uuid.UUID]) -> None:
    """Best effort: a row that a handler holds is passed over, for nobody waits for that."""
    known = WebhookEvent.objects.filter(pk__in=seen)
    free = known.order_by().select_for_update(skip_locked=True).values("pk")
    known.filter(pk__in=free).update(deliveries_seen=F("deliveries_seen") + 1)


def find_event(*, event_id: object) -> WebhookEvent | None:
    """The event of that id of ours; None when there is none, or when it is no id at all."""
    return WebhookEvent.objects.with_id(event_id).defer("body").first()


def list_events(
    *, filters: Mapping[str, str], after: Position | None = None, size: int = 50
) -> Page[WebhookEvent]:
    """Events without their body, newest first. filters: by `source`, `event_id` and `status`,
    which have indexes."""
    events = WebhookEvent.objects.defer("body").filter(**filters)
    return page_of(events, by="received_at", after=after, size=size)


@transaction.atomic
def replay_event(*, event_id: object, actor: str = "", reason: str = "") -> WebhookEvent:
    """Handle a finished event once more. Raises UnknownEvent, IllegalMove (it is not finished),
    BodyGone (nothing is left to replay)."""
    event, now = find_event(event_id=event_id), clock.now()
    if event is None:
        raise UnknownEvent(f"there is no event {str(event_id)[:60]!r}")
    moved = WebhookEvent.objects.filter(pk=event.pk, body__isnull=False).arm(
        now=now,
        hint_at=now + hint_grace(),
        rule=f"replay by {actor or 'the application'}"[:200],
    )
    if not moved:
        event.refresh_from_db()
        if event.status in FINISHED:
            raise BodyGone("the body is past its retention: ask the provider to send it again")
        raise IllegalMove(f"an event that is {event.status} cannot be replayed")
    EventNote.objects.create(
        event=event, at=now, actor=actor[:150], action="replay", reason=reason.strip()[:500]
    )
    hints.announce_on_commit(process_hint(event.pk))
    event.refresh_from_db()
    return event
