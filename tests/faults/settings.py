"""The project's own settings with shorter waits, so that a crash is repaired in seconds."""

from __future__ import annotations

from integrations_project.settings import *  # noqa: F403
from integrations_project.settings import OUTBOUND_POLICY

TOTAL_SECONDS = 3

OUTBOUND_POLICY = {
    **OUTBOUND_POLICY,
    "connect_timeout": 1.0,
    "read_timeout": 2.0,
    "total_timeout": TOTAL_SECONDS,
}
# It is waited for in full, however idle the worker is.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = TOTAL_SECONDS + 1
