"""https://docs.stripe.com/api/payment_intents/object"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.stripe.cards import Card
from sandbox.stripe.errors import Json
from sandbox.stripe.keys import Scope


@dataclass(slots=True, eq=False)
class PaymentIntent:
    """A payment that is wanted, and how far it has come. Amounts are in minor units."""

    id: str
    scope: Scope
    created: int
    amount: int
    currency: str
    client_secret: str
    capture_method: str = "automatic"
    metadata: dict[str, str] = field(default_factory=dict)
    customer: str | None = None
    automatic: Json | None = None  # automatic_payment_methods
    extra: Json = field(default_factory=dict)  # what is only kept and shown
    status: str = "requires_payment_method"
    payment_method: str | None = None
    token: str = ""  # the test payment method that was given
    card: Card | None = None
    latest_charge: str | None = None
    last_error: Json | None = None
    amount_capturable: int = 0
    amount_received: int = 0
    canceled_at: int | None = None
    cancellation_reason: str | None = None

    def document(self) -> Json:
        """The object as Stripe shows it."""
        return {
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.amount_capturable,
            "amount_details": {"tip": {}},
            "amount_received": self.amount_received,
            "application": None,
            "application_fee_amount": None,
            "automatic_payment_methods": self.automatic,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method,
            "client_secret": self.client_secret,
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "description": None,
            "invoice": None,
            "last_payment_error": self.last_error,
            "latest_charge": self.latest_charge,
            "livemode": self.scope.live,
            "metadata": self.metadata,
            "next_action": self._next_action(),
            "on_behalf_of": None,
            "payment_method": self.payment_method,
            "payment_method_configuration_details": None,
            "payment_method_options": {
                "card": {
                    "installments": None,
                    "mandate_options": None,
                    "network": None,
                    "request_three_d_secure": "automatic",
                }
            },
            "payment_method_types": ["card"],
            "processing": None,
            "receipt_email": None,
            "review": None,
            "setup_future_usage": None,
            "shipping": None,
            "source": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": self.status,
            "transfer_data": None,
            "transfer_group": None,
            **self.extra,
        }

    def _next_action(self) -> Json | None:
        if self.status != "requires_action":
            return None
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
