"""The app's start: checks, hooks of the tenants, and the embedded dispatcher."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class OutboundConfig(AppConfig):
    name = "outbound"
    verbose_name = "Outbound calls"

    def ready(self) -> None:
        from outbound import checks, dispatcher, sweep

        checks.register_all()
        dispatcher.register_backlog(sweep)
        autodiscover_modules("settlements")
