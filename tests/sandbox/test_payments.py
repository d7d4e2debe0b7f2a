"""A payment's life, and the events and effects it leaves."""

from __future__ import annotations

import pytest

from sandbox.control import Sandbox
from sandbox.process import SandboxError
from tests.sandbox.api import NEVER, PAID, Api

INTENTS = "/v1/payment_intents"
UNPAID = {"amount": "2000", "currency": "usd", **NEVER}


def types(api: Api) -> list[str]:
    return [event["type"] for event in reversed(api.get("/v1/events", limit="100").json["data"])]


@pytest.mark.parametrize(
    "token, code, decline_code",
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
    ],
)
def test_declined_cards(
    api: Api, sandbox: Sandbox, token: str, code: str, decline_code: str | None
) -> None:
    """402 card_error; the intent is there all the same, without money, and the ledger says so."""
    answer = api.pay(payment_method=token)
    error = answer.error
    assert answer.status == 402
    assert (error["type"], error["code"], error.get("decline_code")) == (
        "card_error",
        code,
        decline_code,
    )
    intent = error["payment_intent"]
    assert (intent["status"], intent["amount_received"]) == ("requires_payment_method", 0)
    assert intent["last_payment_error"]["code"] == code
    assert intent["latest_charge"] == error["charge"]
    assert api.get(f"{INTENTS}/{intent['id']}").json == intent
    charge = api.get(f"/v1/charges/{error['charge']}").json
    assert (charge["status"], charge["paid"], charge["failure_code"]) == ("failed", False, code)
    assert types(api) == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
    ]
    (effect,) = sandbox.ledger()
    assert (effect.kind, effect.outcome) == ("payment_intent.created", "declined")


def test_a_decline_is_not_the_end(api: Api) -> None:
    """The same intent can be confirmed with another card."""
    intent = api.pay(payment_method="pm_card_chargeDeclined").error["payment_intent"]
    path = f"{INTENTS}/{intent['id']}/confirm"
    assert api.post(path).error["code"] == "payment_intent_unexpected_state"
    paid = api.post(path, {"payment_method": "pm_card_visa"}).json
    assert (paid["status"], paid["last_payment_error"]) == ("succeeded", None)


@pytest.mark.parametrize(
    "form, status",
    [
        (UNPAID, "requires_payment_method"),
        ({**UNPAID, "payment_method": "pm_card_visa"}, "requires_confirmation"),
        (PAID, "succeeded"),
        ({**PAID, "capture_method": "manual"}, "requires_capture"),
        ({**PAID, "payment_method": "pm_card_threeDSecure2Required"}, "requires_action"),
    ],
)
def test_the_status_after_creation(api: Api, form: dict[str, str], status: str) -> None:
    """https://docs.stripe.com/payments/paymentintents/lifecycle"""
    assert api.post(INTENTS, form).json["status"] == status


FORMS = {
    "requires_payment_method": UNPAID,
    "requires_confirmation": {**UNPAID, "payment_method": "pm_card_visa"},
    "requires_action": {**PAID, "payment_method": "pm_card_threeDSecure2Required"},
    "requires_capture": {**PAID, "capture_method": "manual"},
    "succeeded": PAID,
}


@pytest.mark.parametrize("status", [*FORMS, "canceled"])
@pytest.mark.parametrize(
    "verb, form, allowed",
    [
        (
            "confirm",
            {"payment_method": "pm_card_visa"},
            ("requires_payment_method", "requires_confirmation", "requires_action"),
        ),
        ("capture", {}, ("requires_capture",)),
        (
            "cancel",
            {},
            (
                "requires_payment_method",
                "requires_confirmation",
                "requires_action",
                "requires_capture",
            ),
        ),
    ],
)
def test_every_verb_in_every_status(
    api: Api, sandbox: Sandbox, status: str, verb: str, form: dict[str, str], allowed: tuple[str]
) -> None:
    """What is not allowed is a 400 that carries the intent, and changes nothing."""
    intent = api.post(INTENTS, FORMS.get(status, UNPAID)).json
    path = f"{INTENTS}/{intent['id']}"
    if status == "canceled":
        api.post(f"{path}/cancel")
    before, effects = api.get(path).json, len(sandbox.ledger())
    answer = api.post(f"{path}/{verb}", form)
    if status in allowed:
        assert answer.status == 200
        assert len(sandbox.ledger()) == effects + 1
        return
    assert answer.status == 400
    assert answer.error["code"] == "payment_intent_unexpected_state"
    assert answer.error["payment_intent"] == before == api.get(path).json
    assert len(sandbox.ledger()) == effects


def test_authentication(api: Api) -> None:
    """A customer who is not there cannot be asked."""
    card = "pm_card_authenticationRequired"
    declined = api.pay(payment_method=card, off_session="true")
    assert declined.error["code"] == "authentication_required"
    asked = api.pay(payment_method=card).json
    assert asked["next_action"]["type"] == "use_stripe_sdk"


