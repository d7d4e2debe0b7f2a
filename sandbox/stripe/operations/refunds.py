"""https://docs.stripe.com/api/refunds"""

from __future__ import annotations

from sandbox.ids import new_id
from sandbox.stripe.call import Call
from sandbox.stripe.charges import Charge
from sandbox.stripe.errors import Json, Refusal, invalid
from sandbox.stripe.operations.lists import read_page
from sandbox.stripe.operations.payment_intents import MAX_AMOUNT
from sandbox.stripe.params import Params
from sandbox.stripe.refunds import Refund

REASONS = ("duplicate", "fraudulent", "requested_by_customer")
SIGNS = {"usd": "$", "eur": "€", "gbp": "£"}


def create(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/refunds/create. Without an amount: all that is left."""
    charge_id, intent_id = params.text("charge"), params.text("payment_intent")
    amount = params.integer("amount", least=1, most=MAX_AMOUNT)
    reason, metadata = params.choice("reason", REASONS), params.metadata()
    params.end()
    charge = _find_charge(call, charge_id, intent_id)
    amount = _check_amount(charge, amount)
    refund = Refund(
        id=new_id("re"),
        scope=call.scope,
        created=call.second,
        amount=amount,
        currency=charge.currency,
        charge=charge.id,
        payment_intent=charge.payment_intent,
        reason=reason,
        metadata=metadata,
    )
    before = {"amount_refunded": charge.amount_refunded}
    charge.amount_refunded += amount
    charge.refunds.append(refund.id)
    call.store.refunds.add(refund)
    call.record("refund.created", refund.id, amount=amount, metadata=metadata)
    call.emit("refund.created", refund.document())
    call.emit(
        "charge.refunded",
        charge.document(),
        {**before, "refunded": False} if charge.refunded else before,
    )
    return refund.document()


def retrieve(call: Call, params: Params, id: str) -> Json:  # noqa: A002  # Stripe's name
    """https://docs.stripe.com/api/refunds/retrieve"""
    params.end()
    return call.store.refunds.find(id, scope=call.scope, param="refund").document()


def list_all(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/refunds/list"""
    charge, intent = params.text("charge"), params.text("payment_intent")
    page = read_page(params)
    params.end()
    return page.of(
        call,
        call.store.refunds,
        url="/v1/refunds",
        keep=lambda refund: (
            charge in (None, refund.charge) and intent in (None, refund.payment_intent)
        ),
    )


def _find_charge(call: Call, charge_id: str | None, intent_id: str | None) -> Charge:
    if intent_id is not None:
        intent = call.store.intents.find(intent_id, scope=call.scope, param="payment_intent")
        charge = call.store.charges.get(intent.latest_charge, scope=call.scope)
        if charge_id is not None and (charge is None or charge.id != charge_id):
            raise Refusal(400, "The charge does not belong to the payment_intent.", param="charge")
    elif charge_id is not None:
        charge = call.store.charges.find(charge_id, scope=call.scope, param="charge")
    else:
        raise invalid(
            "One of the following params should be provided for this request: payment_intent or "
            "charge."
        )
    if charge is None or not charge.captured:
        of = intent_id or (charge.payment_intent if charge else "")
        raise Refusal(
            400, f"This PaymentIntent ({of}) does not have a successful charge to refund."
        )
    return charge


def _check_amount(charge: Charge, amount: int | None) -> int:
    if charge.refunded:
        raise Refusal(
            400,
            f"Charge {charge.id} has already been refunded.",
            code="charge_already_refunded",
        )
    if amount is None:
        return charge.refundable
    if amount > charge.refundable:
        left = "unrefunded amount on charge" if charge.amount_refunded else "charge amount"
        wanted, rest = (_money(sum_, charge.currency) for sum_ in (amount, charge.refundable))
        raise Refusal(
            400,
            f"Refund amount ({wanted}) is greater than {left} ({rest})",
            code="amount_too_large",
            param="amount",
        )
    return amount


def _money(amount: int, currency: str) -> str:
    sign = SIGNS.get(currency)
    return f"{sign}{amount / 100:,.2f}" if sign else f"{amount} {currency.upper()}"
