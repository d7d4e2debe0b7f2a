"""Stripe's test payment methods, and cards that are declined for a while.

https://docs.stripe.com/testing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.fields import BadInput, Fields
from sandbox.stripe.errors import Json, Refusal, card_error

MAX_DECLINES = 1000


@dataclass(frozen=True, slots=True)
class Decline:
    """How a bank says no. https://docs.stripe.com/error-codes, https://docs.stripe.com/declines/codes"""

    code: str = "card_declined"
    decline_code: str = "generic_decline"

    @classmethod
    def read(cls, fields: Fields) -> Decline:
        """From the control endpoint. Raises BadInput."""
        code = fields.text("code", cls().code)
        default = cls().decline_code if code == cls().code else code
        return cls(code, fields.text("decline_code", default))

    def refusal(self, **members: object) -> Refusal:
        """The 402."""
        return card_error(self.code, self.decline_code, **members)


@dataclass(frozen=True, slots=True)
class Card:
    """A test payment method and what becomes of its payments."""

    brand: str
    last4: str
    decline: Decline | None = None
    asks: bool = False  # the customer has to authenticate first


_DECLINED = {
    "chargeDeclined": Decline(),
    "chargeDeclinedInsufficientFunds": Decline(decline_code="insufficient_funds"),
    "chargeDeclinedLostCard": Decline(decline_code="lost_card"),
    "chargeDeclinedStolenCard": Decline(decline_code="stolen_card"),
    "chargeDeclinedVelocityLimitExceeded": Decline(decline_code="card_velocity_exceeded"),
    "chargeDeclinedFraudulent": Decline(decline_code="fraudulent"),
    "chargeDeclinedExpiredCard": Decline("expired_card", ""),
    "chargeDeclinedIncorrectCvc": Decline("incorrect_cvc", ""),
    "chargeDeclinedProcessingError": Decline("processing_error", ""),
}

CARDS = {
    "pm_card_visa": Card("visa", "4242"),
    "pm_card_visa_debit": Card("visa", "5556"),
    "pm_card_mastercard": Card("mastercard", "4444"),
    "pm_card_mastercard_debit": Card("mastercard", "3222"),
    "pm_card_amex": Card("amex", "8431"),
    "pm_card_discover": Card("discover", "9424"),
    "pm_card_diners": Card("diners", "0004"),
    "pm_card_jcb": Card("jcb", "0505"),
    "pm_card_unionpay": Card("unionpay", "0005"),
    "pm_card_authenticationRequired": Card("visa", "3184", asks=True),
    "pm_card_threeDSecure2Required": Card("visa", "3220", asks=True),
    **{f"pm_card_{name}": Card("visa", "0002", how) for name, how in _DECLINED.items()},
    **{f"pm_card_visa_{name}": Card("visa", "0002", how) for name, how in _DECLINED.items()},
}


@dataclass(frozen=True, slots=True)
class DeclineRule:
    """Whose payments are declined until the rule is cleared: all that fits what is not None."""

    id: int
    decline: Decline
    amount: int | None
    payment_method: str | None
    customer: str | None
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, fields: Fields, *, id: int) -> DeclineRule:  # noqa: A002
        """From the control endpoint. Raises BadInput."""
        rule = cls(
            id,
            Decline.read(fields),
            fields.integer("amount", None, least=1),
            fields.text("payment_method", None),
            fields.text("customer", None),
            fields.string_map("metadata"),
        )
        fields.end()
        if not (rule.amount or rule.payment_method or rule.customer or rule.metadata):
            raise BadInput("say what is declined: amount, payment_method, customer or metadata")
        return rule

    def fits(
        self, *, amount: int, payment_method: str, customer: str | None, metadata: Mapping[str, str]
    ) -> bool:
        """Whether this payment is meant."""
        return (
            self.amount in (None, amount)
            and self.payment_method in (None, payment_method)
            and self.customer in (None, customer)
            and self.metadata.items() <= metadata.items()
        )

    def document(self) -> Json:
        """As the control endpoint shows it."""
        return {
            "id": self.id,
            "code": self.decline.code,
            "decline_code": self.decline.decline_code,
            "amount": self.amount,
            "payment_method": self.payment_method,
            "customer": self.customer,
            "metadata": dict(self.metadata),
        }


class Declines:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[DeclineRule] = []
        self._made = 0

    def add(self, fields: Fields) -> DeclineRule:
        """Decline from now on what the fields say. Raises BadInput."""
        if len(self._rules) >= MAX_DECLINES:
            raise BadInput(f"there are {MAX_DECLINES} decline rules already")
        rule = DeclineRule.read(fields, id=self._made + 1)
        self._made += 1
        self._rules.append(rule)
        return rule

    def clear(self, id: int | None = None) -> int:  # noqa: A002
        """Let go of one rule, or of all. How many."""
        before = len(self._rules)
        self._rules = [rule for rule in self._rules if id not in (None, rule.id)]
        return before - len(self._rules)

    def find(
        self, *, amount: int, payment_method: str, customer: str | None, metadata: Mapping[str, str]
    ) -> Decline | None:
        """How this payment is declined, if it is."""
        for rule in self._rules:
            if rule.fits(
                amount=amount, payment_method=payment_method, customer=customer, metadata=metadata
            ):
                return rule.decline
        return None

    def documents(self) -> list[Json]:
        """As the control endpoint shows them."""
        return [rule.document() for rule in self._rules]
