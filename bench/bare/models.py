"""One row for each request."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Event(models.Model):
    """One row for each event: what a webhook's view stores."""

    event_id = models.CharField(max_length=255, unique=True)
    event_type = models.CharField(max_length=255)
    payload = models.JSONField()
    received_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[Event]] = models.Manager()

    class Meta:
        app_label = "bare"
        db_table = "bench_bare_event"

    def __str__(self) -> str:
        return self.event_id


class Row(models.Model):
    payload = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[Row]] = models.Manager()

    class Meta:
        app_label = "bare"
        db_table = "bench_bare_row"

    def __str__(self) -> str:
        return f"row {self.pk}"
