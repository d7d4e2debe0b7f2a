"""What becomes of our rows when a call has an outcome, or is tried again.

Hooks may run more than once, and after an event has said more: every one of them only moves a row
up in rank. The engine has locked the call already, and we lock the payment after it, everywhere in
this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Sum

from outbound import clock
from outbound.errors import RetryRefused
from outbound.services import OutboundCall
from outbound.settlement import on_revived, on_settled
from outbound.states import CallStatus
from payments.models import Customer, CustomerQuerySet, Payment, Refund
from payments.states import CustomerStatus, PaymentStatus, RefundStatus
from payments.stripe_objects import (
    Intent,
    read_amount,
    read_id,
    read_intent,
    read_refund_status,
)

UNSENT = {CallStatus.FAILED, CallStatus.CANCELLED}


@on_settled("stripe", "create_payment_intent")
def settle_payment(call: OutboundCall) -> None:
    payment = Payment.objects.select_for_update().filter(call=call).first()
    if payment is None:
        return
    now = clock.now()
    if call.status == CallStatus.SUCCEEDED:
        record_intent(payment, read_intent(_result(call)), now=now)
    elif call.status in UNSENT:
        status = PaymentStatus(call.status)
        Payment.objects.filter(pk=payment.pk).advance_to(status, now=now)


@on_revived("stripe", "create_payment_intent")
def revive_payment(call: OutboundCall) -> None:
    payment = Payment.objects.select_for_update().filter(call=call).first()
    if payment is None or payment.status == PaymentStatus.REQUESTED:
        return
    if not Payment.objects.filter(pk=payment.pk).ask_again(now=clock.now()):
        raise RetryRefused(f"the payment is {payment.status} by now")


@on_settled("stripe", "cancel_payment_intent")
def settle_cancellation(call: OutboundCall) -> None:
    if call.status != CallStatus.SUCCEEDED:
        return
    intent = call.payload["payment_intent"]
    payment = Payment.objects.select_for_update().filter(provider_id=intent).first()
    if payment is not None:
        said = read_intent({"id": intent, **_result(call)}, status=PaymentStatus.CANCELLED)
        record_intent(payment, said, now=clock.now())


def record_intent(payment: Payment, intent: Intent, *, now: datetime) -> None:
    """Write down what the provider says of a payment. The caller holds the payment's lock."""
    row = Payment.objects.filter(pk=payment.pk)
    row.advance_to(intent.status, now=now)
    if intent.id:
        row.name_provider_id(intent.id)
    if intent.captured is not None:
        row.capture(intent.captured)


@on_settled("stripe", "create_refund")
def settle_refund(call: OutboundCall) -> None:
    if call.status == CallStatus.UNKNOWN:  # it may have happened: the amount stays reserved
        return
    refund, payment = _lock_refund(call)
    if refund is None:
        return
    if call.status == CallStatus.SUCCEEDED:
        record_refund(refund, payment, {"status": "succeeded", **_result(call)})
    else:
        end_refund(refund, payment, RefundStatus(call.status))


@on_revived("stripe", "create_refund")
def revive_refund(call: OutboundCall) -> None:
    refund, payment = _lock_refund(call)
    if refund is None or refund.status == RefundStatus.REQUESTED:
        return
    if not Refund.objects.filter(pk=refund.pk).ask_again(now=clock.now()):
        raise RetryRefused(f"the refund is {refund.status} by now")
    if payment and not Payment.objects.filter(pk=payment.pk).reserve(refund.amount or 0):
        raise RetryRefused(f"only {payment.refundable} can still be refunded")


def _lock_refund(call: OutboundCall) -> tuple[Refund | None, Payment | None]:
    """The payment is locked first, as where a refund is asked for."""
    refunds = Refund.objects.filter(call=call)
    payments = Payment.objects.filter(pk__in=refunds.values("payment"))
    payment = payments.select_for_update().first()
    return refunds.first(), payment


def record_refund(refund: Refund, payment: Payment | None, said: Mapping[str, Any]) -> None:
    """Write down what the provider says of a refund. The caller holds the payment's lock."""
    status = read_refund_status(said)
    if status in (RefundStatus.FAILED, RefundStatus.CANCELLED):
        end_refund(refund, payment, status)
        return
    row = Refund.objects.filter(pk=refund.pk)
    row.advance_to(status, now=clock.now())
    row.name_provider_id(read_id(said, "id"), amount=read_amount(said, "amount"))
    if payment is not None:
        ours = payment.refunds.succeeded().aggregate(total=Sum("amount"))["total"]
        Payment.objects.filter(pk=payment.pk).refund(ours or 0)


def end_refund(refund: Refund, payment: Payment | None, status: RefundStatus) -> None:
    """The money stays where it is: what was reserved is free again, once."""
    moved = Refund.objects.filter(pk=refund.pk).advance_to(status, now=clock.now())
    if moved and payment is not None:
        Payment.objects.filter(pk=payment.pk).release(refund.amount or 0)


@on_settled("stripe", "create_customer")
def settle_customer(call: OutboundCall) -> None:
    customers = Customer.objects.filter(call=call)
    now = clock.now()
    if call.status == CallStatus.SUCCEEDED:
        record_customer(customers, read_id(_result(call), "id"), now=now)
    elif call.status in UNSENT:
        customers.advance_to(CustomerStatus(call.status), now=now)


@on_revived("stripe", "create_customer")
def revive_customer(call: OutboundCall) -> None:
    customers = Customer.objects.filter(call=call)
    waiting = customers.filter(status=CustomerStatus.REQUESTED)
    if customers.ask_again(now=clock.now()) or waiting.exists() or not customers.exists():
        return
    raise RetryRefused("the customer is there by now")


@on_settled("stripe", "delete_customer")
def settle_deletion(call: OutboundCall) -> None:
    if call.status == CallStatus.SUCCEEDED:
        customers = Customer.objects.filter(provider_id=call.payload["customer"])
        record_deletion(customers, now=clock.now())


def record_customer(customers: CustomerQuerySet, provider_id: str, *, now: datetime) -> None:
    """The provider knows them."""
    customers.advance_to(CustomerStatus.ACTIVE, now=now)
    if provider_id:
        customers.name_provider_id(provider_id)


def record_deletion(customers: CustomerQuerySet, *, now: datetime) -> None:
    """The provider has forgotten them, and so do we: the id and the reference stay."""
    customers.advance_to(CustomerStatus.DELETED, now=now, profile={}, metadata={})


def _result(call: OutboundCall) -> Mapping[str, Any]:
    """The provider's object. A person who resolved the call may have given its id only."""
    if call.result:
        result: Mapping[str, Any] = call.result
        return result
    return {"id": call.provider_reference} if call.provider_reference else {}
