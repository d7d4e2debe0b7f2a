"""What Stripe's events do to our rows, in whatever order and state they find them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from django.db import transaction

from outbound import engine, services
from outbound.adapters import Reply
from outbound.engine import Claim
from outbound.errors import PermanentError
from outbound.services import OutboundCall
from outbound.states import AttemptTrigger, CallStatus
from payments.models import Customer, Payment, Refund
from payments.services import (
    cancel_payment,
    create_customer,
    create_payment,
    delete_customer,
    refund_payment,
)
from payments.states import CustomerStatus, PaymentStatus, RefundStatus
from tests.payments import samples
from tests.payments.conftest import ScriptedStripe, deliver, paid
from tests.payments.events import event, handle, tell, tell_until_understood
from tests.payments.together import together
from webhooks.errors import NotYet
from webhooks.handlers import handled_types

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

SUCCEEDED = "payment_intent.succeeded"
FAILED = "payment_intent.payment_failed"
CANCELED = "payment_intent.canceled"
REFUNDED = "charge.refunded"
CREATED = "customer.created"
DELETED = "customer.deleted"

EVERY_TYPE = {SUCCEEDED, FAILED, CANCELED, REFUNDED, CREATED, DELETED}


def marks(call: OutboundCall | None) -> dict[str, str]:
    """What the provider keeps for us in the metadata of what this call made."""
    assert call is not None
    call.refresh_from_db()
    return {"holdfast_call": str(call.pk), "holdfast_key": call.idempotency_key}


def begin(call: OutboundCall | None) -> Claim:
    """A worker has the call, and the answer has not come."""
    assert call is not None
    plan = engine.gate(call.pk)
    assert plan is not None
    claim = engine.claim_call(plan, trigger=AttemptTrigger.AUTO, wait=None)
    assert claim is not None
    return claim


def in_status(call: OutboundCall | None, status: CallStatus) -> None:
    """Bring a new call into a status."""
    assert call is not None
    if status == CallStatus.RUNNING:
        begin(call)
    elif status != CallStatus.PENDING:
        OutboundCall.objects.filter(pk=call.pk).update(status=status)


def paid_intent(call: OutboundCall | None, **changes: Any) -> dict[str, Any]:
    return samples.intent(status="succeeded", amount_received=2000, metadata=marks(call), **changes)


def test_types() -> None:
    """These are handled, and every other type is ignored."""
    assert {kind for source, kind in handled_types() if source == "stripe"} >= EVERY_TYPE


class TestOrders:
    """Whatever comes first, the rows end the same."""

    @pytest.mark.parametrize("known", [True, False], ids=["answered", "unanswered"])
    def test_payment(self, stripe: ScriptedStripe, known: bool) -> None:
        """Failed once, paid, refunded in two steps: all orders, everything twice, after the call
        was answered and before."""
        ends = set()
        for number, order in enumerate(permutations(range(4))):
            payment = create_payment(amount=2000, currency="usd")
            name = f"pi_{number}"
            if known:
                stripe.says(samples.intent(id=name))
                deliver(payment.call)
            else:
                in_status(payment.call, CallStatus.RUNNING)
            intent = partial(samples.intent, id=name, metadata=marks(payment.call))
            charge = partial(samples.charge, payment_intent=name, metadata=marks(payment.call))
            story = [
                event(FAILED, intent(last_payment_error={"code": "card_declined"})),
                event(SUCCEEDED, intent(status="succeeded", amount_received=2000)),
                event(REFUNDED, charge(amount_refunded=500)),
                event(REFUNDED, charge(amount_refunded=1200)),
            ]
            tell_until_understood([story[n] for n in order])
            tell_until_understood([story[n] for n in order])
            payment.refresh_from_db()
            assert payment.call is not None
            ends.add(
                (
                    payment.call.status,
                    payment.status,
                    payment.provider_id == name,
                    payment.amount_captured,
                    payment.amount_refunded,
                )
            )
        assert ends == {(CallStatus.SUCCEEDED, PaymentStatus.SUCCEEDED, True, 2000, 1200)}

    def test_payment_with_its_answer(self) -> None:
        """The answer to the call is one of the words that come in any order."""
        ends = set()
        for number, order in enumerate(permutations(range(4))):
            payment = create_payment(amount=2000, currency="usd")
            claim, name = begin(payment.call), f"pi_{number}"
            created = samples.intent(id=name, metadata=marks(payment.call))
            intent = partial(samples.intent, id=name, metadata=marks(payment.call))
            charge = samples.charge(
                payment_intent=name, metadata=marks(payment.call), amount_refunded=1
            )
            story: list[Callable[[], Any]] = [
                partial(engine.settle, claim, Reply(created, name)),
                partial(tell, FAILED, intent(last_payment_error={"code": "x"})),
                partial(tell, SUCCEEDED, intent(status="succeeded", amount_received=2000)),
                partial(tell, REFUNDED, charge),
            ]
            for n in order:
                story[n]()
            payment.refresh_from_db()
            assert payment.call is not None
            ends.add((payment.call.status, payment.status, payment.amount_refunded))
        assert ends == {(CallStatus.SUCCEEDED, PaymentStatus.SUCCEEDED, 1)}

    def test_cancellation(self) -> None:
        """Created, failed, cancelled: answers and events in any order."""
        ends = set()
        for number, order in enumerate(permutations(range(3))):
            payment = create_payment(amount=2000, currency="usd")
            name = f"pi_{number}"
            engine.settle(begin(payment.call), Reply(samples.intent(id=name), name))
            payment.refresh_from_db()
            claim = begin(cancel_payment(payment=payment).cancel_call)
            intent = partial(samples.intent, id=name, metadata=marks(payment.call))
            story: list[Callable[[], Any]] = [
                partial(engine.settle, claim, Reply(intent(status="canceled"), name)),
                partial(tell, FAILED, intent()),
                partial(tell, CANCELED, intent(status="canceled")),
            ]
            for n in order:
                story[n]()
            payment.refresh_from_db()
            assert payment.cancel_call is not None
            ends.add((payment.cancel_call.status, payment.status, payment.amount_captured))
        assert ends == {(CallStatus.SUCCEEDED, PaymentStatus.CANCELLED, 0)}

    def test_customer(self) -> None:
        """Created and deleted: both answers and both events in any possible order."""
        ends = set()
        for number, order in enumerate(permutations(range(3))):
            customer = create_customer(email="jo@example.com")
            name = f"cus_{number}"
            claim = begin(customer.call)
            document = samples.customer(id=name, metadata=marks(customer.call))
            story: list[Callable[[], Any]] = [
                partial(engine.settle, claim, Reply(document, name)),
                partial(tell, CREATED, document),
                partial(tell, DELETED, document),
            ]
            for n in order:
                story[n]()
            customer.refresh_from_db()
            assert customer.call is not None
            ends.add(
                (
                    customer.call.status,
                    customer.status,
                    customer.provider_id == name,
                    str(customer.profile),
                )
            )
        assert ends == {(CallStatus.SUCCEEDED, CustomerStatus.DELETED, True, "{}")}

    def test_refund(self, stripe: ScriptedStripe) -> None:
        """The answer, the event that lists it, and one of a refund made elsewhere."""
        ends = set()
        for order in permutations(range(3)):
            payment = paid(stripe)
            refund = refund_payment(payment=payment, amount=500)
            claim, name = begin(refund.call), f"re_{payment.provider_id}"
            ours = samples.refund(id=name, amount=500, metadata=marks(refund.call))
            charge = partial(samples.charge, payment_intent=payment.provider_id)
            story: list[Callable[[], Any]] = [
                partial(engine.settle, claim, Reply(ours, name)),
                partial(tell, REFUNDED, charge(amount_refunded=500, refunds=samples.page(ours))),
                partial(tell, REFUNDED, charge(amount_refunded=800)),
            ]
            for n in order:
                story[n]()
            payment.refresh_from_db()
            refund.refresh_from_db()
            assert refund.call is not None
            ends.add(
                (
                    refund.call.status,
                    refund.status,
                    payment.amount_reserved,
                    payment.amount_refunded,
                )
            )
        assert ends == {(CallStatus.SUCCEEDED, RefundStatus.SUCCEEDED, 500, 800)}


class TestSettling:
    """An event about something whose call has no outcome yet is that outcome."""

    @pytest.mark.parametrize(
        "before, after",
        [
            (CallStatus.PENDING, CallStatus.PENDING),
            (CallStatus.RUNNING, CallStatus.SUCCEEDED),
            (CallStatus.RETRYING, CallStatus.RETRYING),  # the same key brings the stored answer
            (CallStatus.UNKNOWN, CallStatus.SUCCEEDED),
            (CallStatus.FAILED, CallStatus.FAILED),
        ],
    )
    def test_payment(self, before: CallStatus, after: CallStatus) -> None:
        """RUNNING and UNKNOWN calls are settled; the payment learns from it in any case."""
        payment = create_payment(amount=2000, currency="usd")
        in_status(payment.call, before)
        document = paid_intent(payment.call)
        tell(SUCCEEDED, document)
        payment.refresh_from_db()
        assert payment.call is not None
        assert payment.call.status == after
        assert (payment.status, payment.provider_id) == (PaymentStatus.SUCCEEDED, "pi_1")
        assert payment.amount_captured == 2000
        if after == CallStatus.SUCCEEDED:
            assert payment.call.result == document
            assert payment.call.provider_reference == "pi_1"

    def test_late_answer_is_not_written(self) -> None:
        """The worker whose call was settled by an event has lost its lease."""
        payment = create_payment(amount=2000, currency="usd")
        claim = begin(payment.call)
        tell(SUCCEEDED, paid_intent(payment.call))
        assert engine.settle(claim, PermanentError("declined")) is None
        payment.refresh_from_db()
        assert payment.call is not None
        assert payment.call.status == CallStatus.SUCCEEDED
        assert payment.status == PaymentStatus.SUCCEEDED

    @pytest.mark.parametrize("status", [CallStatus.RUNNING, CallStatus.UNKNOWN])
    def test_customer(self, status: CallStatus) -> None:
        """customer.created settles the call that created the customer."""
        customer = create_customer(email="jo@example.com")
        in_status(customer.call, status)
        tell(CREATED, samples.customer(id="cus_7", metadata=marks(customer.call)))
        customer.refresh_from_db()
        assert customer.call is not None
        assert customer.call.status == CallStatus.SUCCEEDED
        assert (customer.status, customer.provider_id) == (CustomerStatus.ACTIVE, "cus_7")

    @pytest.mark.parametrize("status", [CallStatus.RUNNING, CallStatus.UNKNOWN])
    def test_deletion(self, stripe: ScriptedStripe, status: CallStatus) -> None:
        """customer.deleted settles the call that deletes the customer."""
        customer = create_customer(email="jo@example.com")
        stripe.says(samples.customer())
        deliver(customer.call)
        customer.refresh_from_db()
        delete_customer(customer=customer)
        in_status(customer.delete_call, status)
        tell(DELETED, samples.customer())
        customer.refresh_from_db()
        assert customer.delete_call is not None
        assert customer.delete_call.status == CallStatus.SUCCEEDED
        assert (customer.status, customer.profile) == (CustomerStatus.DELETED, {})

    @pytest.mark.parametrize("status", [CallStatus.RUNNING, CallStatus.UNKNOWN])
    def test_cancellation(self, stripe: ScriptedStripe, status: CallStatus) -> None:
        """payment_intent.canceled settles the call that cancels the payment."""
        payment = create_payment(amount=2000, currency="usd")
        stripe.says(samples.intent())
        deliver(payment.call)
        payment.refresh_from_db()
        cancel_payment(payment=payment)
        in_status(payment.cancel_call, status)
        tell(CANCELED, samples.intent(status="canceled"))
        payment.refresh_from_db()
        assert payment.cancel_call is not None
        assert payment.cancel_call.status == CallStatus.SUCCEEDED
        assert payment.status == PaymentStatus.CANCELLED

    @pytest.mark.parametrize("status", [CallStatus.RUNNING, CallStatus.UNKNOWN])
    def test_payment_by_its_refund(self, status: CallStatus) -> None:
        """A refund proves the payment, though it is not the payment's own event."""
        payment = create_payment(amount=2000, currency="usd")
        in_status(payment.call, status)
        tell(REFUNDED, samples.charge(metadata=marks(payment.call), amount_refunded=2000))
        payment.refresh_from_db()
        assert payment.call is not None
        assert payment.call.status == CallStatus.SUCCEEDED
        assert (payment.status, payment.provider_id) == (PaymentStatus.SUCCEEDED, "pi_1")
        assert (payment.amount_captured, payment.amount_refunded) == (2000, 2000)

    @pytest.mark.parametrize("payment", [True, False], ids=["ours", "made elsewhere"])
    @pytest.mark.parametrize("status", [CallStatus.RUNNING, CallStatus.UNKNOWN])
    def test_refund(self, stripe: ScriptedStripe, status: CallStatus, payment: bool) -> None:
        """A charge that lists its refunds settles those that our calls made."""
        of: Payment | str = paid(stripe) if payment else "pi_elsewhere"
        refund = refund_payment(payment=of, amount=500)
        in_status(refund.call, status)
        others = [
            samples.refund(id="re_0"),
            samples.refund(id="re_1", metadata={"holdfast_call": 1}),
        ]
        ours = samples.refund(id="re_2", amount=500, metadata=marks(refund.call))
        charge = samples.charge(payment_intent=refund.payment_intent, amount_refunded=2000)
        tell(REFUNDED, charge | {"refunds": samples.page(*others, ours)})
        refund.refresh_from_db()
        assert refund.call is not None
        assert refund.call.status == CallStatus.SUCCEEDED
        assert (refund.status, refund.provider_id) == (RefundStatus.SUCCEEDED, "re_2")

    def test_refund_of_an_older_key(self, stripe: ScriptedStripe) -> None:
        """A refund that an older key of the call made does not settle it."""
        refund = refund_payment(payment=paid(stripe), amount=500)
        old = marks(refund.call)
        OutboundCall.objects.filter(refund=refund).update(
            status=CallStatus.UNKNOWN, idempotency_key="hf-new"
        )
        listed = samples.page(samples.refund(amount=500, metadata=old))
        tell(REFUNDED, samples.charge(amount_refunded=500, refunds=listed))
        refund = Refund.objects.get(pk=refund.pk)
        assert refund.call is not None
        assert refund.call.status == CallStatus.UNKNOWN
        assert refund.status == RefundStatus.REQUESTED

    def test_customer_whose_call_had_failed(self) -> None:
        """Whoever thought that the call had failed was wrong: the rows follow the provider."""
        for event_type, status in (
            (CREATED, CustomerStatus.ACTIVE),
            (DELETED, CustomerStatus.DELETED),
        ):
            customer = create_customer(email="jo@example.com")
            name = f"cus_{event_type[-4:]}"
            in_status(customer.call, CallStatus.FAILED)
            tell(event_type, samples.customer(id=name, metadata=marks(customer.call)))
            customer.refresh_from_db()
            assert (customer.status, customer.provider_id) == (status, name)

    def test_decline_is_left_to_the_answer(self) -> None:
        """The event of a decline comes with the answer to the call that was to take the money at
        once: the call has failed, and it is the answer that says so."""
        payment = create_payment(
            amount=2000, currency="usd", payment_method="pm_card_visa", confirm=True
        )
        claim = begin(payment.call)
        tell(FAILED, samples.intent(metadata=marks(payment.call)))
        payment.refresh_from_db()
        assert payment.call is not None
        assert payment.call.status == CallStatus.RUNNING
        assert payment.status == PaymentStatus.FAILED
        engine.settle(claim, PermanentError("declined", code="card_declined"))
        payment.call.refresh_from_db()
        assert payment.call.status == CallStatus.FAILED
        services.retry_call_as_new(call_id=payment.call.pk, reason="another card")
        payment.refresh_from_db()
        assert (payment.status, payment.provider_id) == (PaymentStatus.REQUESTED, None)

    def test_decline_whose_answer_was_lost(self) -> None:
        """Nobody knows what became of the call, and the event does: the payment failed, and can
        be tried again as a new one."""
        payment = create_payment(
            amount=2000, currency="usd", payment_method="pm_card_visa", confirm=True
        )
        in_status(payment.call, CallStatus.UNKNOWN)
        document = samples.intent(metadata=marks(payment.call))
        for _ in range(2):
            tell(FAILED, document)
        payment.refresh_from_db()
        assert payment.call is not None
        assert payment.call.status == CallStatus.FAILED
        assert "stripe" in payment.call.rule
        assert (payment.status, payment.provider_id) == (PaymentStatus.FAILED, "pi_1")
        services.retry_call_as_new(call_id=payment.call.pk, reason="another card")
        with pytest.raises(NotYet):
            tell(FAILED, document)
        payment.refresh_from_db()
        assert (payment.status, payment.provider_id) == (PaymentStatus.REQUESTED, None)

    def test_failure_of_an_open_payment_proves_the_payment(self) -> None:
        """A payment that the payer failed to pay is there."""
        payment = create_payment(amount=2000, currency="usd")
        begin(payment.call)
        tell(FAILED, samples.intent(metadata=marks(payment.call)))
        payment.refresh_from_db()
        assert payment.call is not None
        assert payment.call.status == CallStatus.SUCCEEDED
        assert payment.status == PaymentStatus.FAILED


