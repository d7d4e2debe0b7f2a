"""What the provider's events mean to the shop: found by this file's name."""

from __future__ import annotations

from examples.shop.models import Order, OrderStatus
from payments.services import find_payment
from webhooks.errors import NotOurs, NotYet
from webhooks.handlers import Event, handles


@handles("stripe", "payment_intent.succeeded")
def mark_paid(event: Event) -> None:
    """Only upward: an order that is paid stays so, in whatever order the events come."""
    payment = find_payment(event.payload["data"]["object"]["id"])
    if payment is None:
        raise NotYet("there is no such payment yet")
    if not Order.objects.filter(payment=payment).update(status=OrderStatus.PAID):
        raise NotOurs("it is no order's payment")
