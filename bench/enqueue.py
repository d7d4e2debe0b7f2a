"""What it costs to store a call, in a transaction of its own, against one INSERT in one."""

from __future__ import annotations

from django.db import transaction

from bench.api import prepare
from bench.bare.models import Row
from bench.measuring import Effort, interleaved, median, ratio
from bench.reports import Report, goal
from outbound.models import OutboundCall
from outbound.services import enqueue_call

GOAL = 0.7  # times the rows of the bare INSERT
PAYLOAD = {"email": "a@example.com"}
BARE, OURS = "INSERT", "enqueue_call"
HEADER = ("", "rows/s", "ratio", "half of rounds", f">= {GOAL}")


def measure(effort: Effort) -> Report:
    """Both in turns, by one thread."""
    prepare()
    acts = {BARE: _insert, OURS: _enqueue}
    interleaved(acts, rounds=1, calls=effort.calls)  # not counted: it prepares statements
    found = interleaved(acts, rounds=effort.rounds, calls=effort.calls)
    slower = ratio(found[OURS], found[BARE])
    asked = (effort.rounds + 1) * effort.calls
    stored = {Row: Row.objects.count(), OutboundCall: OutboundCall.objects.count()}
    return Report(
        f"{effort.rounds} rounds of {effort.calls} transactions with one row each",
        HEADER,
        [
            (BARE, f"{1 / median(found[BARE]):.0f}", "1.00", "", ""),
            (
                OURS,
                f"{1 / median(found[OURS]):.0f}",
                f"{1 / slower.value:.2f}",
                f"{1 / slower.high:.2f} to {1 / slower.low:.2f}",
                goal(1 / slower.value >= GOAL),
            ),
        ],
        failures=[
            f"{count} rows of {model.__name__} for {asked} transactions"
            for model, count in stored.items()
            if count != asked
        ],
    )


def _insert() -> None:
    with transaction.atomic():
        Row.objects.create(payload=PAYLOAD)


def _enqueue() -> None:
    with transaction.atomic():
        enqueue_call(adapter="stripe", operation="create_customer", payload=PAYLOAD)
