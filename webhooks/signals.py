"""A signal for code that only wants to know. For effects that must happen, write a handler:
signals are sent after the commit and not repeated."""

from django.dispatch import Signal

event_processed = Signal()
"""Sent with `event` (the row) after the handlers' effects were committed."""

rejects_burst = Signal()
"""Sent with `watch` (a RejectWatch), `incident` and `began`: when too many deliveries of a source
are refused, and when that is over (`began` is False). Once in the fleet for each incident."""
