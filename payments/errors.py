"""What payments refuses at the caller, besides what the outbound engine refuses."""

from __future__ import annotations

from outbound.errors import FieldError, InvalidPayload


class RefundTooLarge(InvalidPayload):
    """More than what was captured, or than its amount while the capture is not yet known, would
    be given back. `left`, in minor units, is what may still be."""

    def __init__(self, *, left: int) -> None:
        super().__init__([FieldError("/amount", f"at most {left} can still be refunded")])
        self.left = left
