"""The front door of payments. Names are keyword-only.

Whatever is asked for is a row of ours and a call in the outbound engine, both stored in the
caller's transaction; the provider is called afterwards. Amounts are integers in the currency's
minor unit.

`idempotency_key` is the caller's own (1 to 255 visible ASCII characters): the same key with the
same content returns the row that is there. `inline`: the caller goes on to
`outbound.services.deliver_now` once its transaction has committed. `call_id`: the id of a new call,
as `enqueue_call` takes it. All functions raise
InvalidPayload (with a pointer to each field) for what the provider could not understand, and
KeyReused for a key that belongs to other content.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from outbound import clock
from outbound.adapters import Operation
from outbound.errors import FieldError, InvalidPayload, KeyReused
from outbound.services import (
    OutboundCall,
    deliver_now,
    enqueue_call,
    perform_read,
    validate_payload,
)
from outbound.statements import insert
from outbound.transactions import atomic
from payments.adapters.stripe import StripeAdapter
from payments.errors import RefundTooLarge
from payments.models import Customer, Payment, Refund, reserve_at_once
from payments.settlements import record_intent
from payments.stripe_objects import read_intent

__all__ = [
    "Customer",
    "Payment",
    "Refund",
    "cancel_payment",
    "create_customer",
    "create_payment",
    "delete_customer",
    "find_customer",
    "find_payment",
    "find_refund",
    "refund_payment",
    "retrieve_payment",
]

ADAPTER = "stripe"
REUSED = "this idempotency key was used with another operation or payload"


@atomic
def create_customer(
    *,
    email: str,
    name: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, str] | None = None,
    reference: str = "",
    idempotency_key: str | None = None,
    request_id: str | None = None,
    created_by: str = "",
    inline: bool = False,
    call_id: uuid.UUID | None = None,
) -> Customer:
    """Let the provider know somebody. https://docs.stripe.com/api/customers/create"""
    call = enqueue_call(
        adapter=ADAPTER,
        operation="create_customer",
        payload=_given(email=email, name=name, description=description, metadata=metadata),
        idempotency_key=idempotency_key,
        reference=reference,
        request_id=request_id,
        created_by=created_by,
        inline=inline,
        call_id=call_id,
    )
    known = None if call.is_new else Customer.objects.filter(call=call).first()
    if known is not None:
        return known
    customer = Customer(
        call=call,
        profile={k: call.payload[k] for k in ("email", "name") if k in call.payload},
        metadata=call.payload.get("metadata", {}),
        reference=reference,
        created_at=call.created_at,
        updated_at=call.created_at,
    )
    insert(customer)
    return customer


@atomic
def delete_customer(
    *,
    customer: Customer,
    idempotency_key: str | None = None,
    request_id: str | None = None,
    created_by: str = "",
    inline: bool = False,
    call_id: uuid.UUID | None = None,
) -> Customer:
    """Let the provider forget somebody, and forget them here when it has.

    Raises InvalidPayload for a customer whom the provider does not know yet.
    https://docs.stripe.com/api/customers/delete
    """
    call = enqueue_call(
        adapter=ADAPTER,
        operation="delete_customer",
        payload={"customer": _provider_id(customer, "/customer")},
        idempotency_key=idempotency_key,
        reference=customer.reference,
        request_id=request_id,
        created_by=created_by,
        inline=inline,
        call_id=call_id,
    )
    Customer.objects.filter(pk=customer.pk).update(delete_call=call)
    customer.refresh_from_db()
    return customer


def create_payment(
    *,
    amount: int,
    currency: str,
    customer: Customer | str | None = None,
    payment_method: str | None = None,
    confirm: bool | None = None,
    capture_method: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, str] | None = None,
    reference: str = "",
    idempotency_key: str | None = None,
    request_id: str | None = None,
    created_by: str = "",
    inline: bool = False,
    call_id: uuid.UUID | None = None,
    wait: float | None = None,
) -> Payment:
    """Ask somebody for money. https://docs.stripe.com/api/payment_intents/create

    customer: a row of ours, or the provider's id. confirm: take the money at once, from
    `payment_method`. wait: make the first attempt here and now, for at most so many seconds, and
    return the payment as it stands then, `payment.call` telling how the attempt went and
    `payment.client_secret` what the payer needs. Must not be called inside a transaction with
    `wait`, for the payment must be stored before the provider is called: raises RuntimeError.
    """
    if wait is not None:
        _refuse_inside_transaction("create_payment(wait=…)")
    payload = _given(
        amount=amount,
        currency=currency,
        customer=_customer_id(customer),
        payment_method=payment_method,
        confirm=confirm,
        capture_method=capture_method,
        description=description,
        metadata=metadata,
    )
    payment = _store_payment(
        payload=payload,
        reference=reference,
        idempotency_key=idempotency_key,
        request_id=request_id,
        created_by=created_by,
        inline=inline or wait is not None,
        call_id=call_id,
    )
    if wait is not None and payment.call is not None:
        deliver_now(call=payment.call, wait=wait)
        payment.refresh_from_db()
    return payment


