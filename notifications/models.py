"""The rows: a message, its recipients, the calls that carry it, what providers said of it, and who
gets nothing any more.

Addresses stand in the clear: people look for them, and suppressions are compared with them. What
is written in a message is encrypted.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from notifications.addresses import address_key_of
from notifications.states import (
    Channel,
    MessageKind,
    MessageStatus,
    RecipientKind,
    RecipientStatus,
    SuppressionReason,
    below,
)
from outbound.fields import EncryptedJSONField
from outbound.ids import uuid7

UNFINISHED = (MessageStatus.SCHEDULED, MessageStatus.SENDING)


class MessageQuerySet(models.QuerySet["Message"]):
    """Words for sets of messages, and the only way to change a status."""

    def move_to(
        self, status: MessageStatus, *, now: datetime, sources: Collection[MessageStatus]
    ) -> int:
        """Move those in one of `sources`. Returns how many moved: 0 means that someone else won."""
        return self.filter(status__in=sources).update(status=status, updated_at=now)

    def due(self, now: datetime) -> Self:
        """Scheduled ones whose time has come."""
        return self.filter(status=MessageStatus.SCHEDULED, scheduled_at__lte=now)

    def with_id(self, message_id: object) -> Self:
        """The message of that id; none when there is none, or when it is no id at all."""
        try:
            return self.filter(pk=uuid.UUID(str(message_id)))
        except ValueError:
            return self.none()


class Message(models.Model):
    """Something to be told to one or more recipients."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=20, choices=MessageKind.choices)
    status = models.CharField(max_length=20, choices=MessageStatus.choices)
    content = EncryptedJSONField(help_text="As an adapter is asked, but for the recipients.")
    route = models.JSONField(help_text="The providers that may be asked, in this order.")
    priority = models.PositiveSmallIntegerField(default=5, help_text="Lower goes first.")
    scheduled_at = models.DateTimeField(null=True, help_text="Not before this.")
    expires_at = models.DateTimeField(null=True, help_text="Not after this.")
    dedupe_key = models.CharField(  # noqa: DJ001 - NULL: no key, so no uniqueness
        max_length=255, null=True, editable=False, help_text="The caller's own idempotency key."
    )
    fingerprint = models.CharField(max_length=64, editable=False)
    reference = models.CharField(max_length=255, blank=True, help_text="The caller's own name.")
    request_id = models.CharField(max_length=128, blank=True)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = MessageQuerySet.as_manager()

    is_new = False  # set on what the services return, when it was not there before

    class Meta:
        ordering = ("-created_at",)
        permissions = (("cancel_message", "Can cancel a message"),)
        constraints = (
            models.CheckConstraint(
                name="message_status_known", condition=Q(status__in=MessageStatus.values)
            ),
            models.CheckConstraint(
                name="message_kind_known", condition=Q(kind__in=MessageKind.values)
            ),
            models.UniqueConstraint(
                name="message_dedupe_key",
                fields=("dedupe_key",),
                condition=Q(dedupe_key__isnull=False),
            ),
        )
        indexes = (
            models.Index(name="message_created", fields=("-created_at",)),
            models.Index(name="message_status", fields=("status", "-created_at")),
            models.Index(
                name="message_due",
                fields=("scheduled_at",),
                condition=Q(status=MessageStatus.SCHEDULED),
            ),
            models.Index(
                name="message_reference", fields=("reference",), condition=~Q(reference="")
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Dispatch(models.Model):
    """One call that carries a message, or a part of it, and why this provider was asked."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.ForeignKey(Message, models.CASCADE, related_name="dispatches")
    call = models.OneToOneField(
        "outbound.OutboundCall", models.SET_NULL, null=True, related_name="dispatch"
    )
    provider = models.CharField(max_length=50, help_text="The adapter's name.")
    place = models.PositiveSmallIntegerField(help_text="In the message's route, from 0.")
    why = models.CharField(max_length=200, help_text="Why this provider was asked.")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "dispatches"
        ordering = ("created_at", "id")
        indexes = (models.Index(name="dispatch_message", fields=("message", "created_at")),)

    def __str__(self) -> str:
        return f"{self.message_id} by {self.provider}"


class RecipientQuerySet(models.QuerySet["Recipient"]):
    """Words for sets of recipients, and the only way to change a status."""

    def advance_to(self, status: RecipientStatus, *, now: datetime, **changes: Any) -> int:
        """Move those of lower rank. Returns how many moved."""
        return self.filter(status__in=below(status)).update(
            status=status, updated_at=now, **changes
        )

    def ask_again(self, *, now: datetime, **changes: Any) -> int:
        """Those whom no provider has taken are to be sent to anew. Returns how many."""
        return self.filter(
            status__in=(RecipientStatus.FAILED, RecipientStatus.CANCELLED, RecipientStatus.REFUSED)
        ).update(
            status=RecipientStatus.REQUESTED,
            updated_at=now,
            provider_message_id="",
            code="",
            reason="",
            **changes,
        )

    def at(self, address: str) -> Self:
        """Those with this address, whatever its case."""
        return self.filter(address_key=address_key_of(address))


class Recipient(models.Model):
    """Somebody who shall get a message, and what became of it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.ForeignKey(Message, models.CASCADE, related_name="recipients")
    dispatch = models.ForeignKey(
        Dispatch, models.SET_NULL, null=True, related_name="recipients", help_text="The latest."
    )
    place = models.PositiveIntegerField(help_text="On the message, from 0.")
    kind = models.CharField(max_length=5, choices=RecipientKind.choices, default=RecipientKind.TO)
    address = models.CharField(max_length=4096, help_text="Email, number in E.164, or token.")
    address_key = models.CharField(max_length=255, editable=False)
    words = EncryptedJSONField(default=dict, help_text="Their name, and values for placeholders.")
    status = models.CharField(
        max_length=20, choices=RecipientStatus.choices, default=RecipientStatus.REQUESTED
    )
    provider_message_id = models.CharField(max_length=255, blank=True)
    code = models.CharField(max_length=100, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = RecipientQuerySet.as_manager()

    class Meta:
        ordering = ("message", "place")
        constraints = (
            models.CheckConstraint(
                name="recipient_status_known", condition=Q(status__in=RecipientStatus.values)
            ),
            models.UniqueConstraint(name="recipient_place", fields=("message", "place")),
        )
        indexes = (
            models.Index(name="recipient_dispatch", fields=("dispatch", "place")),
            models.Index(name="recipient_address", fields=("address_key", "-created_at")),
            models.Index(
                name="recipient_provider_message",
                fields=("provider_message_id",),
                condition=~Q(provider_message_id=""),
            ),
            models.Index(name="recipient_status", fields=("message", "status")),
        )

    def __str__(self) -> str:
        return self.address[:100]


class RecipientEvent(models.Model):
    """One word about a recipient: a provider's, or ours."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="events")
    status = models.CharField(max_length=20, choices=RecipientStatus.choices)
    provider = models.CharField(max_length=50, blank=True)
    code = models.CharField(max_length=100, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(help_text="When it happened, as far as that is known.")
    webhook_event = models.UUIDField(null=True, help_text="The event that said so.")

    class Meta:
        ordering = ("at", "id")
        indexes = (models.Index(name="recipient_event", fields=("recipient", "at")),)
        constraints = (
            models.UniqueConstraint(
                name="recipient_event_once",
                fields=("recipient", "webhook_event", "status"),
                condition=Q(webhook_event__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.status} {self.at}"


class SuppressionQuerySet(models.QuerySet["Suppression"]):
    """Words for sets of suppressions."""

    def of(self, channel: Channel, addresses: Collection[str]) -> Self:
        """Those of these addresses, whatever their case."""
        keys = {address_key_of(address) for address in addresses}
        return self.filter(channel=channel, address_key__in=keys)


class Suppression(models.Model):
    """An address that gets nothing any more. The first reason stays."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    channel = models.CharField(max_length=10, choices=Channel.choices)
    address = models.CharField(max_length=4096)
    address_key = models.CharField(max_length=255, editable=False)
    reason = models.CharField(max_length=20, choices=SuppressionReason.choices)
    note = models.CharField(max_length=500, blank=True)
    provider = models.CharField(max_length=50, blank=True)
    recipient = models.ForeignKey(
        Recipient, models.SET_NULL, null=True, help_text="The message by which we learned it."
    )
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = SuppressionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        permissions = (("lift_suppression", "Can lift a suppression"),)
        constraints = (
            models.UniqueConstraint(name="suppression_once", fields=("channel", "address_key")),
        )
        indexes = (models.Index(name="suppression_created", fields=("-created_at",)),)

    def __str__(self) -> str:
        return self.address[:100]
