"""The start of every process: error reports and system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class IntegrationsProjectConfig(AppConfig):
    name = "integrations_project"
    verbose_name = "Holdfast"

    def ready(self) -> None:
        from integrations_project import alerts, checks

        alerts.watch()
        checks.register_all()
        if settings.SENTRY_DSN:
            from integrations_project import error_reports  # Sentry's client takes its time

            error_reports.start(dsn=settings.SENTRY_DSN)