@atomic
def _store_payment(*, payload: dict[str, Any], reference: str, **options: Any) -> Payment:
    call = enqueue_call(
        adapter=ADAPTER,
        operation="create_payment_intent",
        payload=payload,
        reference=reference,
        **options,
    )
    known = None if call.is_new else Payment.objects.filter(call=call).first()
    if known is not None:
        return known
    payment = Payment(
        call=call,
        customer=_customer_of(call.payload.get("customer")),
        amount=call.payload["amount"],
        currency=call.payload["currency"],
        metadata=call.payload.get("metadata", {}),
        reference=reference,
        created_at=call.created_at,
        updated_at=call.created_at,
    )
    insert(payment)
    return payment


def _customer_of(provider_id: str | None) -> Customer | None:
    return Customer.objects.filter(provider_id=provider_id).first() if provider_id else None


def retrieve_payment(
    *, payment: Payment | str, wait: float = 15.0, created_by: str = ""
) -> dict[str, Any]:
    """The provider's payment intent as it stands now, read within `wait` seconds.

    payment: a row of ours, or the provider's id. Our row, if there is one, learns from it. Must
    not be called inside a transaction: raises RuntimeError. Raises DeliveryError, whose
    `http_status` is 404 for what the provider does not know.
    https://docs.stripe.com/api/payment_intents/retrieve
    """
    _refuse_inside_transaction("retrieve_payment")
    call = perform_read(
        adapter=ADAPTER,
        operation="retrieve_payment_intent",
        payload={"payment_intent": _intent_id(payment)},
        wait=wait,
        reference=payment.reference if isinstance(payment, Payment) else "",
        created_by=created_by,
    )
    document: dict[str, Any] = call.result
    with transaction.atomic():
        row = Payment.objects.select_for_update().filter(provider_id=document["id"]).first()
        if row is not None:
            record_intent(row, read_intent(document), now=clock.now())
    if isinstance(payment, Payment):
        payment.refresh_from_db()
    return document


@atomic
def cancel_payment(
    *,
    payment: Payment,
    reason: str | None = None,
    idempotency_key: str | None = None,
    request_id: str | None = None,
    created_by: str = "",
    inline: bool = False,
    call_id: uuid.UUID | None = None,
) -> Payment:
    """Give up a payment that has not been taken. `payment.cancel_call` tells how that goes.

    reason: duplicate, fraudulent, requested_by_customer or abandoned. Raises InvalidPayload for
    a payment that the provider does not have yet: cancel its call instead
    (`outbound.services.cancel_call`). https://docs.stripe.com/api/payment_intents/cancel
    """
    operation = "cancel_payment_intent"
    intent = _provider_id(payment, "/payment_intent")
    document = _document(operation, _given(payment_intent=intent, cancellation_reason=reason))
    if _same_call(idempotency_key, operation, document) is None:
        locked = Payment.objects.select_for_update().get(pk=payment.pk)
        call = _same_call(idempotency_key, operation, document) or enqueue_call(
            adapter=ADAPTER,
            operation=operation,
            payload=document,
            idempotency_key=idempotency_key,
            reference=locked.reference,
            request_id=request_id,
            created_by=created_by,
            inline=inline,
            call_id=call_id,
        )
        Payment.objects.filter(pk=locked.pk).update(cancel_call=call)
    payment.refresh_from_db()
    return payment


@atomic
def refund_payment(
    *,
    payment: Payment | str,
    amount: int | None = None,
    reason: str | None = None,
    metadata: Mapping[str, str] | None = None,
    reference: str = "",
    idempotency_key: str | None = None,
    request_id: str | None = None,
    created_by: str = "",
    inline: bool = False,
    call_id: uuid.UUID | None = None,
) -> Refund:
    """Give money back. https://docs.stripe.com/api/refunds/create

    payment: a row of ours, or the provider's id; whether a payment that was not made here can be
    refunded is for the provider to say. amount: None for all that is left. reason: duplicate,
    fraudulent or requested_by_customer.

    Raises RefundTooLarge when more than what was captured (than the payment's amount, while that
    is not known) would be given back, all refunds that are under way included.
    """
    asked = _document(
        "create_refund",
        _given(payment_intent=_intent_id(payment), amount=amount, reason=reason, metadata=metadata),
    )
    payment_id, amount = None, asked.get("amount")
    if idempotency_key is None and amount is not None:
        payment_id = reserve_at_once(asked["payment_intent"], amount)
    if payment_id is None:  # a key, all that is left, no payment of ours, or too much
        known = _refund_of_key(idempotency_key, asked)
        if known is not None:
            return known
        # The row lock comes before the key is looked up again and before anything is inserted: who
        # waited here for an equal request finds its refund.
        intents = Payment.objects.select_for_update().filter(provider_id=asked["payment_intent"])
        locked = intents.first()
        known = _refund_of_key(idempotency_key, asked)
        if known is not None:
            return known
        if locked is not None:
            payment_id, amount = locked.pk, _reserve(locked, amount)
    call = enqueue_call(
        adapter=ADAPTER,
        operation="create_refund",
        payload=asked if amount is None else {**asked, "amount": amount},
        idempotency_key=idempotency_key,
        reference=reference,
        request_id=request_id,
        created_by=created_by,
        inline=inline,
        call_id=call_id,
    )
    return _store_refund(call, payment_id, everything="amount" not in asked)


