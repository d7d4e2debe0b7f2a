"""One sandbox for all tests, as new for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from sandbox.control import Sandbox
from tests.sandbox.api import Api
from tests.sandbox.receiver import Receiver

SECRET = "whsec_sandbox_tests"


@pytest.fixture(scope="session")
def running() -> Iterator[Sandbox]:
    """A process that is started once."""
    with Sandbox.start(seed=1, smtp_port=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    """As just started."""
    running.reset()
    return running


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[Api]:
    """Plain HTTP to the sandbox, over one connection."""
    with Api(sandbox.url) as api:
        yield api


@pytest.fixture
def client(sandbox: Sandbox) -> stripe.StripeClient:
    """Stripe's own package, pointed at the sandbox."""
    return stripe.StripeClient(
        "sk_test_oracle", base_addresses={"api": sandbox.url}, max_network_retries=0
    )


@pytest.fixture
def receiver(sandbox: Sandbox) -> Iterator[Receiver]:
    """Where webhooks go."""
    with Receiver() as receiver:
        sandbox.change_webhooks(url=receiver.url, secrets=[SECRET])
        yield receiver
