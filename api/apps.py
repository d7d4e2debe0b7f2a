"""The app's start: a place in the sweep."""

from __future__ import annotations

from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "api"
    verbose_name = "HTTP API"

    def ready(self) -> None:
        from api import sweep
        from outbound import dispatcher

        dispatcher.register_backlog(sweep)