def _reserve(payment: Payment, amount: int | None) -> int:
    """Set the amount aside, all that is left for None. The condition in the UPDATE decides."""
    wanted = payment.refundable if amount is None else amount
    if wanted < 1 or not Payment.objects.filter(pk=payment.pk).reserve(wanted):
        raise RefundTooLarge(left=payment.refundable)
    return wanted


def _store_refund(call: OutboundCall, payment_id: uuid.UUID | None, *, everything: bool) -> Refund:
    known = None if call.is_new else Refund.objects.filter(call=call).first()
    if known is not None:
        return known
    refund = Refund(
        call=call,
        payment_id=payment_id,
        payment_intent=call.payload["payment_intent"],
        amount=call.payload.get("amount"),
        everything=everything,
        reason=call.payload.get("reason", ""),
        metadata=call.payload.get("metadata", {}),
        reference=call.reference,
        created_at=call.created_at,
        updated_at=call.created_at,
    )
    insert(refund)
    return refund


def _refund_of_key(key: str | None, asked: Mapping[str, Any]) -> Refund | None:
    """The refund that this key stands for already. Raises KeyReused."""
    call = _call_of_key(key)
    if call is None:
        return None
    refund = Refund.objects.filter(call=call).first()
    if refund is not None:
        stored = {k: v for k, v in call.payload.items() if k != "amount" or not refund.everything}
        if stored == asked:
            return refund
    raise KeyReused(REUSED)


def _same_call(key: str | None, operation: str, document: Mapping[str, Any]) -> OutboundCall | None:
    """The call that this key stands for already. Raises KeyReused."""
    call = _call_of_key(key)
    if call is not None and (call.operation, call.payload) != (operation, document):
        raise KeyReused(REUSED)
    return call


def _call_of_key(key: object) -> OutboundCall | None:
    """Who holds the payment's lock must ask before enqueuing. The engine would find the call
    too, but by inserting against it, and that waits for whoever is settling that call, who waits
    for the payment's lock."""
    if not isinstance(key, str) or not (key.isascii() and key.isprintable()):
        return None  # enqueuing refuses what is no key
    return OutboundCall.objects.filter(adapter=ADAPTER, account="", dedupe_key=key).first()


def find_customer(key: object) -> Customer | None:
    """By our id, or by the provider's; None when there is none."""
    return Customer.objects.filter(**_lookup(key)).first()


def find_payment(key: object) -> Payment | None:
    """By our id, or by the provider's; None when there is none."""
    return Payment.objects.filter(**_lookup(key)).first()


def find_refund(key: object) -> Refund | None:
    """By our id, or by the provider's; None when there is none."""
    return Refund.objects.filter(**_lookup(key)).first()


def _lookup(key: object) -> dict[str, Any]:
    text = str(key)
    try:
        return {"pk": uuid.UUID(text)}
    except ValueError:  # no id of ours; what is no id at all can be in no database either
        return {"provider_id": text if text.isascii() and text.isprintable() else ""}


def _given(**fields: Any) -> dict[str, Any]:
    """Without what was not given: for the engine, absent and None are the same content."""
    return {name: value for name, value in fields.items() if value is not None}


def _document(operation: str, payload: dict[str, Any]) -> dict[str, Any]:
    spec: Operation = StripeAdapter.operations[operation]
    return validate_payload(spec, payload)


def _customer_id(customer: Customer | str | None) -> str | None:
    return _provider_id(customer, "/customer") if isinstance(customer, Customer) else customer


def _intent_id(payment: Payment | str) -> str:
    return _provider_id(payment, "/payment_intent") if isinstance(payment, Payment) else payment


def _provider_id(row: Customer | Payment, pointer: str) -> str:
    if row.provider_id is None:
        row.refresh_from_db()
    if row.provider_id is None:
        raise InvalidPayload([FieldError(pointer, "the provider does not know it yet")])
    return row.provider_id


def _refuse_inside_transaction(name: str) -> None:
    if connection.in_atomic_block:
        raise RuntimeError(f"{name} must not be called inside a transaction")
