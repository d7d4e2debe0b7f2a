"""https://docs.stripe.com/api/refunds/object"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.stripe.errors import Json
from sandbox.stripe.keys import Scope


@dataclass(slots=True, eq=False)
class Refund:
    """Money given back. The amount is in minor units."""

    id: str
    scope: Scope
    created: int
    amount: int
    currency: str
    charge: str
    payment_intent: str
    reason: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def document(self) -> Json:
        """The object as Stripe shows it."""
        return {
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": f"txn_{self.id[3:]}",
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "destination_details": {
                "card": {
                    "reference_status": "pending",
                    "reference_type": "acquirer_reference_number",
                    "type": "refund",
                },
                "type": "card",
            },
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "reason": self.reason,
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        }
