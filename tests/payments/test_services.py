"""What can be asked of payments, and what is refused at once."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from outbound.errors import DeliveryError, InvalidPayload, KeyReused
from outbound.services import OutboundCall
from outbound.states import CallStatus
from payments import services
from payments.errors import RefundTooLarge
from payments.models import Customer, Payment, Refund
from payments.services import (
    cancel_payment,
    create_customer,
    create_payment,
    delete_customer,
    refund_payment,
    retrieve_payment,
)
from payments.states import CustomerStatus, PaymentStatus, RefundStatus
from tests.payments import samples
from tests.payments.conftest import ScriptedStripe, deliver, paid

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


class TestCreatePayment:
    """Asking for money."""

    def test_row_and_call(self) -> None:
        """One row of ours and one call, together, and nothing is sent yet."""
        payment = create_payment(
            amount=2000,
            currency="USD",
            metadata={"order": "7"},
            reference="order-7",
            created_by="shop",
            request_id="req-1",
        )
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.REQUESTED
        assert (payment.amount, payment.currency) == (2000, "usd")
        assert (payment.reference, payment.metadata) == ("order-7", {"order": "7"})
        assert (payment.amount_captured, payment.amount_reserved) == (None, 0)
        assert (payment.provider_id, payment.client_secret) == (None, "")
        call = payment.call
        assert call is not None
        assert call.status == CallStatus.PENDING
        assert (call.reference, call.created_by, call.request_id) == ("order-7", "shop", "req-1")
        assert call.payload == {"amount": 2000, "currency": "usd", "metadata": {"order": "7"}}

    def test_rolled_back_with_the_caller(self) -> None:
        """The call exists if and only if the transaction that asked for it commits."""
        with transaction.atomic():
            create_payment(amount=2000, currency="usd")
            transaction.set_rollback(True)
        assert not Payment.objects.exists()
        assert not OutboundCall.objects.exists()

    def test_settled(self, stripe: ScriptedStripe) -> None:
        """The provider's answer becomes the row's state; what the payer needs is in the call."""
        payment = create_payment(amount=2000, currency="usd", metadata={"order": "7"})
        stripe.says(samples.intent())
        call = deliver(payment.call)
        assert call.status == CallStatus.SUCCEEDED
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.OPEN
        assert payment.provider_id == "pi_1"
        assert payment.amount_captured is None
        assert payment.client_secret == "pi_1_secret_2"
        assert stripe.forms == [
            {
                "amount": "2000",
                "currency": "usd",
                "metadata[order]": "7",
                "metadata[holdfast_call]": str(call.pk),
                "metadata[holdfast_key]": call.idempotency_key,
            }
        ]

    def test_secret_is_nowhere_in_the_clear(self, stripe: ScriptedStripe) -> None:
        """Neither the payment's row nor what the admin shows of the attempt has it."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent())
        call = deliver(payment.call)
        secret = "pi_1_secret_2"
        assert secret not in str(Payment.objects.filter(pk=payment.pk).values())
        assert secret not in str(call.tries.values())

    def test_for_a_customer_of_ours(self, stripe: ScriptedStripe) -> None:
        """A row or the provider's id: the payment is tied to our row either way."""
        customer = create_customer(email="jo@example.com")
        stripe.says(samples.customer(id="cus_7"))
        deliver(customer.call)
        by_row = create_payment(amount=1, currency="usd", customer=customer)
        by_id = create_payment(amount=1, currency="usd", customer="cus_7")
        unknown = create_payment(amount=1, currency="usd", customer="cus_8")
        assert by_row.customer == by_id.customer == customer
        assert unknown.customer is None
        payloads = [p.call.payload["customer"] for p in (by_row, by_id, unknown) if p.call]
        assert payloads == ["cus_7", "cus_7", "cus_8"]

    def test_for_a_customer_who_is_not_there_yet(self) -> None:
        """A named error, with the field."""
        customer = create_customer(email="jo@example.com")
        with pytest.raises(InvalidPayload) as caught:
            create_payment(amount=1, currency="usd", customer=customer)
        assert [e.pointer for e in caught.value.errors] == ["/customer"]

    def test_same_key_same_payment(self) -> None:
        """The key of an equal request brings the payment that is there."""
        first = create_payment(amount=2000, currency="usd", idempotency_key="k")
        again = create_payment(amount=2000, currency="USD", idempotency_key="k")
        assert first == again
        assert OutboundCall.objects.count() == 1

    @pytest.mark.parametrize("other", [{"amount": 2001}, {"currency": "eur"}, {"confirm": True}])
    def test_same_key_other_content(self, other: dict[str, Any]) -> None:
        """The key of another request is refused, and changes nothing."""
        asked: dict[str, Any] = {"amount": 2000, "currency": "usd", "idempotency_key": "k"}
        create_payment(**asked)
        with pytest.raises(KeyReused):
            create_payment(**(asked | other))
        assert Payment.objects.count() == 1

    @pytest.mark.parametrize(
        "wrong, pointer",
        [
            ({"amount": 0}, "/amount"),
            ({"amount": -5}, "/amount"),
            ({"amount": 100_000_000}, "/amount"),
            ({"amount": 20.0}, "/amount"),
            ({"amount": True}, "/amount"),
            ({"amount": "2000"}, "/amount"),
            ({"amount": None}, "/amount"),
            ({"currency": "xyz"}, "/currency"),
            ({"currency": None}, "/currency"),
            ({"customer": "cus_1/evil"}, "/customer"),
            ({"payment_method": 7}, "/payment_method"),
            ({"confirm": "yes"}, "/confirm"),
            ({"capture_method": "never"}, "/capture_method"),
            ({"description": "\x00"}, "/description"),
            ({"metadata": {"k": 1}}, "/metadata/k"),
            ({"metadata": {"holdfast_call": "x"}}, "/metadata"),
            ({"reference": "x" * 256}, "/reference"),
            ({"idempotency_key": ""}, "/idempotency_key"),
            ({"idempotency_key": "with space"}, "/idempotency_key"),
            ({"idempotency_key": "k" * 256}, "/idempotency_key"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_bad_input(self, wrong: dict[str, Any], pointer: str) -> None:
        """A named error with a pointer to the field, and nothing is stored."""
        asked: dict[str, Any] = {"amount": 2000, "currency": "usd"}
        with pytest.raises(InvalidPayload) as caught:
            create_payment(**(asked | wrong))
        assert [error.pointer for error in caught.value.errors] == [pointer]
        assert not Payment.objects.exists()
        assert not OutboundCall.objects.exists()


class TestWait:
    """A view that needs the answer."""

    @pytest.mark.django_db(transaction=True)
    def test_answer_within_the_wait(self, stripe: ScriptedStripe) -> None:
        """The first attempt is made here and now."""
        stripe.says(samples.intent())
        payment = create_payment(amount=2000, currency="usd", wait=10)
        assert payment.status == PaymentStatus.OPEN
        assert payment.client_secret == "pi_1_secret_2"
        assert payment.call is not None
        assert payment.call.tries.get().trigger == "inline"

    @pytest.mark.django_db(transaction=True)
    def test_trouble_goes_on_in_the_background(self, stripe: ScriptedStripe) -> None:
        """What fails for the moment is returned as it stands, and is tried again."""
        stripe.says({}, status=503)
        payment = create_payment(amount=2000, currency="usd", wait=10)
        assert payment.status == PaymentStatus.REQUESTED
        assert payment.call is not None
        assert payment.call.status == CallStatus.RETRYING

    @pytest.mark.django_db(transaction=True)
    def test_declined(self, stripe: ScriptedStripe) -> None:
        """A declined card is a failed payment, with the bank's reason on the call."""
        stripe.says(samples.card_error(), status=402)
        payment = create_payment(
            amount=2000, currency="usd", payment_method="pm_card_visa", confirm=True, wait=10
        )
        assert payment.status == PaymentStatus.FAILED
        assert payment.call is not None
        assert payment.call.status == CallStatus.FAILED
        assert (payment.call.error_code, payment.call.error_http_status) == ("card_declined", 400)
        assert "insufficient_funds" in payment.call.error_message

    @pytest.mark.django_db(transaction=True)
    def test_same_key_again(self, stripe: ScriptedStripe) -> None:
        """A repeated request finds the answer of the first one, and nothing is sent."""
        stripe.says(samples.intent())
        first = create_payment(amount=2000, currency="usd", idempotency_key="k", wait=10)
        again = create_payment(amount=2000, currency="usd", idempotency_key="k", wait=10)
        assert again == first
        assert again.client_secret == "pi_1_secret_2"
        assert len(stripe.forms) == 1

    @pytest.mark.django_db(transaction=True)
    def test_nobody_else_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The sweep leaves a call alone that is just being made, and announces another at once."""
        monkeypatch.setattr(services, "deliver_now", lambda **_: None)
        inline = create_payment(amount=2000, currency="usd", wait=10).call
        other = create_payment(amount=2000, currency="usd").call
        assert inline is not None
        assert other is not None
        assert inline.hint_at - inline.due_at > other.hint_at - other.due_at

    def test_not_inside_a_transaction(self) -> None:
        """The payment must be stored before the provider is called."""
        with pytest.raises(RuntimeError, match="create_payment"):
            create_payment(amount=2000, currency="usd", wait=1)
        with pytest.raises(RuntimeError, match="retrieve_payment"):
            retrieve_payment(payment="pi_1")
        assert not OutboundCall.objects.exists()


class TestRetrievePayment:
    """Asking how a payment stands."""

    @pytest.mark.django_db(transaction=True)
    def test_row_learns_from_it(self, stripe: ScriptedStripe) -> None:
        """The provider's object is returned, and our row goes up with it."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent())
        deliver(payment.call)
        now = samples.intent(status="succeeded", amount_received=1500)
        stripe.says(now)
        assert retrieve_payment(payment=payment) == now
        assert payment.status == PaymentStatus.SUCCEEDED
        assert payment.amount_captured == 1500

    @pytest.mark.django_db(transaction=True)
    def test_payment_made_elsewhere(self, stripe: ScriptedStripe) -> None:
        """An id that we do not know is read all the same."""
        stripe.says(samples.intent(id="pi_elsewhere"))
        assert retrieve_payment(payment="pi_elsewhere")["id"] == "pi_elsewhere"
        assert not Payment.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_not_there(self, stripe: ScriptedStripe) -> None:
        """404 for what the provider does not know."""
        stripe.says(samples.invalid_request(code="resource_missing"), status=404)
        with pytest.raises(DeliveryError) as caught:
            retrieve_payment(payment="pi_none")
        assert caught.value.http_status == 404

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("payment", ["", "pi_1/../x", "cus_1", None, 7])
    def test_bad_id(self, payment: Any) -> None:
        """What is no id of a payment intent never becomes a URL."""
        with pytest.raises(InvalidPayload) as caught:
            retrieve_payment(payment=payment)
        assert [error.pointer for error in caught.value.errors] == ["/payment_intent"]


class TestCancelPayment:
    """Giving a payment up."""

    def test_cancelled(self, stripe: ScriptedStripe) -> None:
        """A call of its own, whose success is the payment's end."""
        payment = create_payment(amount=2000, currency="usd", reference="order-7")
        stripe.says(samples.intent())
        deliver(payment.call)
        cancel_payment(payment=payment, reason="abandoned")
        assert payment.status == PaymentStatus.OPEN
        assert payment.cancel_call is not None
        assert payment.cancel_call.reference == "order-7"
        stripe.says(samples.intent(status="canceled"))
        deliver(payment.cancel_call)
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.CANCELLED
        assert stripe.forms[-1] == {"cancellation_reason": "abandoned"}

    def test_too_late(self, stripe: ScriptedStripe) -> None:
        """A cancellation that the provider refuses leaves the payment as it is."""
        payment = paid(stripe)
        cancel_payment(payment=payment)
        code = "payment_intent_unexpected_state"
        stripe.says(samples.invalid_request(code=code, param=None), status=400)
        call = deliver(payment.cancel_call)
        assert (call.status, call.error_code) == (CallStatus.FAILED, code)
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.SUCCEEDED

    def test_not_there_yet(self) -> None:
        """A payment that the provider does not have cannot be cancelled there."""
        payment = create_payment(amount=2000, currency="usd")
        with pytest.raises(InvalidPayload) as caught:
            cancel_payment(payment=payment)
        assert [error.pointer for error in caught.value.errors] == ["/payment_intent"]

    def test_bad_reason(self, stripe: ScriptedStripe) -> None:
        """Only what the provider knows as a reason."""
        payment = paid(stripe)
        with pytest.raises(InvalidPayload) as caught:
            cancel_payment(payment=payment, reason="because")
        assert [error.pointer for error in caught.value.errors] == ["/cancellation_reason"]

    def test_same_key(self, stripe: ScriptedStripe) -> None:
        """The same key is the same cancellation."""
        payment = paid(stripe)
        first = cancel_payment(payment=payment, idempotency_key="k").cancel_call
        assert cancel_payment(payment=payment, idempotency_key="k").cancel_call == first
        with pytest.raises(KeyReused):
            cancel_payment(payment=payment, reason="duplicate", idempotency_key="k")
        with pytest.raises(KeyReused):
            refund_payment(payment=payment, idempotency_key="k")


class TestCustomers:
    """Letting the provider know somebody, and forget them."""

    def test_created(self, stripe: ScriptedStripe) -> None:
        """The row is there at once, and the provider's id when it has answered."""
        customer = create_customer(email="jo@example.com", name="Jo Doe", reference="user-7")
        assert customer.status == CustomerStatus.REQUESTED
        stripe.says(samples.customer(id="cus_7"))
        deliver(customer.call)
        customer.refresh_from_db()
        assert (customer.status, customer.provider_id) == (CustomerStatus.ACTIVE, "cus_7")
        assert customer.profile == {"email": "jo@example.com", "name": "Jo Doe"}

    def test_nobody_is_in_the_clear(self) -> None:
        """Who it is stands in encrypted columns only."""
        customer = create_customer(email="jo@example.com", metadata={"street": "Elm Row 7"})
        for model, pk in ((Customer, customer.pk), (OutboundCall, customer.call_id)):
            stored = raw_text(model, pk)
            assert "requested" in stored or "pending" in stored
            assert "jo@example.com" not in stored
            assert "Elm Row" not in stored

    def test_deleted(self, stripe: ScriptedStripe) -> None:
        """When the provider has forgotten them, so have we."""
        customer = create_customer(email="jo@example.com", metadata={"street": "Elm Row 7"})
        stripe.says(samples.customer())
        deliver(customer.call)
        delete_customer(customer=customer)
        assert customer.status == CustomerStatus.ACTIVE
        stripe.says({"id": "cus_1", "object": "customer", "deleted": True})
        deliver(customer.delete_call)
        customer.refresh_from_db()
        assert customer.status == CustomerStatus.DELETED
        assert (customer.profile, customer.metadata) == ({}, {})

    def test_deleted_twice(self, stripe: ScriptedStripe) -> None:
        """The answer to the first DELETE is lost; the 404 to the second does not say that it
        failed, and the look-up finds out."""
        customer = create_customer(email="jo@example.com")
        stripe.says(samples.customer())
        deliver(customer.call)
        delete_customer(customer=customer)
        stripe.drops()
        call = deliver(customer.delete_call)
        assert call.status == CallStatus.RETRYING
        OutboundCall.objects.filter(pk=call.pk).update(due_at=call.created_at)
        stripe.says(samples.invalid_request(code="resource_missing"), status=404)
        assert deliver(call).status == CallStatus.UNKNOWN
        customer.refresh_from_db()
        assert customer.status == CustomerStatus.ACTIVE

    def test_refused(self, stripe: ScriptedStripe) -> None:
        """A customer that the provider does not want is a failed one."""
        customer = create_customer(email="jo@example.com")
        stripe.says(samples.invalid_request(code="email_invalid", param="email"), status=400)
        deliver(customer.call)
        customer.refresh_from_db()
        assert (customer.status, customer.provider_id) == (CustomerStatus.FAILED, None)

    def test_same_key(self) -> None:
        """The same key is the same customer; other content is refused."""
        first = create_customer(email="jo@example.com", idempotency_key="k")
        assert create_customer(email="jo@example.com", idempotency_key="k") == first
        with pytest.raises(KeyReused):
            create_customer(email="jo@example.org", idempotency_key="k")
        assert Customer.objects.count() == 1

    def test_not_there_yet(self) -> None:
        """Who is not known there cannot be deleted there."""
        customer = create_customer(email="jo@example.com")
        with pytest.raises(InvalidPayload) as caught:
            delete_customer(customer=customer)
        assert [error.pointer for error in caught.value.errors] == ["/customer"]

    @pytest.mark.parametrize("email", ["", "jo", None, 7, "jo@example.com\x00"])
    def test_bad_email(self, email: Any) -> None:
        """A named error with the field."""
        with pytest.raises(InvalidPayload) as caught:
            create_customer(email=email)
        assert [error.pointer for error in caught.value.errors] == ["/email"]


def raw_text(model: Any, pk: object) -> str:
    """Every column of a row as the database holds it."""
    table, quote = model._meta.db_table, connection.ops.quote_name
    value = pk.hex if connection.vendor == "sqlite" else str(pk)  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {quote(table)} WHERE id = %s", [value])
        row = cursor.fetchone()
    return " ".join(
        bytes(cell).decode("latin-1") if isinstance(cell, bytes | memoryview) else str(cell)
        for cell in row
    )


class TestRefunds:
    """Giving money back, one at a time; see test_refund_bounds.py for many at once."""

    def test_part_of_it(self, stripe: ScriptedStripe) -> None:
        """Set aside at once, given back when the provider says so."""
        payment = paid(stripe)
        refund = refund_payment(payment=payment, amount=500, reason="duplicate", reference="r-1")
        payment.refresh_from_db()
        assert (payment.amount_reserved, payment.amount_refunded) == (500, 0)
        assert (refund.status, refund.amount) == (RefundStatus.REQUESTED, 500)
        stripe.says(samples.refund(amount=500))
        deliver(refund.call)
        refund.refresh_from_db()
        payment.refresh_from_db()
        assert (refund.status, refund.provider_id) == (RefundStatus.SUCCEEDED, "re_1")
        assert (payment.amount_reserved, payment.amount_refunded) == (500, 500)
        assert payment.refundable == 1500
        form = stripe.forms[-1]
        assert (form["payment_intent"], form["amount"], form["reason"]) == (
            payment.provider_id,
            "500",
            "duplicate",
        )

    def test_all_that_is_left(self, stripe: ScriptedStripe) -> None:
        """Without an amount it is the rest, and the amount is said to the provider."""
        payment = paid(stripe)
        refund_payment(payment=payment, amount=500)
        rest = refund_payment(payment=payment)
        assert (rest.amount, rest.everything) == (1500, True)
        assert rest.call is not None
        assert rest.call.payload["amount"] == 1500
        with pytest.raises(RefundTooLarge):
            refund_payment(payment=payment)

    @pytest.mark.parametrize("amount", [2001, 99_999_999])
    def test_more_than_there_was(self, stripe: ScriptedStripe, amount: int) -> None:
        """A named error that points at the amount and says what is left; nothing is stored."""
        payment = paid(stripe)
        with pytest.raises(RefundTooLarge) as caught:
            refund_payment(payment=payment, amount=amount)
        assert [error.pointer for error in caught.value.errors] == ["/amount"]
        assert caught.value.left == 2000
        assert not Refund.objects.exists()
        assert OutboundCall.objects.count() == 1

    def test_bounded_by_what_was_captured(self, stripe: ScriptedStripe) -> None:
        """Not by what was asked for, once it is known that less was taken."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent(status="succeeded", amount_received=700))
        deliver(payment.call)
        payment.refresh_from_db()
        with pytest.raises(RefundTooLarge):
            refund_payment(payment=payment, amount=701)
        assert refund_payment(payment=payment, amount=700).amount == 700

    def test_bounded_by_the_amount_while_nothing_is_known(self, stripe: ScriptedStripe) -> None:
        """Whether it was captured, the provider will say."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent(status="requires_capture"))
        deliver(payment.call)
        payment.refresh_from_db()
        with pytest.raises(RefundTooLarge):
            refund_payment(payment=payment, amount=2001)
        assert refund_payment(payment=payment, amount=2000).amount == 2000

    def test_cancelled_payment(self, stripe: ScriptedStripe) -> None:
        """Of a payment that was given up there is nothing to give back."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent(status="canceled"))
        deliver(payment.call)
        payment.refresh_from_db()
        with pytest.raises(RefundTooLarge) as caught:
            refund_payment(payment=payment, amount=1)
        assert caught.value.left == 0

    def test_payment_that_is_not_there_yet(self) -> None:
        """A payment that the provider does not have cannot be refunded."""
        payment = create_payment(amount=2000, currency="usd")
        with pytest.raises(InvalidPayload) as caught:
            refund_payment(payment=payment, amount=1)
        assert [error.pointer for error in caught.value.errors] == ["/payment_intent"]

    def test_payment_made_elsewhere(self, stripe: ScriptedStripe) -> None:
        """It is accepted, and the provider decides."""
        refund = refund_payment(payment="pi_elsewhere")
        assert (refund.payment, refund.amount) == (None, None)
        stripe.says(samples.refund(amount=4200, payment_intent="pi_elsewhere"))
        deliver(refund.call)
        refund.refresh_from_db()
        assert (refund.status, refund.amount) == (RefundStatus.SUCCEEDED, 4200)
        assert "amount" not in stripe.forms[-1]

    def test_payment_by_the_providers_id(self, stripe: ScriptedStripe) -> None:
        """A payment of ours is bounded also when it is named by the provider's id."""
        payment = paid(stripe)
        assert payment.provider_id is not None
        refund = refund_payment(payment=payment.provider_id, amount=2000)
        assert refund.payment == payment
        with pytest.raises(RefundTooLarge):
            refund_payment(payment=payment.provider_id, amount=1)

    def test_same_key_reserves_once(self, stripe: ScriptedStripe) -> None:
        """The key of an equal request brings the refund that is there, also when nothing would
        be left for another."""
        payment = paid(stripe)
        first = refund_payment(payment=payment, amount=1500, idempotency_key="k")
        again = refund_payment(payment=payment, amount=1500, idempotency_key="k")
        payment.refresh_from_db()
        assert again == first
        assert payment.amount_reserved == 1500

    def test_same_key_for_all_that_is_left(self, stripe: ScriptedStripe) -> None:
        """What was left then is what the key stands for, though nothing is left now."""
        payment = paid(stripe)
        first = refund_payment(payment=payment, idempotency_key="k")
        assert refund_payment(payment=payment, idempotency_key="k") == first
        with pytest.raises(KeyReused):
            refund_payment(payment=payment, amount=2000, idempotency_key="k")

    @pytest.mark.parametrize("other", [{"amount": 501}, {"amount": None}, {"reason": "duplicate"}])
    def test_same_key_other_content(self, stripe: ScriptedStripe, other: dict[str, Any]) -> None:
        """The key of another request is refused, and reserves nothing."""
        payment = paid(stripe)
        asked: dict[str, Any] = {"payment": payment, "amount": 500, "idempotency_key": "k"}
        refund_payment(**asked)
        with pytest.raises(KeyReused):
            refund_payment(**(asked | other))
        payment.refresh_from_db()
        assert payment.amount_reserved == 500

    def test_key_of_something_else(self, stripe: ScriptedStripe) -> None:
        """One key stands for one thing, whatever sort it is."""
        payment = paid(stripe, idempotency_key="k")
        with pytest.raises(KeyReused):
            refund_payment(payment=payment, amount=1, idempotency_key="k")
        refund_payment(payment=payment, amount=1, idempotency_key="r")
        with pytest.raises(KeyReused):
            create_payment(amount=1, currency="usd", idempotency_key="r")
        with pytest.raises(KeyReused):
            create_customer(email="jo@example.com", idempotency_key="r")

    @pytest.mark.parametrize(
        "wrong, pointer",
        [
            ({"amount": 0}, "/amount"),
            ({"amount": -1}, "/amount"),
            ({"amount": 1.5}, "/amount"),
            ({"amount": True}, "/amount"),
            ({"amount": "5"}, "/amount"),
            ({"amount": 10**30}, "/amount"),
            ({"reason": "abandoned"}, "/reason"),
            ({"metadata": {"k": 1}}, "/metadata/k"),
            ({"payment": "pi_1?x"}, "/payment_intent"),
            ({"payment": None}, "/payment_intent"),
            ({"idempotency_key": "\x00"}, "/idempotency_key"),
            ({"idempotency_key": 7}, "/idempotency_key"),
            ({"idempotency_key": "é"}, "/idempotency_key"),
            ({"reference": 7}, "/reference"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_bad_input(self, stripe: ScriptedStripe, wrong: dict[str, Any], pointer: str) -> None:
        """A named error with a pointer to the field, and nothing is set aside."""
        payment = paid(stripe)
        asked: dict[str, Any] = {"payment": payment, "amount": 500}
        with pytest.raises(InvalidPayload) as caught:
            refund_payment(**(asked | wrong))
        assert [error.pointer for error in caught.value.errors] == [pointer]
        payment.refresh_from_db()
        assert payment.amount_reserved == 0
        assert not Refund.objects.exists()


class TestFind:
    """Looking a row up by whatever id there is."""

    def test_by_either_id(self, stripe: ScriptedStripe) -> None:
        """By ours, as text or as UUID, and by the provider's."""
        payment = paid(stripe)
        for key in (payment.pk, str(payment.pk), payment.pk.hex, payment.provider_id):
            assert services.find_payment(key) == payment

    @pytest.mark.parametrize(
        "key",
        ["", "pi_none", "\x00", "\ud800", "é", None, 7, "x" * 10_000],
        ids=lambda k: repr(k)[:9],
    )
    def test_nothing(self, key: object) -> None:
        """What is no id, or nobody's, finds nothing and breaks nothing."""
        create_payment(amount=1, currency="usd")
        create_customer(email="jo@example.com")
        refund_payment(payment="pi_elsewhere")
        assert services.find_payment(key) is None
        assert services.find_customer(key) is None
        assert services.find_refund(key) is None
