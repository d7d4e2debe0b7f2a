"""Who may come in, and who does."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand

from api.models import ApiClient


class Command(BaseCommand):
    help = "List the clients of the HTTP API, a line each, and below it their live keys."

    def handle(self, *args: Any, **options: Any) -> None:
        for client in ApiClient.objects.prefetch_related("keys"):
            state = f"disabled {_moment(client.disabled_at)}" if client.disabled_at else "enabled"
            scopes = ",".join(client.scopes) or "-"
            self.stdout.write(f"{client.name} {state} {client.rate}/min {scopes}")
            for key in client.keys.all():
                if key.revoked_at is None:
                    used = _moment(key.last_used_at) if key.last_used_at else "never"
                    made = _moment(key.created_at)
                    self.stdout.write(f"  {key.prefix} made {made}, last used {used}")


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%MZ}"
