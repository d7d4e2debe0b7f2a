"""The app's start: checks, the tenants' handlers, and a place in the dispatcher."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class WebhooksConfig(AppConfig):
    name = "webhooks"
    verbose_name = "Webhooks"

    def ready(self) -> None:
        from outbound import dispatcher
        from webhooks import checks, replaying, sweep

        checks.register_all()
        dispatcher.register_backlog(sweep)
        dispatcher.register_backlog(replaying)
        autodiscover_modules("webhook_handlers")
