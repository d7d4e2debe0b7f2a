"""How the engine is: figures out of its rows for Prometheus, and what should worry somebody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Count, Min
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from outbound import clock, parking
from outbound.findings import Finding, age, unreadable
from outbound.models import Circuit, OutboundCall, PeriodicLease
from outbound.prepared import is_pooled
from outbound.states import SETTLED, WAITING, CallStatus, CircuitMode, CircuitState

UNFINISHED = WAITING | {CallStatus.RUNNING, CallStatus.UNKNOWN}
LATE = timedelta(minutes=5)  # a due call that nobody took
STUCK = timedelta(hours=1)  # an unknown outcome that look-ups have not settled
RECENT = timedelta(days=7)  # what failed before then has been seen, or nobody minds
SWEEP_LEASE = "outbound.sweep"


def gauges() -> Iterator[Metric]:
    """Figures at this moment. Their cost grows with what is unfinished, not with history."""
    now = clock.now()
    calls = GaugeMetricFamily(
        "holdfast_calls", "Calls that are not finished.", labels=["adapter", "status"]
    )
    unfinished = OutboundCall.objects.filter(status__in=UNFINISHED).order_by()
    for adapter, status, count in unfinished.values_list("adapter", "status").annotate(Count("pk")):
        calls.add_metric([adapter, status], count)
    yield calls
    oldest = GaugeMetricFamily(
        "holdfast_calls_oldest_due_seconds",
        "For how long the oldest call has been due that nobody has taken.",
        labels=["adapter"],
    )
    due = OutboundCall.objects.ready(now).order_by().values_list("adapter")
    for adapter, since in due.annotate(Min("due_at")):
        oldest.add_metric([adapter], (now - since).total_seconds())
    yield oldest
    owing = OutboundCall.objects.owing_hooks(now).count()
    yield GaugeMetricFamily("holdfast_call_hooks_owed", "Calls with a hook to be run again.", owing)
    circuits = GaugeMetricFamily(
        "holdfast_circuit_open", "1 while no ordinary call may go through.", labels=["circuit"]
    )
    blocking = set(Circuit.objects.blocking().values_list("pk", flat=True))
    for name in Circuit.objects.order_by("pk").values_list("pk", flat=True):
        circuits.add_metric([name], int(name in blocking))
    yield circuits


def findings() -> Iterator[Finding]:
    """What should worry somebody, now."""
    yield from _pooler()
    yield from _sweep()
    yield from _late()
    yield from _circuits()
    yield from _for_a_person()
    yield from _hooks()
    yield from _dead_letters()
    yield from unreadable(OutboundCall.objects.all(), "payload", about="calls", by="created_at")


def _pooler() -> Iterator[Finding]:
    """Ours notices one by itself; Django's own server-side cursors do not."""
    told = connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    if connection.vendor == "postgresql" and not told and is_pooled(connection):
        says = "a pooler stands in front of it, and Django has not been told"
        yield Finding("database", says, "DATABASE_URL=...?DISABLE_SERVER_SIDE_CURSORS=True")


def _sweep() -> Iterator[Finding]:
    """Beat announces it and a worker runs it: when it has run, both live."""
    now = clock.now()
    bound = timedelta(seconds=max(60, 12 * settings.OUTBOUND_SWEEP_SECONDS))
    last = PeriodicLease.objects.filter(name=SWEEP_LEASE).first()
    advice = "is there a worker that takes the maintenance queue, and a beat?"
    if last is None:
        yield Finding("sweep", "it has never run", advice)
    elif last.expires_at < now - bound:
        yield Finding("sweep", f"it has not run for {age(now - last.expires_at)}", advice)


def _late() -> Iterator[Finding]:
    now = clock.now()
    late = parking.unheld(OutboundCall.objects.ready(now), parking.held_circuits())
    late = late.filter(due_at__lte=now - LATE).order_by()
    counted = late.values_list("adapter").annotate(Count("pk"), Min("due_at")).order_by("adapter")
    for adapter, count, since in counted:
        yield Finding(
            f"calls of {adapter}",
            f"{count} have been due for up to {age(now - since)}",
            f"do workers take the queue {parking.queue_of(adapter)}?",
        )


def _circuits() -> Iterator[Finding]:
    for circuit in Circuit.objects.exclude(state=CircuitState.CLOSED, mode=CircuitMode.AUTO):
        forced = circuit.mode != CircuitMode.AUTO
        if forced:
            who = circuit.mode_actor or "somebody"
            says = f"it is {circuit.get_mode_display().lower()} by {who}: {circuit.mode_reason}"
            yield Finding(f"circuit {circuit.pk}", says, f"manage.py circuits auto {circuit.pk}")
        else:
            state = circuit.get_state_display().lower()
            yield Finding(f"circuit {circuit.pk}", f"it is {state}", "its provider fails")


def _for_a_person() -> Iterator[Finding]:
    """What a provider refused for good (a declined card) is an answer, and no finding."""
    now = clock.now()
    unknown = OutboundCall.objects.unknown().filter(created_at__lte=now - STUCK)
    failed = OutboundCall.objects.filter(
        status=CallStatus.FAILED, created_at__gte=now - RECENT
    ).exclude(error_kind="permanent_error")
    for rows, says, advice in (
        (unknown, "have an unknown outcome", "look at the provider, and say what happened"),
        (failed, "were given up within 7 days", "retry or leave them: manage.py retry_calls"),
    ):
        counted = rows.order_by("adapter").values_list("adapter").annotate(Count("pk"))
        for adapter, count in counted:
            yield Finding(f"calls of {adapter}", f"{count} {says}", advice)


def _hooks() -> Iterator[Finding]:
    failing = OutboundCall.objects.filter(
        status__in=SETTLED, hook_due_at__isnull=False, hook_attempts__gt=0
    )
    counted = failing.order_by().values_list("adapter", "operation").annotate(Count("pk"))
    for adapter, operation, count in counted.order_by("adapter", "operation"):
        yield Finding(
            f"hooks of {adapter}.{operation}",
            f"they keep failing for {count} settled calls",
            "the error is on the call's page",
        )


def _dead_letters() -> Iterator[Finding]:
    dead = OutboundCall.objects.filter(status__in=UNFINISHED).exclude(dead_letter_reason="")
    if count := dead.count():
        says = f"messages about {count} unfinished ones were given up"
        yield Finding("calls", says, "the reason is on the call's page; the sweep goes on")
