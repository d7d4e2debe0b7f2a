"""A Celery app with the project's settings on a given broker, and what can be seen of messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from tests.integrations_project.loading import load
from tests.services.broker import Broker


def app_on(broker: Broker, state: Path) -> AbstractContextManager[Celery]:
    """The app as a production process would configure it; its connections end with the block."""
    return app_at(broker.url, state)


@contextmanager
def app_at(url: str, state: Path) -> Iterator[Celery]:
    """The same for the address of a broker that may not be there."""
    settings = load(state, CELERY_BROKER_URL=url, EMBEDDED=None)
    app = Celery("tests", set_as_current=False, changes=None)
    app.config_from_object(settings, namespace="CELERY")
    try:
        yield app
    finally:
        app.close()


def take(broker: Broker, queue: str, *, then: str) -> Any:
    """Receive one message and `ack` or `reject` it; None when there is none."""
    with broker.channel() as channel:
        message = channel.basic_get(queue)
        if message is not None:
            getattr(channel, f"basic_{then}")(
                message.delivery_tag, **({"requeue": False} if then == "reject" else {})
            )
        return message
