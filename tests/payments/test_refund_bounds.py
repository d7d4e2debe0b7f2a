"""A refund can never exceed what was captured, also when twenty requests ask at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from outbound import engine
from outbound.errors import KeyReused
from outbound.services import OutboundCall
from outbound.states import CallStatus
from payments.errors import RefundTooLarge
from payments.models import Customer, Payment, Refund
from payments.services import cancel_payment, create_customer, create_payment, refund_payment
from payments.states import RefundStatus
from tests.payments import samples
from tests.payments.conftest import ScriptedStripe, deliver, paid
from tests.payments.together import together

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

MANY = 20


def sorts(outcomes: list[Any]) -> Counter[str]:
    return Counter(type(outcome).__name__ for outcome in outcomes)


@pytest.mark.parametrize("amount", [300, 1001, 2000, 1])
def test_twenty_at_once(stripe: ScriptedStripe, amount: int) -> None:
    """As many are accepted as there is money for, and not one more."""
    payment = paid(stripe)
    outcomes = together([partial(refund_payment, payment=payment, amount=amount)] * MANY)
    fit = min(2000 // amount, MANY)
    assert sorts(outcomes) == Counter({"Refund": fit, "RefundTooLarge": MANY - fit}) + Counter()
    payment.refresh_from_db()
    assert payment.amount_reserved == fit * amount
    assert Refund.objects.count() == fit
    assert OutboundCall.objects.filter(operation="create_refund").count() == fit


def test_all_that_is_left_at_once(stripe: ScriptedStripe) -> None:
    """All that is left can be had once."""
    payment = paid(stripe)
    outcomes = together([partial(refund_payment, payment=payment)] * MANY)
    assert sorts(outcomes) == {"Refund": 1, "RefundTooLarge": MANY - 1}
    assert Refund.objects.get().amount == 2000


def test_parts_and_the_rest_at_once(stripe: ScriptedStripe) -> None:
    """In whatever order they come, the sum is never more than there was."""
    payment = paid(stripe)
    asked: list[int | None] = [None, 999, 700, 301] * 5
    outcomes = together(
        [partial(refund_payment, payment=payment, amount=amount) for amount in asked]
    )
    accepted = [o.amount or 0 for o in outcomes if isinstance(o, Refund)]
    assert sorts(outcomes).keys() == {"Refund", "RefundTooLarge"}
    payment.refresh_from_db()
    assert sum(accepted) == payment.amount_reserved <= 2000


@pytest.mark.parametrize("amount", [300, None])
def test_equal_requests_at_once(stripe: ScriptedStripe, amount: int | None) -> None:
    """Twenty equal requests under one key are one refund, and one reservation."""
    payment = paid(stripe)
    ask = partial(refund_payment, payment=payment, amount=amount, idempotency_key="k")
    outcomes = together([ask] * MANY)
    refund = Refund.objects.get()
    assert outcomes == [refund] * MANY
    payment.refresh_from_db()
    assert payment.amount_reserved == refund.amount == (amount or 2000)


def test_equal_requests_for_a_payment_made_elsewhere() -> None:
    """The same where there is nothing of ours to lock."""
    ask = partial(refund_payment, payment="pi_elsewhere", amount=5, idempotency_key="k")
    assert together([ask] * MANY) == [Refund.objects.get()] * MANY


@pytest.mark.parametrize(
    "ask, model",
    [
        (partial(create_payment, amount=5, currency="usd", idempotency_key="k"), Payment),
        (partial(create_customer, email="jo@example.com", idempotency_key="k"), Customer),
    ],
    ids=["payment", "customer"],
)
def test_equal_creates_at_once(ask: Callable[[], Any], model: Any) -> None:
    """Twenty equal requests under one key are one row."""
    assert together([ask] * MANY) == [model.objects.get()] * MANY
    assert OutboundCall.objects.count() == 1


def test_different_requests_under_one_key(stripe: ScriptedStripe) -> None:
    """One of them has the key, the others are told, and nothing of theirs is reserved."""
    payment = paid(stripe)
    asks = [
        partial(refund_payment, payment=payment, amount=n, idempotency_key="k")
        for n in range(1, MANY + 1)
    ]
    outcomes = together(asks)
    assert sorts(outcomes) == {"Refund": 1, "KeyReused": MANY - 1}
    payment.refresh_from_db()
    assert payment.amount_reserved == Refund.objects.get().amount


def test_while_refunds_fail(stripe: ScriptedStripe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refunds that the provider refuses are released, while equal requests come again and new
    ones are made: no deadlock, and the books are right."""
    monkeypatch.setattr(engine, "DATABASE_AWAY", ())  # a deadlock shows, instead of another try
    payment = paid(stripe)
    refunds = [
        refund_payment(payment=payment, amount=100, idempotency_key=f"k{n}") for n in range(7)
    ]
    for _ in refunds:
        stripe.says(samples.invalid_request(code="charge_disputed", param=None), status=400)

    def again(number: int) -> Refund:
        return refund_payment(payment=payment, amount=100, idempotency_key=f"k{number}")

    work: list[Callable[[], Any]] = [
        *(partial(deliver, refund.call) for refund in refunds),
        *(partial(again, n) for n in range(7)),
        *(partial(refund_payment, payment=payment, amount=50) for _ in range(6)),
    ]
    outcomes = together(work)
    assert sorts(outcomes) == {"OutboundCall": 7, "Refund": 13}
    assert outcomes[7:14] == refunds
    payment.refresh_from_db()
    assert payment.amount_reserved == 6 * 50
    assert Refund.objects.filter(status=RefundStatus.FAILED).count() == 7


