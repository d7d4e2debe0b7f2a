"""How receiving is: figures out of its rows for Prometheus, and what should worry somebody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Count, Min
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from outbound import clock
from outbound.findings import Finding, age, unreadable
from webhooks.catching_up import listing_sources
from webhooks.errors import UnknownSource
from webhooks.models import CatchUp, RejectWatch, Replay, WebhookEvent
from webhooks.sources import Source, enabled_source
from webhooks.states import WAITING, EventStatus

UNFINISHED = WAITING | {EventStatus.PROCESSING}
LATE = timedelta(minutes=5)  # a due event that nobody took, or a replay that nobody goes on with
RECENT = timedelta(days=7)
BEHIND = timedelta(days=1)  # since a provider's list was last read to its end
CATCH_UP = "webhooks-catch-up"  # its entry in beat's schedule


def gauges() -> Iterator[Metric]:
    """Figures at this moment. Their cost grows with what is unfinished, not with history."""
    now = clock.now()
    events = GaugeMetricFamily(
        "holdfast_events", "Webhook events that are not finished.", labels=["source", "status"]
    )
    unfinished = WebhookEvent.objects.filter(status__in=UNFINISHED).order_by()
    for source, status, count in unfinished.values_list("source", "status").annotate(Count("pk")):
        events.add_metric([source, status], count)
    yield events
    oldest = GaugeMetricFamily(
        "holdfast_events_oldest_due_seconds",
        "For how long the oldest event has been due that nobody has taken.",
        labels=["source"],
    )
    due = WebhookEvent.objects.ready(now).order_by().values_list("source")
    for source, since in due.annotate(Min("due_at")):
        oldest.add_metric([source], (now - since).total_seconds())
    yield oldest
    bursts = GaugeMetricFamily(
        "holdfast_webhook_rejects_incident",
        "1 while too many deliveries of a source are refused.",
        labels=["source"],
    )
    for source, incident in RejectWatch.objects.values_list("source", "incident"):
        bursts.add_metric([source], int(incident is not None))
    yield bursts
    under_way = Replay.objects.under_way().count()
    yield GaugeMetricFamily("holdfast_replays", "Replays that are under way.", under_way)


def findings() -> Iterator[Finding]:
    """What should worry somebody, now."""
    yield from _late()
    yield from _failed()
    yield from _rejects()
    yield from _replays()
    yield from _catching_up()
    yield from _dead_letters()
    yield from unreadable(
        WebhookEvent.objects.filter(body__isnull=False), "body", about="events", by="received_at"
    )
    for name in settings.WEBHOOK_SOURCES:
        try:
            source = enabled_source(name)
        except (UnknownSource, ImproperlyConfigured):  # the system checks name it
            continue
        yield from _secrets(source)
        yield from _silence(source)


def _late() -> Iterator[Finding]:
    now = clock.now()
    late = WebhookEvent.objects.ready(now).filter(due_at__lte=now - LATE)
    counted = late.order_by("source").values_list("source").annotate(Count("pk"), Min("due_at"))
    for source, count, since in counted:
        yield Finding(
            f"events of {source}",
            f"{count} have been due for up to {age(now - since)}",
            "do workers take the queue webhooks-v1?",
        )


def _failed() -> Iterator[Finding]:
    failed = WebhookEvent.objects.failed().filter(received_at__gte=clock.now() - RECENT)
    counted = failed.order_by("source").values_list("source").annotate(Count("pk"))
    for source, count in counted:
        yield Finding(
            f"events of {source}",
            f"{count} have failed within 7 days",
            "mend their handlers, then manage.py replay_events",
        )


def _rejects() -> Iterator[Finding]:
    now = clock.now()
    for watch in RejectWatch.objects.filter(incident__isnull=False).order_by("source"):
        since = age(now - (watch.began_at or now))
        yield Finding(
            f"source {watch}",
            f"too many of its deliveries have been refused for {since}",
            "Admin, Refused deliveries, shows why",
        )


def _replays() -> Iterator[Finding]:
    now = clock.now()
    for row in Replay.objects.ready(now).filter(due_at__lte=now - LATE).order_by("pk"):
        yield Finding(
            f"replay {row.pk}",
            f"nobody has gone on with it for {age(now - row.due_at)}",
            f"does a worker take the queue {settings.MAINTENANCE_QUEUE}?",
        )


def _catching_up() -> Iterator[Finding]:
    if CATCH_UP not in settings.CELERY_BEAT_SCHEDULE:
        return
    now = clock.now()
    behind = CatchUp.objects.filter(source__in=listing_sources(), seen_until__lte=now - BEHIND)
    for row in behind.order_by("source"):
        yield Finding(
            f"source {row.source}",
            f"its provider's list was last read to its end {age(now - row.seen_until)} ago",
            f"manage.py catch_up {row.source} says why",
        )


def _dead_letters() -> Iterator[Finding]:
    dead = WebhookEvent.objects.filter(status__in=UNFINISHED).exclude(dead_letter_reason="")
    if count := dead.count():
        says = f"messages about {count} unfinished ones were given up"
        yield Finding("events", says, "the reason is on the event's page; the sweep goes on")


def _secrets(source: Source) -> Iterator[Finding]:
    """A rotation that was begun: the first secret is the new one."""
    if len(source.secrets) < 2:
        return
    recent = WebhookEvent.objects.filter(
        source=source.name, received_at__gte=clock.now() - RECENT
    ).order_by()
    labels = recent.values_list("matched_secret", flat=True).distinct()
    used = {_fingerprint(label) for label in labels}
    variable = source.secret_variable or "SECRETS"
    places = [
        place
        for place, secret in enumerate(source.secrets, start=1)
        if _fingerprint(source.label_of(secret)) in used
    ]
    if places and 1 not in places:
        yield Finding(
            f"source {source.name}",
            "only the old secret is still used",
            f"give the first of {variable} to the provider",
        )
    if places == [1]:
        yield Finding(
            f"source {source.name}",
            "the old secret is no longer used",
            f"remove all but the first of {variable}",
        )


def _fingerprint(label: str) -> str:
    """Without the place, which is another one after a new secret was put in front."""
    return label.partition("-")[2]


def _silence(source: Source) -> Iterator[Finding]:
    """Nothing for a week, after a week in which there was something."""
    now = clock.now()
    events = WebhookEvent.objects.filter(source=source.name)
    before = events.filter(received_at__gte=now - 2 * RECENT, received_at__lt=now - RECENT)
    if before.exists() and not events.filter(received_at__gte=now - RECENT).exists():
        yield Finding(
            f"source {source.name}",
            "no event has come for 7 days, and some did in the 7 days before",
            "is its address still set at the provider?",
        )
