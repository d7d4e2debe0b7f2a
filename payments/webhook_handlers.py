"""What Stripe's events mean for our rows. https://docs.stripe.com/api/events/types

No order is trusted: rows only go up in rank, amounts only grow. An event about something whose
call is still RUNNING or UNKNOWN proves that the call worked, and settles it.

Locks are taken as the engine does it: calls first, by id, then the row that asked for them. So an
event finds its row, locks the row's calls, and looks again before it trusts what it found.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import QuerySet

from outbound import clock
from outbound.fields import canonical_json
from outbound.services import OutboundCall, find_call, resolve_call, settle_from_event
from outbound.states import CallStatus
from payments.models import Customer, Payment, Refund
from payments.settlements import record_customer, record_deletion, record_intent
from payments.states import PaymentStatus
from payments.stripe_objects import (
    Mark,
    RefundedCharge,
    read_id,
    read_intent,
    read_mark,
    read_refunded_charge,
)
from webhooks.errors import NotOurs, NotYet
from webhooks.handlers import Event, handles

Row = TypeVar("Row", Payment, Customer)


@handles("stripe", "payment_intent.succeeded")
def take_success(event: Event) -> None:
    _take_intent(event, PaymentStatus.SUCCEEDED)


@handles("stripe", "payment_intent.payment_failed")
def take_failure(event: Event) -> None:
    _take_intent(event, PaymentStatus.FAILED)


@handles("stripe", "payment_intent.canceled")
def take_cancellation(event: Event) -> None:
    _take_intent(event, PaymentStatus.CANCELLED)


def _take_intent(event: Event, status: PaymentStatus) -> None:
    document = _object(event)
    intent = read_intent(document, status=status)
    found = _find(Payment.objects.all(), intent.id, intent.mark)
    calls = _lock_calls(
        found.call_id, found.cancel_call_id if status is PaymentStatus.CANCELLED else None
    )
    payment = _find(Payment.objects.all(), intent.id, intent.mark)
    for call in calls:
        if status is PaymentStatus.FAILED and call.payload.get("confirm"):
            _settle_as_declined(call)
        else:
            _settle(call, document, intent.id)
    record_intent(_lock(payment), intent, now=clock.now())


def _settle_as_declined(call: OutboundCall) -> None:
    """A call that was to take the money at once has failed with the payment. While it runs, the
    decline is its answer, on the way with the reason."""
    if call.status == CallStatus.UNKNOWN:
        resolve_call(
            call_id=call.pk,
            succeeded=False,
            reason="Stripe's event says that the payment failed",
            actor="stripe",
        )


@handles("stripe", "charge.refunded")
def take_refunds(event: Event) -> None:
    charge = read_refunded_charge(_object(event))
    if charge is None:
        return
    refunds = _own_refunds(charge)
    found = _payment_of(charge)
    if found is None and not refunds:
        raise NotYet("no payment of ours has this payment intent")
    calls = _lock_calls(found.call_id if found else None, *refunds)
    payment = _payment_of(charge)
    for call in calls:
        if call.pk in refunds:
            document = refunds[call.pk]
            if _made_by(call, read_mark(document)):
                _settle(call, document, read_id(document, "id"))
        elif charge.payment_intent:
            _settle(call, _paid_intent(charge), charge.payment_intent)
    if payment is not None:
        _record_charge(_lock(payment), charge)


def _own_refunds(charge: RefundedCharge) -> dict[uuid.UUID, Mapping[str, Any]]:
    """The refunds of a charge that calls of ours made, by call. Only older API versions list a
    charge's refunds. https://docs.stripe.com/upgrades#2022-11-15"""
    marked = ((read_mark(document), document) for document in charge.refunds)
    found = {}
    for mark, document in marked:
        call = find_call(mark.call_id) if mark else None
        if call is not None and Refund.objects.filter(call=call).exists():
            found[call.pk] = document
    return found


def _payment_of(charge: RefundedCharge) -> Payment | None:
    try:
        return _find(Payment.objects.all(), charge.payment_intent, charge.mark)
    except NotYet:
        return None


def _paid_intent(charge: RefundedCharge) -> dict[str, Any]:
    """What a refund proves of the payment intent behind it."""
    return {"object": "payment_intent", "id": charge.payment_intent, "status": "succeeded"}


def _record_charge(payment: Payment, charge: RefundedCharge) -> None:
    row = Payment.objects.filter(pk=payment.pk)
    row.advance_to(PaymentStatus.SUCCEEDED, now=clock.now())
    if charge.payment_intent:
        row.name_provider_id(charge.payment_intent)
    if charge.captured is not None:
        row.capture(charge.captured)
    row.refund(charge.refunded)


@handles("stripe", "customer.created")
def take_customer(event: Event) -> None:
    document = _object(event)
    provider_id, mark = read_id(document, "id"), read_mark(document)
    found = _find(Customer.objects.all(), provider_id, mark)
    calls = _lock_calls(found.call_id)
    customer = _find(Customer.objects.all(), provider_id, mark)
    for call in calls:
        _settle(call, document, provider_id)
    record_customer(Customer.objects.filter(pk=customer.pk), provider_id, now=clock.now())


@handles("stripe", "customer.deleted")
def take_deletion(event: Event) -> None:
    document = _object(event)
    provider_id, mark = read_id(document, "id"), read_mark(document)
    found = _find(Customer.objects.all(), provider_id, mark)
    calls = _lock_calls(found.call_id, found.delete_call_id)
    customer = _find(Customer.objects.all(), provider_id, mark)
    for call in calls:
        _settle(call, document, provider_id)
    customers = Customer.objects.filter(pk=customer.pk)
    customers.name_provider_id(provider_id)
    record_deletion(customers, now=clock.now())


def _object(event: Event) -> dict[str, Any]:
    """The object that an event speaks of, fit to become a call's result. Raises NotYet."""
    content = event.payload.get("data")
    document = content.get("object") if isinstance(content, dict) else None
    if not isinstance(document, dict):
        raise NotYet("the event has no object")
    try:
        canonical_json(document)
    except ValueError:
        raise NotYet("the event's object has numbers without end") from None
    return document


def _find(rows: QuerySet[Row], provider_id: str, mark: Mark | None) -> Row:
    """The row of a provider's object: by its id, else by the call that made it with its present
    key. Raises NotYet, and NotOurs for an object of an earlier key: a retry as new has taken its
    place."""
    found = rows.filter(provider_id=provider_id).first() if provider_id else None
    if found is None and provider_id and mark is not None:
        call = find_call(mark.call_id)
        if call is not None and not _made_by(call, mark):
            raise NotOurs(f"made with an earlier key of call {call.pk}")
        found = rows.filter(call=call, provider_id=None).first() if call else None
    if found is None:
        raise NotYet(f"no {rows.model._meta.verbose_name} of ours is this object")  # noqa: SLF001 - Django's public API
    return found


def _made_by(call: OutboundCall, mark: Mark | None) -> bool:
    return mark == Mark(str(call.pk), call.idempotency_key)


def _lock_calls(*ids: uuid.UUID | None) -> list[OutboundCall]:
    wanted = [pk for pk in ids if pk is not None]
    return list(OutboundCall.objects.select_for_update().filter(pk__in=wanted).order_by("pk"))


def _lock(payment: Payment) -> Payment:
    return Payment.objects.select_for_update().get(pk=payment.pk)


def _settle(call: OutboundCall, document: Mapping[str, Any], provider_id: str) -> None:
    settle_from_event(
        call_id=call.pk,
        idempotency_key=call.idempotency_key,
        result=document,
        provider_reference=provider_id,
    )
