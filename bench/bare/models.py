"""One row for each request."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Row(models.Model):
    payload = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[Row]] = models.Manager()

    class Meta:
        app_label = "bare"
        db_table = "bench_bare_row"

    def __str__(self) -> str:
        return f"row {self.pk}"
