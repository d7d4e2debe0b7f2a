"""The worker, and what it does each time it has connected to the broker."""

from __future__ import annotations

from typing import Any

import structlog
from celery import bootsteps
from celery.apps.worker import Worker
from celery.worker.consumer import Connection

from outbound import topology

logger = structlog.get_logger(__name__)


class HoldfastWorker(Worker):
    """A worker that does not talk to other workers: nothing here needs their events or state."""

    def prepare_args(self, **kwargs: Any) -> dict[str, Any]:
        return {**kwargs, "without_gossip": True, "without_mingle": True}


class DeclareTopology(bootsteps.StartStopStep):
    """Declares exchanges and queues each time the worker has connected to the broker.

    A connection that fails is the consumer's business, which tries again for ever. Anything else
    (a queue that exists with other arguments) must not keep the worker from its other queues.
    """

    requires = (Connection,)

    def start(self, consumer: Any) -> None:
        try:
            topology.declare(consumer.app)
        except consumer.connection_errors:
            raise
        except Exception:
            logger.exception("topology_not_declared")
