"""The shop's own rules. Each is one transaction: the shop's rows and the call that they ask for are
stored together, or neither is."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from examples.shop.models import Order
from payments.services import Refund, create_payment, refund_payment

CURRENCY = "usd"


@transaction.atomic
def place_order(*, cart: UUID, email: str, amount: int) -> Order:
    """The order of this cart, with its payment. The payment's first attempt is the caller's, with
    `outbound.services.deliver_now`, once this has committed."""
    order, new = Order.objects.get_or_create(cart=cart, defaults={"email": email, "amount": amount})
    if new:
        order.payment = create_payment(
            amount=amount,
            currency=CURRENCY,
            payment_method="pm_card_visa",
            confirm=True,
            reference=str(order),
            inline=True,
        )
        order.save(update_fields=["payment"])
    return order


@transaction.atomic
def refund_order(*, order: Order, amount: int | None = None) -> Refund:
    """Give money back, all that is left for None; a worker tells the provider. Raises
    RefundTooLarge, and InvalidPayload for a payment that the provider does not know yet."""
    if order.payment is None:
        raise ValueError(f"{order} has no payment")
    return refund_payment(payment=order.payment, amount=amount, reference=str(order))
