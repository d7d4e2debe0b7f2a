"""The rows: customers, payments and refunds. Amounts are integers in the currency's minor unit.

They outlive the calls that made them, as calls may be pruned: hence SET_NULL. Secrets of the
provider (a client_secret) stay in the call's encrypted result.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Self

from django.db import connection, models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Greatest

from outbound.fields import EncryptedJSONField
from outbound.ids import uuid7
from outbound.prepared import prepared
from payments.states import HOLDING, CustomerStatus, PaymentStatus, RefundStatus, below


class CustomerQuerySet(models.QuerySet["Customer"]):
    """Words for sets of customers, and the only way to change a status."""

    def advance_to(self, status: CustomerStatus, *, now: datetime, **changes: Any) -> int:
        """Move those of lower rank. Returns how many moved."""
        return self.filter(status__in=below(status)).update(
            status=status, updated_at=now, **changes
        )

    def ask_again(self, *, now: datetime) -> int:
        """Failed ones are requested anew. Returns how many were."""
        return self.filter(status=CustomerStatus.FAILED).update(
            status=CustomerStatus.REQUESTED, provider_id=None, updated_at=now
        )

    def name_provider_id(self, provider_id: str) -> int:
        """Remember the provider's id where none is known. Returns how many were changed."""
        return self.filter(provider_id=None).update(provider_id=provider_id)


class Customer(models.Model):
    """Somebody whom the provider knows."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    call = models.OneToOneField(
        "outbound.OutboundCall", models.SET_NULL, null=True, related_name="customer"
    )
    delete_call = models.OneToOneField(
        "outbound.OutboundCall", models.SET_NULL, null=True, related_name="deleted_customer"
    )
    provider_id = models.CharField(  # noqa: DJ001 - unique where it is known
        max_length=255, null=True, blank=True
    )
    status = models.CharField(
        max_length=20, choices=CustomerStatus.choices, default=CustomerStatus.REQUESTED
    )
    profile = EncryptedJSONField(
        default=dict, help_text="Email and name; emptied when the customer is deleted."
    )
    reference = models.CharField(max_length=255, blank=True)
    metadata = EncryptedJSONField(default=dict)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = CustomerQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.CheckConstraint(
                name="customer_status_known", condition=Q(status__in=CustomerStatus.values)
            ),
            models.UniqueConstraint(
                name="customer_provider_id",
                fields=("provider_id",),
                condition=Q(provider_id__isnull=False),
            ),
        )
        indexes = (
            models.Index(name="customer_created", fields=("-created_at",)),
            models.Index(name="customer_status", fields=("status", "-created_at")),
            models.Index(
                name="customer_reference", fields=("reference",), condition=~Q(reference="")
            ),
        )

    def __str__(self) -> str:
        return self.provider_id or str(self.id)


class PaymentQuerySet(models.QuerySet["Payment"]):
    """Words for sets of payments, and the only way to change a status or an amount."""

    def advance_to(self, status: PaymentStatus, *, now: datetime, **changes: Any) -> int:
        """Move those of lower rank. Returns how many moved."""
        return self.filter(status__in=below(status)).update(
            status=status, updated_at=now, **changes
        )

    def ask_again(self, *, now: datetime) -> int:
        """Failed ones are requested anew, perhaps as another object at the provider. Returns how
        many were."""
        return self.filter(status=PaymentStatus.FAILED).update(
            status=PaymentStatus.REQUESTED, provider_id=None, updated_at=now
        )

    def name_provider_id(self, provider_id: str) -> int:
        """Remember the provider's id where none is known. Returns how many were changed."""
        return self.filter(provider_id=None).update(provider_id=provider_id)

    def capture(self, amount: int) -> int:
        """The provider has at least this much. Less is an older word and changes nothing."""
        captured = Greatest(Coalesce(F("amount_captured"), 0), amount)
        return self.update(amount_captured=captured)

    def refund(self, amount: int) -> int:
        """The provider has given back at least this much. Less is an older word."""
        return self.update(amount_refunded=Greatest(F("amount_refunded"), amount))

    def reserve(self, amount: int) -> int:
        """Set an amount aside for a refund where it is left. Returns how many had it.

        Both conditions are needed: reserved are our own refunds, those in flight included;
        refunded is what the provider says, refunds made elsewhere included.
        """
        bound = Coalesce(F("amount_captured"), F("amount"))
        return self.filter(
            amount_reserved__lte=bound - amount, amount_refunded__lte=bound - amount
        ).update(amount_reserved=F("amount_reserved") + amount)

    def release(self, amount: int) -> int:
        """Give back what was set aside for a refund that did not happen."""
        return self.update(amount_reserved=F("amount_reserved") - amount)


