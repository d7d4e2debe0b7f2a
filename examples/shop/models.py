"""What the shop keeps of its own. The payment's row is the project's, and the call's too."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models


class OrderStatus(models.TextChoices):
    PLACED = "placed"
    DECLINED = "declined"
    PAID = "paid"


class Order(models.Model):
    """One order for each cart, however often its form is sent."""

    cart = models.UUIDField(unique=True, default=uuid.uuid4)
    email = models.EmailField()
    amount = models.PositiveIntegerField(help_text="In cents.")
    status = models.CharField(
        max_length=10, choices=OrderStatus.choices, default=OrderStatus.PLACED
    )
    payment = models.OneToOneField(
        "payments.Payment", null=True, on_delete=models.PROTECT, related_name="+"
    )

    objects: ClassVar[models.Manager[Order]] = models.Manager()

    class Meta:
        permissions = (("refund_order", "Can refund an order"),)

    def __str__(self) -> str:
        return f"order {self.pk}"
