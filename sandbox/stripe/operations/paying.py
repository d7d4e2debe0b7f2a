"""How money moves: attempts, captures, releases. https://docs.stripe.com/payments/paymentintents/lifecycle"""

from __future__ import annotations

from typing import Literal

from sandbox.ids import new_id
from sandbox.stripe.call import Call
from sandbox.stripe.cards import CARDS, Card, Decline
from sandbox.stripe.charges import Charge
from sandbox.stripe.errors import Json, Refusal, invalid, missing
from sandbox.stripe.intents import PaymentIntent

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELABLE = (
    "requires_payment_method",
    "requires_capture",
    "requires_confirmation",
    "requires_action",
    "processing",
)
# Whether the customer can answer his bank's questions, or has done so.
Authentication = Literal["possible", "impossible", "given"]
UNAUTHENTICATED = Decline("authentication_required", "authentication_required")


def use_card(intent: PaymentIntent, token: str) -> None:
    """Put a test payment method on the intent. Raises Refusal."""
    card = CARDS.get(token)
    if card is None:
        raise missing("PaymentMethod", token, param="payment_method", status=400)
    intent.card, intent.token = card, token
    intent.payment_method = new_id("pm")
    if intent.status == "requires_payment_method":
        intent.status = "requires_confirmation"


def check_redirect(intent: PaymentIntent, return_url: str | None) -> None:
    """Refuse where a customer might be sent away without a way back."""
    automatic = intent.automatic or {}
    if automatic.get("allow_redirects") == "always" and return_url is None:
        raise invalid(
            "This PaymentIntent is configured to accept payment methods enabled in your "
            "Dashboard. Because some of these payment methods might redirect your customer off of "
            "your page, you must provide a `return_url`. If you don't want to accept "
            "redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` "
            "and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup "
            "Intents and Payment Intents."
        )


def check_confirmable(intent: PaymentIntent) -> Card:
    """The card to take the money from. Raises Refusal."""
    if intent.status not in CONFIRMABLE:
        done = "it has already succeeded after being previously confirmed"
        other = f"it has a status of {intent.status}"
        reason = done if intent.status == "succeeded" else other
        raise unexpected_state(intent, f"You cannot confirm this PaymentIntent because {reason}.")
    if intent.card is None:
        raise unexpected_state(
            intent,
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can "
            "either update the PaymentIntent with a payment method and then confirm it again, or "
            "confirm it again directly with a payment method or ConfirmationToken.",
        )
    return intent.card


def unexpected_state(intent: PaymentIntent, message: str) -> Refusal:
    """The intent is too far, or not far enough."""
    return Refusal(
        400,
        message,
        code="payment_intent_unexpected_state",
        payment_intent=intent.document(),
    )


def take(call: Call, intent: PaymentIntent, *, authentication: Authentication) -> Decline | None:
    """One attempt to take the money. How it was declined, if it was."""
    card = check_confirmable(intent)
    decline = _decline_of(call, intent, card)
    if decline is None and card.asks and authentication != "given":
        if authentication == "possible":
            intent.status = "requires_action"
            call.emit("payment_intent.requires_action", intent.document())
            return None
        decline = UNAUTHENTICATED
    charge = _charge(call, intent, card, decline)
    intent.latest_charge = charge.id
    if decline is not None:
        _fail(call, intent, charge, decline)
    elif intent.capture_method == "manual":
        intent.status, intent.amount_capturable = "requires_capture", intent.amount
        intent.last_error = None
        call.emit("charge.succeeded", charge.document())
        call.emit("payment_intent.amount_capturable_updated", intent.document())
    else:
        _receive(intent, charge, intent.amount)
        call.emit("charge.succeeded", charge.document())
        call.emit("payment_intent.succeeded", intent.document())
    return decline


def declined(intent: PaymentIntent, decline: Decline) -> Refusal:
    """The 402 for an attempt that has left its trace."""
    return decline.refusal(
        charge=intent.latest_charge,
        payment_intent=intent.document(),
        payment_method=(intent.last_error or {}).get("payment_method"),
    )


def capture(call: Call, intent: PaymentIntent, amount: int) -> None:
    """Take what was authorised, or a part; the rest is released."""
    charge = call.store.charges.find(
        str(intent.latest_charge), scope=call.scope, param="payment_intent"
    )
    _receive(intent, charge, amount)
    call.emit("charge.captured", charge.document())
    call.emit("payment_intent.succeeded", intent.document())


def cancel(call: Call, intent: PaymentIntent, reason: str | None) -> None:
    """Give the payment up, and what was authorised for it."""
    charge = call.store.charges.get(intent.latest_charge, scope=call.scope)
    if charge is not None and intent.status == "requires_capture":
        charge.released = True
        call.emit("charge.refunded", charge.document(), {"amount_refunded": 0, "refunded": False})
    intent.status, intent.amount_capturable = "canceled", 0
    intent.canceled_at, intent.cancellation_reason = call.second, reason
    call.emit("payment_intent.canceled", intent.document())


def _decline_of(call: Call, intent: PaymentIntent, card: Card) -> Decline | None:
    return (
        call.decline
        or call.declines.find(
            amount=intent.amount,
            payment_method=intent.token,
            customer=intent.customer,
            metadata=intent.metadata,
        )
        or card.decline
    )


def _charge(call: Call, intent: PaymentIntent, card: Card, decline: Decline | None) -> Charge:
    return call.store.charges.add(
        Charge(
            id=new_id("ch"),
            scope=call.scope,
            created=call.second,
            amount=intent.amount,
            currency=intent.currency,
            payment_intent=intent.id,
            payment_method=str(intent.payment_method),
            card=card,
            customer=intent.customer,
            metadata=dict(intent.metadata),
            description=intent.extra.get("description"),
            receipt_email=intent.extra.get("receipt_email"),
            decline=decline,
        )
    )


def _receive(intent: PaymentIntent, charge: Charge, amount: int) -> None:
    charge.captured, charge.amount_captured = True, amount
    intent.status, intent.amount_received = "succeeded", amount
    intent.amount_capturable, intent.last_error = 0, None


def _fail(call: Call, intent: PaymentIntent, charge: Charge, decline: Decline) -> None:
    method: Json = {
        "id": intent.payment_method,
        "object": "payment_method",
        "card": {"brand": charge.card.brand, "last4": charge.card.last4},
        "created": call.second,
        "customer": None,
        "livemode": call.scope.live,
        "metadata": {},
        "type": "card",
    }
    intent.last_error = {**decline.refusal().error, "charge": charge.id, "payment_method": method}
    intent.status = "requires_payment_method"
    intent.payment_method, intent.card = None, None
    call.emit("charge.failed", charge.document())
    call.emit("payment_intent.payment_failed", intent.document())
