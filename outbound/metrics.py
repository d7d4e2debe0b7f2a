"""Counters for Prometheus. Labels name adapters, operations and circuits, never content."""

from prometheus_client import Counter

circuit_failed_open = Counter(
    "holdfast_circuit_failed_open",
    "Calls let through unguarded because the circuit's storage could not answer.",
    ["circuit"],
)
