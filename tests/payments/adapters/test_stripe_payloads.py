"""What can be asked of Stripe: a bad payload is refused with a pointer to the field, at once."""

from __future__ import annotations

from typing import Any

import pytest

from outbound.errors import InvalidPayload
from outbound.services import validate_payload
from payments.adapters.stripe import StripeAdapter

PAYMENT: dict[str, Any] = {"amount": 2000, "currency": "usd"}
BASES: dict[str, dict[str, Any]] = {
    "create_payment_intent": PAYMENT,
    "create_customer": {"email": "jo@example.com"},
    "create_refund": {"payment_intent": "pi_1"},
}
FIFTY = {f"key {n}": "v" for n in range(50)}


def check(operation: str, payload: Any) -> dict[str, Any]:
    return validate_payload(StripeAdapter.operations[operation], payload)


AMOUNTS = [0, -1, 100_000_000, 10**400, 1.0, 10.5, float("nan"), True, False, "2000", None, [1], {}]
CURRENCIES = [
    "",
    "us",
    "usdd",
    "xyz",
    "xxx",
    "xau",
    "u$d",
    "dollar",
    "usd ",
    "kes\x00",
    "\u212aes",
    840,
    None,
]
IDS = ["", "pi_", "pi_1/../customers", "pi_1?x=1", "pi_1#", "pi_%2e", "pi_1\n", "pi_é", "cus_1", 1]
NO_METADATA = [
    ({"": "v"}, "/metadata"),
    ({"k" * 41: "v"}, "/metadata"),
    ({"k": "v" * 501}, "/metadata"),
    ({"k[0]": "v"}, "/metadata"),
    ({"k": "nul\x00"}, "/metadata"),
    ({"nul\x00": "v"}, "/metadata"),
    ({"holdfast_call": "mine"}, "/metadata"),
    ({"holdfast_key": "mine"}, "/metadata"),
    ({f"k{n}": "v" for n in range(49)}, "/metadata"),
    (FIFTY, "/metadata"),
    ({"k": 1}, "/metadata/k"),
    ({"k": True}, "/metadata/k"),
    ({"k": None}, "/metadata/k"),
    ({"k": {"nested": "v"}}, "/metadata/k"),
    ({"k": "\ud800"}, "/metadata"),
    ({"\udfff": "v"}, "/metadata"),
    ("a=b", "/metadata"),
    ([["a", "b"]], "/metadata"),
]


def refused(operation: str, payload: Any) -> list[str]:
    with pytest.raises(InvalidPayload) as caught:
        check(operation, payload)
    return [error.pointer for error in caught.value.errors]


@pytest.mark.parametrize("amount", AMOUNTS, ids=repr)
def test_amounts(amount: Any) -> None:
    """Integers of the minor unit, from 1 to 99 999 999, and nothing that merely looks like one."""
    assert refused("create_payment_intent", {**PAYMENT, "amount": amount}) == ["/amount"]


@pytest.mark.parametrize("amount", [a for a in AMOUNTS if a is not None], ids=repr)
def test_refund_amounts(amount: Any) -> None:
    """The same for refunds, where an amount is given."""
    payload = {"payment_intent": "pi_1", "amount": amount}
    assert refused("create_refund", payload) == ["/amount"]


@pytest.mark.parametrize("amount", [1, 99_999_999])
def test_bounds_are_inside(amount: int) -> None:
    """Both ends can be asked for."""
    assert check("create_payment_intent", {**PAYMENT, "amount": amount})["amount"] == amount


@pytest.mark.parametrize("currency", CURRENCIES, ids=repr)
def test_currencies(currency: Any) -> None:
    """Only codes that ISO 4217 has for money."""
    assert refused("create_payment_intent", {**PAYMENT, "currency": currency}) == ["/currency"]


@pytest.mark.parametrize("currency", ["usd", "USD", "Usd"])
def test_currency_is_lower_cased(currency: str) -> None:
    """One spelling, so that the same key always goes with the same bytes."""
    assert check("create_payment_intent", {**PAYMENT, "currency": currency})["currency"] == "usd"


@pytest.mark.parametrize("metadata, pointer", NO_METADATA, ids=lambda v: repr(v)[:30])
@pytest.mark.parametrize("operation", BASES)
def test_metadata(operation: str, metadata: Any, pointer: str) -> None:
    """Stripe's limits: 50 keys, two of them ours, of 40 characters, with texts of 500."""
    base = BASES[operation]
    assert refused(operation, {**base, "metadata": metadata}) == [pointer]