class Payment(models.Model):
    """Money that somebody is asked for."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    call = models.OneToOneField(
        "outbound.OutboundCall", models.SET_NULL, null=True, related_name="payment"
    )
    cancel_call = models.OneToOneField(
        "outbound.OutboundCall", models.SET_NULL, null=True, related_name="cancelled_payment"
    )
    customer = models.ForeignKey(
        Customer, models.PROTECT, null=True, blank=True, related_name="payments"
    )
    provider_id = models.CharField(  # noqa: DJ001 - unique where it is known
        max_length=255, null=True, blank=True
    )
    status = models.CharField(
        max_length=20, choices=PaymentStatus.choices, default=PaymentStatus.REQUESTED
    )
    amount = models.BigIntegerField(help_text="In the currency's minor unit, like all amounts.")
    currency = models.CharField(max_length=3)
    amount_captured = models.BigIntegerField(null=True, help_text="Empty while it is not known.")
    amount_reserved = models.BigIntegerField(
        default=0, help_text="Our own refunds, in flight or done."
    )
    amount_refunded = models.BigIntegerField(
        default=0, help_text="Given back, refunds made elsewhere included."
    )
    reference = models.CharField(max_length=255, blank=True)
    metadata = EncryptedJSONField(default=dict)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = PaymentQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.CheckConstraint(
                name="payment_status_known", condition=Q(status__in=PaymentStatus.values)
            ),
            models.CheckConstraint(name="payment_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="payment_captured_not_negative",
                condition=Q(amount_captured=None) | Q(amount_captured__gte=0),
            ),
            models.CheckConstraint(
                name="payment_refunded_not_negative", condition=Q(amount_refunded__gte=0)
            ),
            models.CheckConstraint(
                name="payment_reserved_in_bounds",
                condition=Q(amount_reserved__gte=0)
                & (
                    Q(amount_reserved__lte=F("amount"))
                    | Q(amount_captured__isnull=False, amount_reserved__lte=F("amount_captured"))
                ),
            ),
            models.UniqueConstraint(
                name="payment_provider_id",
                fields=("provider_id",),
                condition=Q(provider_id__isnull=False),
            ),
        )
        indexes = (
            models.Index(name="payment_created", fields=("-created_at",)),
            models.Index(name="payment_status", fields=("status", "-created_at")),
            models.Index(
                name="payment_reference", fields=("reference",), condition=~Q(reference="")
            ),
        )

    def __str__(self) -> str:
        return self.provider_id or str(self.id)

    @property
    def refundable(self) -> int:
        """What may still be given back."""
        bound = self.amount if self.amount_captured is None else self.amount_captured
        return max(bound - max(self.amount_reserved, self.amount_refunded), 0)

    @property
    def client_secret(self) -> str:
        """What the payer's browser needs to pay; '' while there is none. Show it to the payer
        only, and log it nowhere."""
        result = self.call.result if self.call else None
        secret = (result or {}).get("client_secret")
        return secret if isinstance(secret, str) else ""


RESERVE_AT_ONCE = """
    UPDATE payments_payment SET amount_reserved = amount_reserved + %s
    WHERE provider_id = %s
        AND amount_reserved <= COALESCE(amount_captured, amount) - %s
        AND amount_refunded <= COALESCE(amount_captured, amount) - %s
    RETURNING id
"""


def reserve_at_once(provider_id: str, amount: int) -> uuid.UUID | None:
    """`reserve`, where nothing but the provider's id is known: the payment's id, and its row is
    locked; None where there is no such payment, or not so much left. One short statement instead
    of a query, built and read by the ORM, and an update."""
    with connection.cursor() as cursor:
        cursor.execute(prepared(RESERVE_AT_ONCE), [amount, provider_id, amount, amount])
        found = cursor.fetchone()
    if found is None:
        return None
    payment_id: uuid.UUID = Payment._meta.pk.to_python(found[0])  # noqa: SLF001 - a public API
    return payment_id


class RefundQuerySet(models.QuerySet["Refund"]):
    """Words for sets of refunds, and the only way to change a status."""

    def holding(self) -> Self:
        """Refunds that count against what may be refunded."""
        return self.filter(status__in=HOLDING)

    def succeeded(self) -> Self:
        return self.filter(status=RefundStatus.SUCCEEDED)

    def advance_to(self, status: RefundStatus, *, now: datetime, **changes: Any) -> int:
        """Move those of lower rank, which still count. Returns how many moved."""
        return (
            self.holding()
            .filter(status__in=below(status))
            .update(status=status, updated_at=now, **changes)
        )

    def ask_again(self, *, now: datetime) -> int:
        """Failed ones are requested anew. Returns how many were."""
        return self.filter(status=RefundStatus.FAILED).update(
            status=RefundStatus.REQUESTED, provider_id=None, updated_at=now
        )

    def name_provider_id(self, provider_id: str, *, amount: int | None) -> int:
        """Remember the provider's id, and its amount, where none is known."""
        self.filter(amount=None).update(amount=amount or None)
        return self.filter(provider_id=None).update(provider_id=provider_id or None)


class Refund(models.Model):
    """Money that is given back."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    call = models.OneToOneField(
        "outbound.OutboundCall", models.SET_NULL, null=True, related_name="refund"
    )
    payment = models.ForeignKey(
        Payment,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="refunds",
        help_text="Empty for a payment that was not made here.",
    )
    payment_intent = models.CharField(max_length=255)
    provider_id = models.CharField(  # noqa: DJ001 - unique where it is known
        max_length=255, null=True, blank=True
    )
    status = models.CharField(
        max_length=20, choices=RefundStatus.choices, default=RefundStatus.REQUESTED
    )
    amount = models.BigIntegerField(
        null=True, help_text="Empty while it is the provider who knows what was left."
    )
    everything = models.BooleanField(
        default=False, help_text="Asked for without an amount: all that was left."
    )
    reason = models.CharField(max_length=30, blank=True)
    reference = models.CharField(max_length=255, blank=True)
    metadata = EncryptedJSONField(default=dict)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = RefundQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.CheckConstraint(
                name="refund_status_known", condition=Q(status__in=RefundStatus.values)
            ),
            models.CheckConstraint(
                name="refund_amount_positive", condition=Q(amount=None) | Q(amount__gt=0)
            ),
            models.CheckConstraint(
                name="refund_of_ours_has_amount",
                condition=Q(payment=None) | Q(amount__isnull=False),
            ),
            models.UniqueConstraint(
                name="refund_provider_id",
                fields=("provider_id",),
                condition=Q(provider_id__isnull=False),
            ),
        )
        indexes = (
            models.Index(name="refund_created", fields=("-created_at",)),
            models.Index(name="refund_status", fields=("status", "-created_at")),
            models.Index(name="refund_payment_intent", fields=("payment_intent",)),
            models.Index(
                name="refund_reference", fields=("reference",), condition=~Q(reference="")
            ),
        )

    def __str__(self) -> str:
        return self.provider_id or str(self.id)
