"""What becomes of our rows with every outcome of a call, once and again."""

from __future__ import annotations

import pytest

from outbound import clock, services
from outbound.errors import RetryRefused
from outbound.hooks import run_settled_hooks
from outbound.services import OutboundCall
from outbound.states import CallStatus
from payments.models import Customer, Payment, Refund
from payments.services import create_customer, create_payment, refund_payment
from payments.states import CustomerStatus, PaymentStatus, RefundStatus
from tests.payments import samples
from tests.payments.conftest import ScriptedStripe, deliver, paid

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

STATUSES = [
    ("requires_payment_method", PaymentStatus.OPEN),
    ("requires_confirmation", PaymentStatus.OPEN),
    ("requires_action", PaymentStatus.OPEN),
    ("processing", PaymentStatus.PROCESSING),
    ("requires_capture", PaymentStatus.AUTHORISED),
    ("canceled", PaymentStatus.CANCELLED),
    ("succeeded", PaymentStatus.SUCCEEDED),
    ("from_the_future", PaymentStatus.OPEN),
]


def make_unknown(call: OutboundCall | None) -> OutboundCall:
    """As after an attempt whose outcome nobody knows."""
    assert call is not None
    OutboundCall.objects.filter(pk=call.pk).update(status=CallStatus.UNKNOWN)
    return OutboundCall.objects.get(pk=call.pk)


def settle_again(call: OutboundCall | None) -> None:
    """The sweep runs hooks again where it is not sure that they passed."""
    assert call is not None
    call.refresh_from_db()
    assert run_settled_hooks(call, now=clock.now())


def refuse(stripe: ScriptedStripe) -> None:
    stripe.says(samples.invalid_request(code="charge_disputed", param=None), status=400)


class TestPayments:
    """Payments and the call that makes them."""

    @pytest.mark.parametrize("said, status", STATUSES)
    def test_statuses(self, stripe: ScriptedStripe, said: str, status: PaymentStatus) -> None:
        """Every state of a payment intent is one of ours."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent(status=said))
        deliver(payment.call)
        payment.refresh_from_db()
        assert payment.status == status

    def test_last_attempt_failed(self, stripe: ScriptedStripe) -> None:
        """A payment that could be tried again has failed for now."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent(last_payment_error={"code": "card_declined"}))
        deliver(payment.call)
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.FAILED

    @pytest.mark.parametrize(
        "said, received, captured",
        [
            ("succeeded", 2000, 2000),
            ("succeeded", 700, 700),
            ("succeeded", None, None),
            ("succeeded", "2000", None),
            ("succeeded", True, None),
            ("succeeded", -1, None),
            ("succeeded", 10**30, None),
            ("canceled", 0, 0),
            ("requires_payment_method", 0, None),
            ("requires_capture", 0, None),
        ],
    )
    def test_captured(
        self, stripe: ScriptedStripe, said: str, received: object, captured: int | None
    ) -> None:
        """Known when it is decided, and only when it is an amount."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent(status=said, amount_received=received))
        assert deliver(payment.call).status == CallStatus.SUCCEEDED
        payment.refresh_from_db()
        assert payment.amount_captured == captured

    def test_unknown_leaves_it_open(self, stripe: ScriptedStripe) -> None:
        """Nobody knows whether the payment is there: the row says no more than that it is
        asked for."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says({}, status=500, headers="Stripe-Should-Retry: false")
        assert deliver(payment.call).status == CallStatus.UNKNOWN
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.REQUESTED

    def test_cancelled_before_it_was_sent(self) -> None:
        """A call that is stopped in time is a payment that will never be."""
        payment = create_payment(amount=2000, currency="usd")
        services.cancel_call(call_id=payment.call_id)
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.CANCELLED

    def test_resolved_by_a_person(self) -> None:
        """A person who found the payment gives its id, and nothing else is known."""
        payment = create_payment(amount=2000, currency="usd")
        make_unknown(payment.call)
        services.resolve_call(
            call_id=payment.call_id, succeeded=True, reason="seen", provider_reference="pi_9"
        )
        payment.refresh_from_db()
        assert (payment.status, payment.provider_id) == (PaymentStatus.OPEN, "pi_9")

    def test_resolved_by_a_person_without_an_id(self) -> None:
        """The same without the id."""
        payment = create_payment(amount=2000, currency="usd")
        make_unknown(payment.call)
        services.resolve_call(call_id=payment.call_id, succeeded=True, reason="seen")
        payment.refresh_from_db()
        assert (payment.status, payment.provider_id) == (PaymentStatus.OPEN, None)

    def test_declined_and_retried_as_new(self, stripe: ScriptedStripe) -> None:
        """A new key is a new payment at the provider, and the row follows it."""
        payment = create_payment(
            amount=2000, currency="usd", payment_method="pm_card_visa", confirm=True
        )
        stripe.says(samples.card_error(), status=402)
        call = deliver(payment.call)
        old_key = call.idempotency_key
        services.retry_call_as_new(call_id=call.pk, reason="the card works again")
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.REQUESTED
        stripe.says(samples.intent(id="pi_2", status="succeeded", amount_received=2000))
        deliver(call)
        payment.refresh_from_db()
        assert (payment.status, payment.provider_id) == (PaymentStatus.SUCCEEDED, "pi_2")
        assert stripe.forms[0]["metadata[holdfast_key]"] == old_key
        assert stripe.forms[1]["metadata[holdfast_key]"] != old_key

    @pytest.mark.parametrize(
        "status",
        [s for s in PaymentStatus if s not in (PaymentStatus.REQUESTED, PaymentStatus.FAILED)],
    )
    def test_not_retried_once_there_is_a_payment(
        self, stripe: ScriptedStripe, status: PaymentStatus
    ) -> None:
        """An event has said meanwhile that there is one: a retry could take the money twice."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.card_error(), status=402)
        call = deliver(payment.call)
        Payment.objects.filter(pk=payment.pk).update(status=status)
        for retry in (services.retry_call, services.retry_call_as_new):
            with pytest.raises(RetryRefused):
                retry(call_id=call.pk, reason="let us see")
        call.refresh_from_db()
        assert call.status == CallStatus.FAILED

    def test_hooks_run_again(self, stripe: ScriptedStripe) -> None:
        """A hook that runs again changes nothing, and takes nothing back that an event said."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent())
        deliver(payment.call)
        Payment.objects.update(status=PaymentStatus.SUCCEEDED, amount_captured=2000)
        settle_again(payment.call)
        payment.refresh_from_db()
        assert (payment.status, payment.amount_captured) == (PaymentStatus.SUCCEEDED, 2000)

    def test_call_of_somebody_else(self, stripe: ScriptedStripe) -> None:
        """A call that was enqueued without a row of ours settles without one."""
        call = services.enqueue_call(
            adapter="stripe",
            operation="create_payment_intent",
            payload={"amount": 1, "currency": "usd"},
        )
        stripe.says(samples.intent())
        settled = deliver(call)
        assert (settled.status, settled.hook_error) == (CallStatus.SUCCEEDED, "")


