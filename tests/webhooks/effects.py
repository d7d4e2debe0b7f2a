"""What handlers do in these tests: each run leaves one row, that goes if they are rolled back."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import Group

from webhooks.handlers import Event


def leave_effect(event: Event) -> None:
    """A handler."""
    Group.objects.create(name=f"{event.event_id[:100]} {uuid.uuid4()}")


def effects(event_id: str = "") -> int:
    """How many effects stand, of one event or of all."""
    return Group.objects.filter(name__startswith=event_id).count()
