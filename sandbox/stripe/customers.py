"""https://docs.stripe.com/api/customers/object"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.stripe.errors import Json
from sandbox.stripe.keys import Scope


@dataclass(slots=True, eq=False)
class Customer:
    """Somebody who pays. Deleted ones are still known by their id."""

    id: str
    scope: Scope
    created: int
    invoice_prefix: str
    email: str | None = None
    name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    extra: Json = field(default_factory=dict)  # what is only kept and shown
    deleted: bool = False

    def document(self) -> Json:
        """The object as Stripe shows it."""
        if self.deleted:
            return {"id": self.id, "object": "customer", "deleted": True}
        return {
            "id": self.id,
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": self.created,
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": None,
            "discount": None,
            "email": self.email,
            "invoice_prefix": self.invoice_prefix,
            "invoice_settings": {
                "custom_fields": None,
                "default_payment_method": None,
                "footer": None,
                "rendering_options": None,
            },
            "livemode": self.scope.live,
            "metadata": self.metadata,
            "name": self.name,
            "next_invoice_sequence": 1,
            "phone": None,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": None,
            **self.extra,
        }