class TestCustomers:
    """Customers and the calls that make and delete them."""

    def test_failed_and_retried(self, stripe: ScriptedStripe) -> None:
        """What failed may be asked for again."""
        customer = create_customer(email="jo@example.com")
        refuse(stripe)
        call = deliver(customer.call)
        services.retry_call(call_id=call.pk)
        customer.refresh_from_db()
        assert customer.status == CustomerStatus.REQUESTED
        stripe.says(samples.customer())
        deliver(call)
        customer.refresh_from_db()
        assert (customer.status, customer.provider_id) == (CustomerStatus.ACTIVE, "cus_1")

    @pytest.mark.parametrize("status", [CustomerStatus.ACTIVE, CustomerStatus.DELETED])
    def test_not_retried_once_known(self, stripe: ScriptedStripe, status: CustomerStatus) -> None:
        """The provider knows the customer by now: a retry would make another one."""
        customer = create_customer(email="jo@example.com")
        refuse(stripe)
        call = deliver(customer.call)
        Customer.objects.update(status=status)
        with pytest.raises(RetryRefused):
            services.retry_call(call_id=call.pk)

    def test_cancelled_before_it_was_sent(self) -> None:
        """A call that is stopped in time is a customer who will never be."""
        customer = create_customer(email="jo@example.com")
        services.cancel_call(call_id=customer.call_id)
        customer.refresh_from_db()
        assert customer.status == CustomerStatus.CANCELLED

    def test_hooks_run_again(self, stripe: ScriptedStripe) -> None:
        """Who has been deleted stays deleted."""
        customer = create_customer(email="jo@example.com")
        stripe.says(samples.customer())
        deliver(customer.call)
        Customer.objects.update(status=CustomerStatus.DELETED)
        settle_again(customer.call)
        customer.refresh_from_db()
        assert customer.status == CustomerStatus.DELETED


