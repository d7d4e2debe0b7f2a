"""A signal for code that only wants to know. For effects that must happen, write a handler:
signals are sent after the commit and not repeated."""

from django.dispatch import Signal

event_processed = Signal()
"""Sent with `event` (the row) after the handlers' effects were committed."""
