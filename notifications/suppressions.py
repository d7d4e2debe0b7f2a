"""Who gets nothing any more."""

from __future__ import annotations

from collections.abc import Sequence

from notifications.addresses import address_key_of
from notifications.models import Recipient, Suppression
from notifications.states import Channel, SuppressionReason
from outbound import clock
from outbound.inserts import insert_new
from outbound.redaction import storable

BATCH = 1000


def suppressed_among(channel: Channel, addresses: Sequence[str]) -> dict[str, str]:
    """The reasons, by `address_key_of` the address, of those that are suppressed."""
    found: dict[str, str] = {}
    for start in range(0, len(addresses), BATCH):
        rows = Suppression.objects.of(channel, addresses[start : start + BATCH])
        found |= dict(rows.values_list("address_key", "reason"))
    return found


def add_suppression(
    channel: Channel,
    address: str,
    reason: SuppressionReason,
    *,
    note: str = "",
    provider: str = "",
    recipient: Recipient | None = None,
    created_by: str = "",
) -> bool:
    """From now on an address gets nothing. The first reason stays. Returns whether it is new."""
    row = Suppression(
        channel=channel,
        address=address,
        address_key=address_key_of(address),
        reason=reason,
        note=storable(note, limit=500),
        provider=provider[:50],
        recipient=recipient,
        created_by=storable(created_by, limit=150),
        created_at=clock.now(),
    )
    return bool(insert_new([row]))
