"""Counters for Prometheus. Labels name sources, kinds and places, never content."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter

rejects = Counter(
    "holdfast_webhook_rejects",
    "Deliveries that were refused.",
    ["source", "kind"],
)

tries = Counter(
    "holdfast_event_tries",
    "Tries of events by their handlers, by where the event went.",
    ["source", "status"],
)

_verified = Counter(
    "holdfast_webhook_verified",
    "Deliveries that were proven, by the place of the secret that did it.",
    ["source", "secret"],
)


def count_verified(source: str, label: str) -> None:
    """One delivery was proven by the secret of this label, of which only the place is told."""
    _child(source, label).inc()


@lru_cache(1000)
def _child(source: str, label: str) -> Counter:
    return _verified.labels(source, label.partition("-")[0])
