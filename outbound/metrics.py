"""Counters for Prometheus. Labels name adapters, operations and circuits, never content."""

from prometheus_client import Counter, Histogram

attempts = Counter(
    "holdfast_call_attempts",
    "Attempts that have ended, by their outcome.",
    ["adapter", "operation", "outcome"],
)

attempt_seconds = Histogram(
    "holdfast_call_attempt_seconds",
    "How long the provider took.",
    ["adapter", "operation"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
)

retries = Counter(
    "holdfast_call_retries",
    "Attempts that were not the first of their call.",
    ["adapter", "operation"],
)

parks = Counter(
    "holdfast_call_parks",
    "Calls that were postponed without an attempt, by what kept them.",
    ["adapter", "why"],
)

hook_failures = Counter(
    "holdfast_call_hook_failures",
    "Settlement hooks that failed, and are run again.",
    ["adapter", "operation"],
)

circuit_transitions = Counter(
    "holdfast_circuit_transitions",
    "Changes of a circuit's state, counted by the process that tells of them.",
    ["circuit", "state"],
)

circuit_failed_open = Counter(
    "holdfast_circuit_failed_open",
    "Calls let through unguarded because the circuit's storage could not answer.",
    ["circuit"],
)
