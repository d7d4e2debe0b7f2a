"""What a provider has failed to deliver: its own list of events, read from where it is known to be
complete, and stored through the same door.

The list is read by outbound calls, so the breaker and the limits of the provider hold here, too. It
begins with the newest event, so a pass remembers where it is; the next one goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction

from outbound import clock
from outbound.errors import CallRefused, DeliveryError
from outbound.leases import periodic_lease
from outbound.services import perform_read
from webhooks.errors import CannotCatchUp, MalformedBody, UnknownSource
from webhooks.models import CatchUp
from webhooks.services import receive_listed
from webhooks.sources import enabled_source

logger = structlog.get_logger(__name__)

OVERLAP = timedelta(minutes=10)  # an event may be listed a little after it has happened
FIRST_LOOK = timedelta(days=3)  # the first time; Stripe repeats its deliveries for as long
LEASE_SECONDS = 600.0
PAGE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Caught:
    """What one pass has found: since when, how many events are listed, how many were missing."""

    since: datetime
    listed: int
    missing: int


def listing_sources() -> list[str]:
    """The enabled sources whose providers can be asked."""
    found = []
    for name in settings.WEBHOOK_SOURCES:
        try:
            source = enabled_source(name)
        except UnknownSource:
            continue
        if source.lists_by and source.lists_by[0] in settings.OUTBOUND_ADAPTERS:
            found.append(name)
    return found


def catch_up(*, source: str, since: datetime | None = None) -> Caught | None:
    """Read the list since then, or since it was last complete, to its end. None when another
    process is at it. Raises CannotCatchUp, UnknownSource."""
    if enabled_source(source).lists_by is None:
        raise CannotCatchUp(f"the provider of {source!r} has no list of events")
    with periodic_lease(f"webhooks.catch_up:{source}", seconds=LEASE_SECONDS) as ours:
        if not ours:
            return None
        row = _begin(source, since)
        while row.began_at is not None:
            _read_page(row)
    caught = Caught(row.since or row.seen_until, row.listed, row.missing)
    logger.info("caught_up", source=source, listed=caught.listed, missing=caught.missing)
    return caught


def _begin(source: str, since: datetime | None) -> CatchUp:
    """A new pass, or the one that broke off, unless another time is asked for."""
    now = clock.now()
    row = CatchUp.objects.filter(pk=source).first() or CatchUp(
        source=source, seen_until=now - FIRST_LOOK
    )
    if row.began_at is None or since is not None:
        row.since = since or row.seen_until - OVERLAP
        row.began_at, row.after, row.listed, row.missing = now, "", 0, 0
    row.updated_at = now
    row.save()
    return row


def _read_page(row: CatchUp) -> None:
    """The events of a page and where to go on are stored together."""
    sender = enabled_source(row.source)
    if sender.lists_by is None or row.since is None or row.began_at is None:
        raise RuntimeError(f"no pass over {row.source!r} is under way")
    adapter, operation = sender.lists_by
    try:
        page = perform_read(
            adapter=adapter,
            operation=operation,
            payload=sender.list_request(since=row.since, after=row.after),
            wait=PAGE_SECONDS,
            reference="catch-up",
        ).result
        envelopes, after = sender.read_list(page)
    except (DeliveryError, CallRefused, MalformedBody) as error:
        raise CannotCatchUp(str(error)) from error
    with transaction.atomic():
        received = receive_listed(source=row.source, envelopes=envelopes)
        row.listed += len(envelopes)
        row.missing += received.new
        row.after, row.updated_at = after, clock.now()
        if not after:
            row.seen_until, row.began_at = max(row.seen_until, row.began_at), None
        row.save()