@pytest.mark.parametrize(
    "captured, reserved, refunded, asked, fits",
    [
        (None, 0, 0, 2000, True),
        (None, 0, 0, 2001, False),
        (None, 1999, 0, 1, True),
        (None, 2000, 0, 1, False),
        (700, 0, 0, 700, True),
        (700, 0, 0, 701, False),
        (700, 600, 0, 100, True),
        (700, 600, 0, 101, False),
        (0, 0, 0, 1, False),
        (2000, 0, 300, 1700, True),  # refunded elsewhere
        (2000, 0, 300, 1701, False),
        (2000, 500, 300, 1500, True),  # in flight, and perhaps among what is refunded
        (2000, 500, 300, 1501, False),
        (700, 800, 0, 1, False),  # reserved before the capture was known to be less
        (2500, 0, 0, 2500, True),  # captured more than asked for
        (2000, 0, 5000, 1, False),
    ],
)
def test_bounds(captured: int | None, reserved: int, refunded: int, asked: int, fits: bool) -> None:
    """The rule, number by number: reserved and refunded each leave room below the bound."""
    now = create_payment(amount=2000, currency="usd")
    Payment.objects.filter(pk=now.pk).update(
        provider_id="pi_1",
        amount_captured=captured,
        amount_reserved=reserved,
        amount_refunded=refunded,
    )
    now.refresh_from_db()
    assert (now.refundable >= asked) is fits
    if fits:
        assert refund_payment(payment=now, amount=asked).amount == asked
    else:
        with pytest.raises(RefundTooLarge):
            refund_payment(payment=now, amount=asked)
    assert Payment.objects.get().amount_reserved == reserved + (asked if fits else 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount_reserved": -1},
        {"amount_reserved": 2001},
        {"amount_reserved": 2001, "amount_captured": 2000},
        {"amount_refunded": -1},
        {"amount_captured": -1},
        {"status": "paid"},
    ],
    ids=str,
)
def test_database_refuses(changes: dict[str, Any]) -> None:
    """What no code of ours does, the database refuses."""
    create_payment(amount=2000, currency="usd")
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.update(**changes)


@pytest.mark.parametrize("changes", [{"amount": 0}, {"status": "done"}], ids=str)
def test_database_refuses_refunds(changes: dict[str, Any]) -> None:
    """The same for refunds."""
    refund_payment(payment="pi_elsewhere", amount=5)
    with pytest.raises(IntegrityError), transaction.atomic():
        Refund.objects.update(**changes)


def test_one_row_per_object() -> None:
    """No two rows of ours are the same object of the provider."""
    for _ in range(2):
        create_payment(amount=2000, currency="usd")
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.update(provider_id="pi_1")


def test_key_is_refused_while_its_call_runs(stripe: ScriptedStripe) -> None:
    """A key in use is refused for other content without waiting for the call."""
    payment = paid(stripe)
    refund = refund_payment(payment=payment, amount=5, idempotency_key="k")
    OutboundCall.objects.filter(refund=refund).update(
        status=CallStatus.RUNNING, lease_token=payment.pk
    )
    with pytest.raises(KeyReused):
        refund_payment(payment=payment, amount=6, idempotency_key="k")


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "ask",
    [partial(refund_payment, amount=5), cancel_payment],
    ids=["refund", "cancellation"],
)
def test_key_is_answered_while_its_call_is_being_settled(
    stripe: ScriptedStripe, ask: Callable[..., Any]
) -> None:
    """Who repeats a request does not wait for the transaction that settles its call, and which
    may wait for the payment itself."""
    payment = paid(stripe)

    def impatient() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
            try:
                return ask(payment=payment, idempotency_key="k")
            finally:
                cursor.execute("RESET lock_timeout")

    first = impatient()
    with transaction.atomic():
        OutboundCall.objects.filter(dedupe_key="k").update(rule="being settled")
        assert together([impatient]) == [first]
