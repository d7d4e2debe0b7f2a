"""How gunicorn serves Holdfast; the address comes from the command line."""

from __future__ import annotations

from typing import Any

from integrations_project import metrics_folder
from integrations_project.settings import LOGGING, METRICS_DIR, METRICS_ENABLED

wsgi_app = "integrations_project.wsgi:application"

# Threads, because a request may wait for a provider (deliver_now) and must not hold up the others.
worker_class = "gthread"
workers = 2
threads = 8

# Above the longest wait of a request, 20 s, so that a slow provider never costs a worker its life.
timeout = 60
graceful_timeout = 25

# Short: a proxy in front may reuse a connection that we are just closing.
keepalive = 5

# A control socket would need a writable home.
control_socket_disable = True

# A header line that no webhook provider comes near.
limit_request_field_size = 16380

# Its own lines look like all others.
logconfig_dict = LOGGING

# Whether X-Forwarded-* is believed is TRUST_PROXY's to say; gunicorn would believe this machine.
forwarded_allow_ips = ""

# Before any process imports prometheus_client: then they count together.
counted_together = METRICS_ENABLED and metrics_folder.share(METRICS_DIR)


def on_starting(server: Any) -> None:
    """What processes have counted that are no more is forgotten."""
    if counted_together:
        metrics_folder.forget_the_dead(METRICS_DIR)


def child_exit(server: Any, worker: Any) -> None:
    """A dead process' figures of the moment are no longer of this moment; its counts stay."""
    if counted_together:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
