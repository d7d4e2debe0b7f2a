"""Faults by name."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.faults.broken import (
    read_body,
    read_drop_after_effect,
    read_drop_before_effect,
    read_with_headers,
)
from sandbox.faults.fault import Fault
from sandbox.faults.refusing import read_conflict, read_decline, read_rate_limit, read_status
from sandbox.faults.slow import read_drip, read_hang, read_latency
from sandbox.fields import Fields

KINDS: dict[str, Callable[[Fields], Fault]] = {
    "latency": read_latency,
    "drip": read_drip,
    "hang": read_hang,
    "drop_before_effect": read_drop_before_effect,
    "drop_after_effect": read_drop_after_effect,
    "status": read_status,
    "rate_limit": read_rate_limit,
    "conflict": read_conflict,
    "decline": read_decline,
    "body": read_body,
    "headers": read_with_headers,
}


def read_fault(document: object) -> Fault:
    """`{"kind": ..., options}`, or the kind alone. Raises BadInput."""
    fields = Fields({"kind": document} if isinstance(document, str) else document, where="fault")
    fields.require("kind")
    fault = KINDS[fields.text("kind", "", choices=KINDS)](fields)
    fields.end()
    return fault
