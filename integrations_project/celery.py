"""The Celery app. `celery -A integrations_project worker | beat`; every option is a setting."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, cast

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "integrations_project.settings")


class Holdfast(Celery):
    """Celery with our worker class, which no setting can name."""

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        count_together()
        return self.subclass_with_self(cast(Any, "integrations_project.worker:HoldfastWorker"))


def count_together() -> None:
    """Have the worker's counters shown by the web process of the same machine."""
    from django.conf import settings

    from integrations_project import metrics_folder

    if settings.METRICS_ENABLED:
        metrics_folder.share(settings.METRICS_DIR)


app = Holdfast("holdfast")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# By name, so that the web process does not load the worker.
app.steps["consumer"].add("integrations_project.worker:DeclareTopology")


@signals.setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Django has set up the logs: Celery must not."""


@signals.worker_init.connect
@signals.beat_init.connect
def refuse_to_start(**_: Any) -> None:
    """Celery runs the system checks, but does not mind what they say."""
    from integrations_project.startup import refuse_misconfiguration

    refuse_misconfiguration()
