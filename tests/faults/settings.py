"""The project's own settings with shorter waits, so that a crash is repaired in seconds."""

from __future__ import annotations

import os

from integrations_project.settings import *  # noqa: F403
from integrations_project.settings import OUTBOUND_ADAPTERS, OUTBOUND_POLICY

TOTAL_SECONDS = 3

OUTBOUND_POLICY = {
    **OUTBOUND_POLICY,
    "connect_timeout": 1.0,
    "read_timeout": 2.0,
    "total_timeout": TOTAL_SECONDS,
}
# It is waited for in full, however idle the worker is.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = TOTAL_SECONDS + 1

# A second provider, where a test has one.
if "SLOW_API_BASE" in os.environ:
    OUTBOUND_ADAPTERS["slow"] = {
        **OUTBOUND_ADAPTERS["stripe"],
        "OPTIONS": {
            **OUTBOUND_ADAPTERS["stripe"]["OPTIONS"],
            "API_BASE": os.environ["SLOW_API_BASE"],
        },
        "LIMITS": {"concurrency": int(os.environ.get("SLOW_CONCURRENCY", "0")) or None},
    }