def test_metadata_up_to_the_limits() -> None:
    """48 keys of 40 characters with 500 each are accepted as they are."""
    metadata = {f"{n:02}".ljust(40, "k"): "é" * 500 for n in range(48)}
    assert check("create_payment_intent", {**PAYMENT, "metadata": metadata})["metadata"] == metadata


@pytest.mark.parametrize("payment_intent", IDS, ids=repr)
@pytest.mark.parametrize(
    "operation", ["retrieve_payment_intent", "cancel_payment_intent", "create_refund"]
)
def test_ids_go_into_urls(operation: str, payment_intent: Any) -> None:
    """So nothing but an id of the right sort is let through."""
    assert refused(operation, {"payment_intent": payment_intent}) == ["/payment_intent"]


@pytest.mark.parametrize(
    "customer", ["", "cus_", "cus_1/sources", "cus_1\r\n", "pi_1", 5], ids=repr
)
def test_customer_ids(customer: Any) -> None:
    """The same for customers, in a URL and in a form."""
    assert refused("delete_customer", {"customer": customer}) == ["/customer"]
    assert refused("create_payment_intent", {**PAYMENT, "customer": customer}) == ["/customer"]


@pytest.mark.parametrize(
    "field, value",
    [
        ("payment_method", "visa"),
        ("payment_method", "pm_1/x"),
        ("confirm", "true"),
        ("confirm", 1),
        ("capture_method", "later"),
        ("description", ""),
        ("description", "x" * 501),
        ("description", "nul\x00"),
        ("description", "\udfff"),
        ("unknown", 1),
        ("automatic_payment_methods", {"enabled": True}),
    ],
)
def test_other_fields_of_a_payment(field: str, value: Any) -> None:
    """Every field is checked, and one that nobody knows is refused."""
    assert refused("create_payment_intent", {**PAYMENT, field: value}) == [f"/{field}"]


@pytest.mark.parametrize(
    "email",
    ["", "jo", "@", "jo@", "@example.com", "jo doe@example.com", "jo@exa mple.com", "a@b@c",
     "jo@example.com\x00", "jo@example.com\n", "jo@" + "x" * 260, "\ud800@example.com", 7, None],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_emails(email: Any) -> None:
    """One address, bounded, without space or control characters."""
    assert refused("create_customer", {"email": email}) == ["/email"]


@pytest.mark.parametrize("name", ["", "x" * 257, "nul\x00", 3])
def test_names(name: Any) -> None:
    """A name is a bounded text."""
    assert refused("create_customer", {"email": "jo@example.com", "name": name}) == ["/name"]


@pytest.mark.parametrize(
    "field, value, pointer",
    [
        ("limit", 0, "/limit"),
        ("limit", 101, "/limit"),
        ("limit", True, "/limit"),
        ("created_from", -1, "/created_from"),
        ("created_from", 1.5, "/created_from"),
        ("starting_after", "pi_1", "/starting_after"),
        ("ending_before", "evt_1&x=1", "/ending_before"),
        ("types", [], "/types"),
        ("types", ["a"] * 21, "/types"),
        ("types", [1], "/types/0"),
        ("types", "charge.refunded", "/types"),
    ],
)
def test_pages_of_events(field: str, value: Any, pointer: str) -> None:
    """What a page of events can be narrowed by."""
    assert refused("list_events", {field: value}) == [pointer]


@pytest.mark.parametrize("reason", ["", "because", "abandoned", 1])
def test_refund_reasons(reason: Any) -> None:
    """Only what Stripe knows as a reason."""
    assert refused("create_refund", {"payment_intent": "pi_1", "reason": reason}) == ["/reason"]


@pytest.mark.parametrize("payload", [None, [], "amount=1", 7, [("amount", 1)]], ids=repr)
def test_payload_that_is_none(payload: Any) -> None:
    """What is no mapping at all has no field to point to."""
    assert refused("create_payment_intent", payload) == [""]


def test_several_fields_at_once() -> None:
    """Every wrong field is named, not the first one only."""
    assert refused("create_payment_intent", {"amount": 0, "currency": "xyz", "x": 1}) == [
        "/amount",
        "/currency",
        "/x",
    ]
