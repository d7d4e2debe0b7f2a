"""A retry over a real broker: prompt, without a sweep."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.house.polling import wait_until
from tests.services.broker import Broker
from tests.services.environment import ROOT
from tests.services.process import Process
from tests.webhooks.deliveries import stripe_body
from tests.webhooks.serving import Server, delivery

pytestmark = [pytest.mark.faults, pytest.mark.services]

WORKER = [sys.executable, "-m", "celery", "-A", "integrations_project", "worker"]


def test_a_retry_comes_by_message(rabbitmq: Broker, tmp_path: Path) -> None:
    """An event that came too early is tried again after seconds, though nobody sweeps here."""
    server = Server(tmp_path, broker_url=rabbitmq.url)
    worker = Process(
        name="worker",
        command=WORKER,
        environment=server.environment,
        log=tmp_path / "worker.log",
        cwd=ROOT,
    )
    try:
        wait_until(lambda: rabbitmq.consumers("webhooks-v1"), seconds=60, what="the worker listens")
        body = stripe_body(id="evt_early", type="payment_intent.succeeded")
        assert server.send(delivery(body)).json() == {"received": True}
        wait_until(lambda: server.attempts("evt_early") >= 2, seconds=60, what="a second try")
    finally:
        worker.stop()
        server.stop()
