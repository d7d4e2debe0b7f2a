"""What the shop does when a call of its own has an outcome: found by its file's name."""

from __future__ import annotations

from examples.shop.models import Order, OrderStatus
from outbound.services import OutboundCall
from outbound.settlement import on_settled
from outbound.states import CallStatus


@on_settled("stripe", "create_payment_intent")
def mark_declined(call: OutboundCall) -> None:
    if call.status == CallStatus.FAILED:
        placed = Order.objects.filter(payment__call=call, status=OrderStatus.PLACED)
        placed.update(status=OrderStatus.DECLINED)
