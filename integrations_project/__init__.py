"""Wiring: settings, the Celery app and the addresses. Names everything below by string."""

from __future__ import annotations

from integrations_project.celery import app as celery_app

__all__ = ["celery_app"]
