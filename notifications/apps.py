"""The app's start."""

from __future__ import annotations

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"
    verbose_name = "Notifications"

    def ready(self) -> None:
        from notifications import checks, sweep
        from outbound.dispatcher import register_backlog

        checks.register_all()
        register_backlog(sweep)
