"""What callers are told when a message cannot be made. What stands in a field is an
`outbound.errors.InvalidPayload`, with a pointer to the field."""

from __future__ import annotations

from outbound.errors import CallRefused


class NobodyToWriteTo(CallRefused):
    """Every recipient is suppressed: nothing would be sent."""


class UnknownMessage(CallRefused):
    """There is no message of that id."""


class IllegalMove(CallRefused):
    """The message is not in a status from which this can be done."""


class NoProvider(CallRefused):
    """The settings do not say who sends messages of this kind."""
