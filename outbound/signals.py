"""Signals for code that only wants to know. For effects that must happen, use a hook
(`outbound.settlement`): signals are sent after the commit and not repeated."""

from django.dispatch import Signal

call_settled = Signal()
"""Sent with `call` after a call got an outcome (SUCCEEDED, FAILED, CANCELLED, UNKNOWN)."""

circuit_changed = Signal()
"""Sent with `transition` (a CircuitTransition) after a circuit has changed: by whoever made the
change, once in the fleet."""
