"""https://docs.stripe.com/api/payment_intents"""

from __future__ import annotations

from typing import cast

from sandbox.ids import new_id, random_text
from sandbox.stripe.call import Call
from sandbox.stripe.errors import Json, Refusal, invalid
from sandbox.stripe.intents import PaymentIntent
from sandbox.stripe.operations import paying
from sandbox.stripe.operations.lists import read_page
from sandbox.stripe.operations.search import read_search
from sandbox.stripe.params import Params

MAX_AMOUNT = 99_999_999
REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
SEARCHABLE = ("amount", "created", "currency", "customer", "status")
UNSHOWN = ("mandate_data", "payment_method_options", "radar_options")  # taken, and left at that


def create(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/payment_intents/create"""
    params.require("amount")
    params.require("currency")
    intent = _read_intent(call, params)
    token, confirm = params.text("payment_method"), params.flag("confirm") or False
    return_url, authentication = params.text("return_url"), _read_authentication(params)
    params.end()
    if intent.customer is not None:
        _check_customer(call, intent.customer)
    if token is not None:
        paying.use_card(intent, token)
    if confirm:
        paying.check_redirect(intent, return_url)
        paying.check_confirmable(intent)
    elif call.decline is not None:
        raise call.decline.refusal()
    call.store.intents.add(intent)
    call.emit("payment_intent.created", intent.document())
    decline = paying.take(call, intent, authentication=authentication) if confirm else None
    outcome = "declined" if decline else "done"
    call.record(
        "payment_intent.created",
        intent.id,
        amount=intent.amount,
        outcome=outcome,
        metadata=intent.metadata,
    )
    if decline is not None:
        raise paying.declined(intent, decline)
    return intent.document()


def retrieve(call: Call, params: Params, id: str) -> Json:  # noqa: A002  # Stripe's name
    """https://docs.stripe.com/api/payment_intents/retrieve"""
    params.text("client_secret")
    params.end()
    return _find(call, id).document()


def confirm(call: Call, params: Params, id: str) -> Json:  # noqa: A002
    """https://docs.stripe.com/api/payment_intents/confirm"""
    token, return_url = params.text("payment_method"), params.text("return_url")
    authentication, email = _read_authentication(params), params.email("receipt_email")
    params.end()
    intent = _find(call, id)
    if token is not None and intent.status in paying.CONFIRMABLE:
        paying.use_card(intent, token)
    paying.check_redirect(intent, return_url)
    paying.check_confirmable(intent)
    if email is not None:
        intent.extra["receipt_email"] = email
    decline = paying.take(call, intent, authentication=authentication)
    outcome = "declined" if decline else "done"
    call.record("payment_intent.confirmed", intent.id, amount=intent.amount, outcome=outcome)
    if decline is not None:
        raise paying.declined(intent, decline)
    return intent.document()


def capture(call: Call, params: Params, id: str) -> Json:  # noqa: A002
    """https://docs.stripe.com/api/payment_intents/capture"""
    amount = params.integer("amount_to_capture", least=1, most=MAX_AMOUNT)
    params.end()
    intent = _find(call, id)
    if intent.status != "requires_capture":
        raise paying.unexpected_state(
            intent,
            "This PaymentIntent could not be captured because it has a status of "
            f"{intent.status}. Only a PaymentIntent with one of the following statuses may be "
            "captured: requires_capture.",
        )
    if amount is not None and amount > intent.amount_capturable:
        raise Refusal(
            400,
            f"The amount_to_capture ({amount}) must be less than or equal to amount_capturable "
            f"({intent.amount_capturable}).",
            code="amount_too_large",
            param="amount_to_capture",
        )
    paying.capture(call, intent, amount or intent.amount_capturable)
    call.record("payment_intent.captured", intent.id, amount=intent.amount_received)
    return intent.document()


def cancel(call: Call, params: Params, id: str) -> Json:  # noqa: A002
    """https://docs.stripe.com/api/payment_intents/cancel"""
    reason = params.choice("cancellation_reason", REASONS)
    params.end()
    intent = _find(call, id)
    if intent.status not in paying.CANCELABLE:
        raise paying.unexpected_state(
            intent,
            f"You cannot cancel this PaymentIntent because it has a status of {intent.status}. "
            "Only a PaymentIntent with one of the following statuses may be canceled: "
            f"{', '.join(paying.CANCELABLE)}.",
        )
    paying.cancel(call, intent, reason)
    call.record("payment_intent.canceled", intent.id, amount=intent.amount)
    return intent.document()


def list_all(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/payment_intents/list"""
    customer, page = params.text("customer"), read_page(params)
    params.end()
    return page.of(
        call,
        call.store.intents,
        url="/v1/payment_intents",
        keep=lambda intent: customer in (None, intent.customer),
    )


def search(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/payment_intents/search"""
    query = read_search(params, fields=SEARCHABLE)
    params.end()
    return query.of(call, call.store.intents, url="/v1/payment_intents/search")


def _find(call: Call, id: str) -> PaymentIntent:  # noqa: A002
    return call.store.intents.find(id, scope=call.scope, param="intent")


def _read_intent(call: Call, params: Params) -> PaymentIntent:
    id = new_id("pi")  # noqa: A001  # Stripe's name
    return PaymentIntent(
        id=id,
        scope=call.scope,
        created=call.second,
        amount=_read_amount(params),
        currency=cast("str", params.currency("currency")),
        client_secret=f"{id}_secret_{random_text(25)}",
        capture_method=params.choice("capture_method", ("automatic", "automatic_async", "manual"))
        or "automatic",
        metadata=params.metadata(),
        customer=params.text("customer"),
        automatic=_read_automatic(params),
        extra=_read_extra(params),
    )


def _read_amount(params: Params) -> int:
    amount = cast("int", params.integer("amount", least=1))
    if amount > MAX_AMOUNT:
        raise invalid(
            "Amount must be no more than $999,999.99", code="amount_too_large", param="amount"
        )
    return amount


def _read_automatic(params: Params) -> Json | None:
    """Since 2023-08-16 on by default. https://docs.stripe.com/upgrades#2023-08-16"""
    members, types = (
        params.members("automatic_payment_methods"),
        params.texts("payment_method_types"),
    )
    if members is None:
        if types not in (None, ["card"]):
            raise invalid("The sandbox takes cards only.", param="payment_method_types")
        return None if types else {"allow_redirects": "always", "enabled": True}
    if types is not None:
        raise invalid(
            "You may only specify one of these parameters: automatic_payment_methods, "
            "payment_method_types."
        )
    members.require("enabled")
    enabled = members.flag("enabled")
    redirects = members.choice("allow_redirects", ("always", "never"))
    members.end()
    return {"allow_redirects": redirects or "always", "enabled": True} if enabled else None


def _read_extra(params: Params) -> Json:
    for name in UNSHOWN:
        params.members(name)
    params.flag("use_stripe_sdk")
    params.choice("confirmation_method", ("automatic", "manual"))
    shown = {
        "description": params.text("description"),
        "receipt_email": params.email("receipt_email"),
        "setup_future_usage": params.choice("setup_future_usage", ("off_session", "on_session")),
        "shipping": params.tree("shipping"),
        "statement_descriptor": params.text("statement_descriptor", most=22),
        "statement_descriptor_suffix": params.text("statement_descriptor_suffix", most=22),
        "transfer_group": params.text("transfer_group"),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _read_authentication(params: Params) -> paying.Authentication:
    off_session = params.flag("off_session")
    strict = params.flag("error_on_requires_action")
    return "impossible" if off_session or strict else "possible"


def _check_customer(call: Call, id: str) -> None:  # noqa: A002
    found = call.store.customers.find(id, scope=call.scope, param="customer", status=400)
    if found.deleted:
        raise Refusal(400, f"No such customer: '{id}'", code="resource_missing", param="customer")