class TestRefunds:
    """Refunds and what is set aside for them."""

    @pytest.mark.parametrize(
        "said, status, reserved, refunded",
        [
            ("succeeded", RefundStatus.SUCCEEDED, 500, 500),
            ("pending", RefundStatus.PENDING, 500, 0),
            ("requires_action", RefundStatus.PENDING, 500, 0),
            ("failed", RefundStatus.FAILED, 0, 0),
            ("canceled", RefundStatus.CANCELLED, 0, 0),
            (None, RefundStatus.PENDING, 500, 0),
        ],
    )
    def test_statuses(
        self,
        stripe: ScriptedStripe,
        said: str | None,
        status: RefundStatus,
        reserved: int,
        refunded: int,
    ) -> None:
        """Every state of a refund is one of ours, and what did not happen is free again."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=500)
        stripe.says(samples.refund(amount=500, status=said))
        deliver(refund.call)
        settle_again(refund.call)
        refund.refresh_from_db()
        payment.refresh_from_db()
        assert refund.status == status
        assert (payment.amount_reserved, payment.amount_refunded) == (reserved, refunded)

    def test_refused_is_released_once(self, stripe: ScriptedStripe) -> None:
        """A failed refund gives back what it had set aside, however often it is told."""
        payment = paid(stripe)
        refund_payment(payment=payment, amount=1500)
        refund = refund_payment(payment=payment, amount=500)
        refuse(stripe)
        deliver(refund.call)
        for _ in range(3):
            settle_again(refund.call)
        refund.refresh_from_db()
        payment.refresh_from_db()
        assert (refund.status, payment.amount_reserved) == (RefundStatus.FAILED, 1500)

    def test_cancelled_is_released(self, stripe: ScriptedStripe) -> None:
        """A refund that was stopped in time gives back what it had set aside."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=500)
        services.cancel_call(call_id=refund.call_id)
        refund.refresh_from_db()
        payment.refresh_from_db()
        assert (refund.status, payment.amount_reserved) == (RefundStatus.CANCELLED, 0)

    def test_unknown_stays_reserved(self, stripe: ScriptedStripe) -> None:
        """It may have happened: nobody else gets that money until it is known."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=500)
        stripe.says({}, status=500, headers="Stripe-Should-Retry: false")
        assert deliver(refund.call).status == CallStatus.UNKNOWN
        payment.refresh_from_db()
        assert payment.amount_reserved == 500
        services.resolve_call(call_id=refund.call_id, succeeded=False, reason="not there")
        payment.refresh_from_db()
        assert payment.amount_reserved == 0

    def test_resolved_by_a_person(self, stripe: ScriptedStripe) -> None:
        """A person who found it counts like the provider."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=500)
        make_unknown(refund.call)
        services.resolve_call(
            call_id=refund.call_id, succeeded=True, reason="seen", provider_reference="re_9"
        )
        refund.refresh_from_db()
        payment.refresh_from_db()
        assert (refund.status, refund.provider_id) == (RefundStatus.SUCCEEDED, "re_9")
        assert payment.amount_refunded == 500

    def test_retried_is_reserved_again(self, stripe: ScriptedStripe) -> None:
        """A failed refund that is tried again needs its money again."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=500)
        refuse(stripe)
        call = deliver(refund.call)
        services.retry_call(call_id=call.pk)
        refund.refresh_from_db()
        payment.refresh_from_db()
        assert (refund.status, payment.amount_reserved) == (RefundStatus.REQUESTED, 500)
        stripe.says(samples.refund(amount=500))
        deliver(call)
        refund.refresh_from_db()
        payment.refresh_from_db()
        assert (refund.status, payment.amount_reserved) == (RefundStatus.SUCCEEDED, 500)

    def test_retry_is_refused_when_the_money_is_gone(self, stripe: ScriptedStripe) -> None:
        """Others have had it meanwhile: nothing is sent, and nothing has changed."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=500)
        refuse(stripe)
        call = deliver(refund.call)
        refund_payment(payment=payment, amount=1501)
        for retry in (services.retry_call, services.retry_call_as_new):
            with pytest.raises(RetryRefused, match="499"):
                retry(call_id=call.pk, reason="let us see")
        refund.refresh_from_db()
        payment.refresh_from_db()
        call.refresh_from_db()
        assert call.status == CallStatus.FAILED
        assert (refund.status, payment.amount_reserved) == (RefundStatus.FAILED, 1501)

    def test_retry_of_an_unknown_one_reserves_nothing_more(self, stripe: ScriptedStripe) -> None:
        """What may have happened is still set aside."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=2000)
        make_unknown(refund.call)
        services.retry_call(call_id=refund.call_id)
        payment.refresh_from_db()
        assert payment.amount_reserved == 2000

    def test_refunded_is_what_is_more(self, stripe: ScriptedStripe) -> None:
        """The provider's word and our own sum are about the same money."""
        payment = paid(stripe)
        Payment.objects.filter(pk=payment.pk).update(amount_refunded=800)  # made elsewhere
        for number, expected in ((1, 800), (2, 1000)):
            refund = refund_payment(payment=payment, amount=500)
            stripe.says(samples.refund(id=f"re_{number}", amount=500))
            deliver(refund.call)
            payment.refresh_from_db()
            assert payment.amount_refunded == expected

    def test_payment_made_elsewhere(self, stripe: ScriptedStripe) -> None:
        """Without a payment of ours there is nothing to set aside and nothing to free."""
        refund = refund_payment(payment="pi_elsewhere", amount=5)
        refuse(stripe)
        call = deliver(refund.call)
        services.retry_call(call_id=call.pk)
        stripe.says(samples.refund(amount=5))
        deliver(call)
        assert Refund.objects.get().status == RefundStatus.SUCCEEDED