def test_the_customer_pays(api: Api, sandbox: Sandbox) -> None:
    """The control endpoint plays the customer's browser, with the same events as the API."""
    intent = api.post(INTENTS, UNPAID).json
    paid = sandbox.confirm(intent["id"])
    assert (paid["status"], paid["amount_received"]) == ("succeeded", 2000)
    assert types(api) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]
    created, confirmed = sandbox.ledger()
    assert (created.by, confirmed.by) == ("request", "control")
    assert (confirmed.kind, confirmed.key) == ("payment_intent.confirmed", "")


def test_the_customer_authenticates(api: Api, sandbox: Sandbox) -> None:
    """Strong authentication ends at the control endpoint."""
    intent = api.pay(payment_method="pm_card_threeDSecure2Required").json
    assert sandbox.confirm(intent["id"])["status"] == "succeeded"


def test_the_customer_is_declined(api: Api, sandbox: Sandbox) -> None:
    """A bad card at the control endpoint fails the payment, and the event says so."""
    intent = api.post(INTENTS, UNPAID).json
    left = sandbox.confirm(intent["id"], payment_method="pm_card_chargeDeclined")
    assert left["status"] == "requires_payment_method"
    assert types(api)[-1] == "payment_intent.payment_failed"


def test_the_customer_cannot_pay_twice(api: Api, sandbox: Sandbox) -> None:
    """The control endpoint refuses what Stripe refuses, with the reason."""
    intent = api.pay().json
    with pytest.raises(SandboxError, match="already succeeded"):
        sandbox.confirm(intent["id"])
    with pytest.raises(SandboxError, match="no payment intent pi_x"):
        sandbox.confirm("pi_x")


@pytest.mark.parametrize(
    "rule, form",
    [
        ({"amount": 4242}, {"amount": "4242"}),
        ({"payment_method": "pm_card_mastercard"}, {"payment_method": "pm_card_mastercard"}),
        ({"metadata": {"order": "7"}}, {"metadata[order]": "7", "metadata[x]": "y"}),
        ({"amount": 4242, "metadata": {"order": "7"}}, {"amount": "4242", "metadata[order]": "7"}),
    ],
)
def test_declined_until_cleared(
    api: Api, sandbox: Sandbox, rule: dict[str, object], form: dict[str, str]
) -> None:
    """What fits all of the rule is declined, nothing else, and nothing once it is gone."""
    id_ = sandbox.decline_for(**rule, decline_code="insufficient_funds")  # type: ignore[arg-type]
    assert [declined["id"] for declined in sandbox.declines()] == [id_]
    declined = api.pay(**form)
    assert (declined.status, declined.error["decline_code"]) == (402, "insufficient_funds")
    assert api.pay().status == 200
    assert sandbox.clear_declines(id_) == 1
    assert api.pay(**form).status == 200


def test_an_authorisation_that_is_given_up(api: Api) -> None:
    """Cancelling releases the money."""
    intent = api.pay(capture_method="manual").json
    api.post(f"{INTENTS}/{intent['id']}/cancel")
    charge = api.get(f"/v1/charges/{intent['latest_charge']}").json
    assert (charge["captured"], charge["refunded"]) == (False, True)
    assert types(api)[-2:] == ["charge.refunded", "payment_intent.canceled"]


def test_capturing_too_much(api: Api) -> None:
    """No more than was authorised."""
    intent = api.pay(capture_method="manual").json
    answer = api.post(f"{INTENTS}/{intent['id']}/capture", {"amount_to_capture": "2001"})
    assert (answer.status, answer.error["param"]) == (400, "amount_to_capture")


def test_a_deleted_customer_cannot_pay(api: Api) -> None:
    """resource_missing, as if never there."""
    customer = api.post("/v1/customers").json["id"]
    assert api.pay(customer=customer).json["customer"] == customer
    api.delete(f"/v1/customers/{customer}")
    assert api.pay(customer=customer).error["code"] == "resource_missing"


def test_what_is_given_is_shown(api: Api) -> None:
    """Parameters come back in the object."""
    given = {
        "description": "a book",
        "receipt_email": "reader@example.com",
        "statement_descriptor_suffix": "BOOK",
        "transfer_group": "g",
        "shipping[name]": "Ada",
        "shipping[address][line1]": "Street 1",
        "setup_future_usage": "off_session",
        "metadata[order]": "7",
    }
    intent = api.pay(**given).json
    assert intent["shipping"] == {"name": "Ada", "address": {"line1": "Street 1"}}
    assert intent["metadata"] == {"order": "7"}
    assert intent["automatic_payment_methods"] == {"enabled": True, "allow_redirects": "never"}
    for name in ("description", "receipt_email", "transfer_group", "setup_future_usage"):
        assert intent[name] == given[name]
