"""How messages are: figures out of their rows for Prometheus, and what should worry somebody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Count, Min
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from notifications.models import UNFINISHED, Message
from notifications.states import MessageStatus
from outbound import clock
from outbound.findings import Finding, age, unreadable

LATE = timedelta(minutes=5)  # past a scheduled message's time
RECENT = timedelta(days=7)


def gauges() -> Iterator[Metric]:
    """Figures at this moment. Their cost grows with what is unfinished, not with history."""
    messages = GaugeMetricFamily(
        "holdfast_messages", "Messages that are not finished.", labels=["kind", "status"]
    )
    unfinished = Message.objects.filter(status__in=(*UNFINISHED, MessageStatus.UNKNOWN))
    counted = unfinished.order_by().values_list("kind", "status").annotate(Count("pk"))
    for kind, status, count in counted:
        messages.add_metric([kind, status], count)
    yield messages


def findings() -> Iterator[Finding]:
    """What should worry somebody, now."""
    now = clock.now()
    late = Message.objects.due(now - LATE).aggregate(n=Count("pk"), since=Min("scheduled_at"))
    if late["n"]:
        yield Finding(
            "messages",
            f"{late['n']} were to be sent up to {age(now - late['since'])} ago",
            "do workers take the queue maintenance-v1?",
        )
    failed = Message.objects.filter(status=MessageStatus.FAILED, created_at__gte=now - RECENT)
    counted = failed.order_by("kind").values_list("kind").annotate(Count("pk"))
    for kind, count in counted:
        yield Finding(
            f"messages by {kind}",
            f"{count} have failed within 7 days",
            "Admin, Messages, shows why",
        )
    yield from unreadable(Message.objects.all(), "content", about="messages", by="created_at")
