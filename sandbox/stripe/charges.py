"""https://docs.stripe.com/api/charges/object"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.stripe.cards import Card, Decline
from sandbox.stripe.errors import Json
from sandbox.stripe.keys import Scope


@dataclass(slots=True, eq=False)
class Charge:
    """One attempt to take money. Amounts are in minor units."""

    id: str
    scope: Scope
    created: int
    amount: int
    currency: str
    payment_intent: str
    payment_method: str
    card: Card
    customer: str | None
    metadata: dict[str, str]
    description: str | None
    receipt_email: str | None
    decline: Decline | None = None
    captured: bool = False
    amount_captured: int = 0
    amount_refunded: int = 0
    released: bool = False  # authorised, then given up
    refunds: list[str] = field(default_factory=list)

    @property
    def refundable(self) -> int:
        """What can still be given back."""
        return self.amount_captured - self.amount_refunded

    @property
    def refunded(self) -> bool:
        """Whether all of it was given back."""
        return self.released or (self.captured and self.refundable == 0)

    def document(self) -> Json:
        """The object as Stripe shows it."""
        paid = self.decline is None
        return {
            "id": self.id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.amount_captured,
            "amount_refunded": self.amount if self.released else self.amount_refunded,
            "application": None,
            "application_fee": None,
            "application_fee_amount": None,
            "balance_transaction": f"txn_{self.id[3:]}" if self.captured else None,
            "billing_details": {
                "address": dict.fromkeys(
                    ("city", "country", "line1", "line2", "postal_code", "state")
                ),
                "email": None,
                "name": None,
                "phone": None,
            },
            "calculated_statement_descriptor": "SANDBOX",
            "captured": self.captured,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "description": self.description,
            "destination": None,
            "dispute": None,
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": self.decline.code if self.decline else None,
            "failure_message": str(self.decline.refusal()) if self.decline else None,
            "fraud_details": {},
            "invoice": None,
            "livemode": self.scope.live,
            "metadata": self.metadata,
            "on_behalf_of": None,
            "order": None,
            "outcome": self._outcome(),
            "paid": paid,
            "payment_intent": self.payment_intent,
            "payment_method": self.payment_method,
            "payment_method_details": {
                "card": {
                    "brand": self.card.brand,
                    "country": "US",
                    "exp_month": 12,
                    "exp_year": 2034,
                    "funding": "credit",
                    "last4": self.card.last4,
                },
                "type": "card",
            },
            "receipt_email": self.receipt_email,
            "receipt_number": None,
            "receipt_url": None,
            "refunded": self.refunded,
            "review": None,
            "shipping": None,
            "source": None,
            "source_transfer": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": "succeeded" if paid else "failed",
            "transfer_data": None,
            "transfer_group": None,
        }

    def _outcome(self) -> Json:
        if self.decline is None:
            return {
                "network_status": "approved_by_network",
                "reason": None,
                "risk_level": "normal",
                "seller_message": "Payment complete.",
                "type": "authorized",
            }
        return {
            "network_status": "declined_by_network",
            "reason": self.decline.decline_code or self.decline.code,
            "risk_level": "normal",
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }
