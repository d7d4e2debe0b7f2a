"""The states of our rows. Events come in any order, so a state only ever goes up in rank; what
goes down again is a retry, and is said so."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import TextChoices


class PaymentStatus(TextChoices):
    """What became of a payment, by rising rank."""

    REQUESTED = "requested", "Requested"  # we ask for it: the call tells how far that is
    OPEN = "open", "Open"  # the provider waits for the payer
    PROCESSING = "processing", "Processing"  # the payer has paid, the bank takes its time
    FAILED = "failed", "Failed"  # refused by us, the provider or the bank; may still succeed
    AUTHORISED = "authorised", "Authorised"  # set aside, to be captured
    CANCELLED = "cancelled", "Cancelled"  # will not be paid any more
    SUCCEEDED = "succeeded", "Succeeded"


class CustomerStatus(TextChoices):
    """What became of a customer, by rising rank."""

    REQUESTED = "requested", "Requested"
    FAILED = "failed", "Failed"  # the provider does not want it
    CANCELLED = "cancelled", "Cancelled"  # never sent, because we stopped it
    ACTIVE = "active", "Active"
    DELETED = "deleted", "Deleted"  # the provider has forgotten it, and so have we


class RefundStatus(TextChoices):
    """What became of a refund, by rising rank."""

    REQUESTED = "requested", "Requested"
    PENDING = "pending", "Pending"  # the provider has it, the bank takes its time
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"  # refused: the money stays where it is
    CANCELLED = "cancelled", "Cancelled"  # given up: the money stays where it is


HOLDING = frozenset({RefundStatus.REQUESTED, RefundStatus.PENDING, RefundStatus.SUCCEEDED})
"""A refund in one of these counts against what may be refunded."""

Status = TypeVar("Status", PaymentStatus, CustomerStatus, RefundStatus)


def below(status: Status) -> list[Status]:
    """The statuses of lower rank."""
    ranked = list(type(status))
    return ranked[: ranked.index(status)]
