"""Which events are meant, in a person's words."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Q

from webhooks.envelopes import is_name
from webhooks.errors import WrongFilter
from webhooks.models import EventQuerySet, WebhookEvent
from webhooks.states import FINISHED

MAX_IDS = 1000


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Finished events; all that is said must hold. `event_ids`: the provider's ids, or ours."""

    source: str = ""
    event_type: str = ""
    status: str = ""
    since: datetime | None = None
    until: datetime | None = None
    event_ids: tuple[str, ...] = ()

    def demand_sane(self) -> None:
        """Raises WrongFilter."""
        if self == EventFilter():
            raise WrongFilter("say which events: nobody wants all of them")
        if self.source and self.source not in settings.WEBHOOK_SOURCES:
            raise WrongFilter(f"there is no source {self.source[:50]!r}")
        if self.event_type and not is_name(self.event_type):
            raise WrongFilter("that is no type of an event")
        if self.status and self.status not in FINISHED:
            finished = ", ".join(sorted(FINISHED))
            raise WrongFilter(f"{self.status[:20]!r} is none of {finished}: others are not at rest")
        if self.since and self.until and self.since >= self.until:
            raise WrongFilter("it ends before it begins")
        if len(self.event_ids) > MAX_IDS:
            raise WrongFilter(f"more than {MAX_IDS} events by name: use what they have in common")
        if not all(is_name(event_id) for event_id in self.event_ids):
            raise WrongFilter("that is no id of an event")

    def events(self) -> EventQuerySet:
        """What it finds, at rest or not."""
        said = {"source": self.source, "event_type": self.event_type, "status": self.status}
        rows = WebhookEvent.objects.filter(**{name: value for name, value in said.items() if value})
        if self.since is not None:
            rows = rows.filter(received_at__gte=self.since)
        if self.until is not None:
            rows = rows.filter(received_at__lt=self.until)
        if self.event_ids:
            ours = [pk for pk in map(_as_uuid, self.event_ids) if pk is not None]
            rows = rows.filter(Q(event_id__in=self.event_ids) | Q(pk__in=ours))
        return rows


def _as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
