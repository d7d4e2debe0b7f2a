"""The rows: clients, their keys, and the requests that must not be done twice."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from outbound.ids import uuid7


class ApiClient(models.Model):
    """A program that calls our API. Never deleted, as calls and notes name it; disabled instead."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    scopes = models.JSONField(default=list)
    rate = models.PositiveIntegerField(help_text="Requests a minute.")
    disabled_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "client"
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(name="client_name", fields=("name",)),
            models.CheckConstraint(name="client_rate_positive", condition=Q(rate__gt=0)),
        )

    def __str__(self) -> str:
        return self.name


class KeyQuerySet(models.QuerySet["ApiKey"]):
    """Words for sets of keys."""

    def live(self) -> Self:
        """Keys that open the door, if their client may come in at all."""
        return self.filter(revoked_at=None)

    def open(self) -> Self:
        """Keys that open the door."""
        return self.live().filter(client__disabled_at=None)


class ApiKey(models.Model):
    """A client's key; two may be live at a time, while one replaces the other."""

    prefix = models.CharField(primary_key=True, max_length=32)
    client = models.ForeignKey(ApiClient, models.CASCADE, related_name="keys")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the secret.")
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True, help_text="To the minute.")

    objects = KeyQuerySet.as_manager()

    class Meta:
        verbose_name = "key"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.prefix


class RequestQuerySet(models.QuerySet["IdempotentRequest"]):
    """Words for sets of requests."""

    def expired(self, now: datetime) -> Self:
        """Requests whose keys are free again."""
        return self.filter(expires_at__lte=now)

    def answered(self, status: int) -> int:
        """The first HTTP request has its answer. Returns how many were waiting for it."""
        return self.filter(first_status=None).update(first_status=status)


class IdempotentRequest(models.Model):
    """A write that was asked for under a client's key: inserted in the transaction that stores
    the call, so that there is neither without the other."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    client = models.ForeignKey(  # `request_once` begins with it
        ApiClient, models.CASCADE, related_name="requests", db_index=False
    )
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(
        max_length=64, help_text="SHA-256 of method, path and canonical JSON."
    )
    call = models.ForeignKey(
        "outbound.OutboundCall", models.CASCADE, null=True, related_name="api_requests"
    )
    first_status = models.PositiveSmallIntegerField(
        null=True, help_text="What the first HTTP request was answered; empty while it is not."
    )
    answer_due_at = models.DateTimeField(
        help_text="Without an answer by then, its process has died."
    )
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    objects = RequestQuerySet.as_manager()

    class Meta:
        verbose_name = "idempotent request"
        constraints = (models.UniqueConstraint(name="request_once", fields=("client", "key")),)
        indexes = (models.Index(name="request_expiry", fields=("expires_at",)),)

    def __str__(self) -> str:
        return f"{self.client_id} {self.created_at:%Y-%m-%d %H:%M:%S}"

    def being_answered(self, now: datetime) -> bool:
        return self.first_status is None and now < self.answer_due_at