class TestNotOurs:
    """What we do not know is told again for a while, and never breaks anything."""

    DOCUMENTS = {  # noqa: RUF012
        SUCCEEDED: samples.intent(id="pi_elsewhere", status="succeeded"),
        FAILED: samples.intent(id="pi_elsewhere"),
        CANCELED: samples.intent(id="pi_elsewhere", status="canceled"),
        REFUNDED: samples.charge(payment_intent="pi_elsewhere"),
        CREATED: samples.customer(id="cus_elsewhere"),
        DELETED: samples.customer(id="cus_elsewhere"),
    }

    @pytest.mark.parametrize("event_type", sorted(EVERY_TYPE))
    def test_made_elsewhere(self, event_type: str) -> None:
        """An object without our mark."""
        create_payment(amount=2000, currency="usd")
        create_customer(email="jo@example.com")
        with pytest.raises(NotYet):
            tell(event_type, self.DOCUMENTS[event_type])

    @pytest.mark.parametrize("event_type", sorted(EVERY_TYPE))
    @pytest.mark.parametrize("call_id", ["0198c0de-0000-7000-8000-000000000001", "x", "\x00", 7])
    def test_call_that_we_do_not_have(self, event_type: str, call_id: object) -> None:
        """An object with the mark of another installation of ours."""
        metadata = {"holdfast_call": call_id, "holdfast_key": "hf-x"}
        with pytest.raises(NotYet):
            tell(event_type, self.DOCUMENTS[event_type] | {"metadata": metadata})

    @pytest.mark.parametrize("event_type", sorted(EVERY_TYPE))
    def test_made_by_an_older_key(self, event_type: str) -> None:
        """After "retry as new", what the older key made is not this row's object: nothing is
        settled by it, and nothing learnt."""
        payment = create_payment(amount=2000, currency="usd")
        customer = create_customer(email="jo@example.com")
        asked = customer.call if event_type in (CREATED, DELETED) else payment.call
        old = marks(asked)
        assert asked is not None
        OutboundCall.objects.filter(pk=asked.pk).update(
            status=CallStatus.UNKNOWN, idempotency_key="hf-new"
        )
        with pytest.raises(NotYet):
            tell(event_type, self.DOCUMENTS[event_type] | {"metadata": old})
        asked.refresh_from_db()
        payment.refresh_from_db()
        assert (asked.status, payment.status) == (CallStatus.UNKNOWN, PaymentStatus.REQUESTED)

    @pytest.mark.parametrize("event_type", [SUCCEEDED, CANCELED, FAILED])
    def test_copied_mark(self, stripe: ScriptedStripe, event_type: str) -> None:
        """Somebody copied our metadata to another payment: it is another payment."""
        payment = paid(stripe)
        document = samples.intent(id="pi_copy", status="canceled", metadata=marks(payment.call))
        with pytest.raises(NotYet):
            tell(event_type, document)
        payment.refresh_from_db()
        assert payment.status == PaymentStatus.SUCCEEDED

    @pytest.mark.parametrize("event_type", sorted(EVERY_TYPE))
    @pytest.mark.parametrize(
        "document",
        [
            None,
            [],
            "pi_1",
            7,
            {},
            {"id": None},
            {"id": 7, "metadata": []},
            {"id": "x" * 300},
            {"id": "pi_1", "amount": float("inf")},
            {"id": "pi_\x00"},
            {"id": "é", "payment_intent": ["pi_1"]},
            {"payment_intent": {"id": None}, "refunds": {"data": [7, None, {"metadata": 7}]}},
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_odd_objects(self, event_type: str, document: Any) -> None:
        """An authentic event of an odd shape is not understood, and that is all."""
        with pytest.raises(NotYet):
            tell(event_type, document)

    @pytest.mark.parametrize("event_type", sorted(EVERY_TYPE))
    @pytest.mark.parametrize("payload", [{"data": None}, {"data": []}, {"data": {}}], ids=str)
    def test_no_object(self, event_type: str, payload: dict[str, Any]) -> None:
        """The same where there is no object at all."""
        with pytest.raises(NotYet):
            handle(event(event_type, None, **payload))

    @pytest.mark.parametrize("amount", [None, "500", True, 1.5, -1, 10**30, []])
    def test_odd_amounts(self, stripe: ScriptedStripe, amount: Any) -> None:
        """What is no amount changes none."""
        payment = paid(stripe)
        tell(REFUNDED, samples.charge(amount_captured=amount, amount_refunded=amount))
        tell(SUCCEEDED, samples.intent(amount_received=amount))
        payment.refresh_from_db()
        assert (payment.amount_captured, payment.amount_refunded) == (2000, 0)


def test_released_authorisation_is_no_refund(stripe: ScriptedStripe) -> None:
    """Stripe calls it a refund when money that was set aside is let go: nothing was taken."""
    payment = create_payment(amount=2000, currency="usd", capture_method="manual")
    stripe.says(samples.intent(status="requires_capture"))
    deliver(payment.call)
    charge = samples.charge(captured=False, amount_captured=0, amount_refunded=2000)
    tell(REFUNDED, charge)
    payment.refresh_from_db()
    assert payment.status == PaymentStatus.AUTHORISED
    assert (payment.amount_captured, payment.amount_refunded) == (None, 0)


def test_less_is_an_older_word(stripe: ScriptedStripe) -> None:
    """Money is captured in several steps, and the word of the first one comes last."""
    payment = create_payment(amount=2000, currency="usd")
    stripe.says(samples.intent(status="requires_capture"))
    deliver(payment.call)
    for received in (1500, 700):
        tell(SUCCEEDED, samples.intent(status="succeeded", amount_received=received))
        tell(REFUNDED, samples.charge(amount_captured=received))
    payment.refresh_from_db()
    assert payment.amount_captured == 1500


def test_refunds_made_elsewhere_count(stripe: ScriptedStripe) -> None:
    """What somebody gave back in Stripe's dashboard is not given back again."""
    payment = paid(stripe)
    tell(REFUNDED, samples.charge(amount_refunded=1999))
    payment.refresh_from_db()
    assert payment.refundable == 1


def test_effects_are_undone_with_the_transaction(stripe: ScriptedStripe) -> None:
    """A handler's effects belong to the transaction that marks the event."""
    payment = create_payment(amount=2000, currency="usd")
    begin(payment.call)
    with transaction.atomic():
        tell(SUCCEEDED, paid_intent(payment.call))
        transaction.set_rollback(True)
    payment = Payment.objects.get(pk=payment.pk)
    assert payment.call is not None
    assert (payment.status, payment.call.status) == (PaymentStatus.REQUESTED, CallStatus.RUNNING)


@pytest.mark.django_db(transaction=True)
def test_everything_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers, events, requests and a cancellation of the same payments in twenty-four threads:
    no deadlock, and the books are right."""
    monkeypatch.setattr(engine, "DATABASE_AWAY", ())  # a deadlock shows, instead of another try
    work: list[Callable[[], Any]] = []
    for number in range(4):
        payment = create_payment(amount=2000, currency="usd")
        name = f"pi_{number}"
        engine.settle(begin(payment.call), Reply(samples.intent(id=name), name))
        refunds = [refund_payment(payment=name, amount=300) for _ in range(2)]
        claims = [begin(refund.call) for refund in refunds]
        said = [
            samples.refund(id=f"re_{number}_{n}", amount=300, metadata=marks(refund.call))
            for n, refund in enumerate(refunds)
        ]
        charge = samples.charge(
            payment_intent=name,
            metadata=marks(payment.call),
            amount_refunded=600,
            refunds=samples.page(*said),
        )
        intent = paid_intent(payment.call, id=name)
        work += [
            partial(engine.settle, claims[0], Reply(said[0], said[0]["id"])),
            partial(engine.settle, claims[1], PermanentError("refused")),
            partial(tell, REFUNDED, charge),
            partial(tell, SUCCEEDED, intent),
            partial(refund_payment, payment=name, amount=400),
            partial(cancel_payment, payment=Payment.objects.get(pk=payment.pk)),
        ]
    outcomes = together(work)
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    for payment in Payment.objects.all():
        assert (payment.status, payment.amount_captured) == (PaymentStatus.SUCCEEDED, 2000)
        held = sum(refund.amount or 0 for refund in payment.refunds.holding())
        assert payment.amount_reserved == held
        assert payment.amount_refunded == 600
    assert Customer.objects.count() == 0
    assert Refund.objects.filter(status=RefundStatus.REQUESTED).count() == 4
