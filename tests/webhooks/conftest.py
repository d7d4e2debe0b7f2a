"""A source with known secrets, a clock to turn by hand, and what would have been published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from outbound import clock, hints
from outbound.hints import Hint
from tests.webhooks.deliveries import OLD_SECRET, SECRET
from webhooks import handlers

STRIPE: dict[str, Any] = {
    "SOURCE": "webhooks.providers.stripe.StripeSource",
    "OPTIONS": {"SECRETS": [SECRET, OLD_SECRET], "LIVEMODE": False, "TOLERANCE": 300},
}


class Clock:
    """Virtual time: it stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = datetime(2031, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def sources(settings: Settings) -> dict[str, Any]:
    """WEBHOOK_SOURCES: one enabled source, and one without a secret."""
    closed = {"SOURCE": STRIPE["SOURCE"], "OPTIONS": {"SECRETS": []}}
    settings.WEBHOOK_SOURCES = {"stripe": STRIPE, "closed": closed}
    found: dict[str, Any] = settings.WEBHOOK_SOURCES
    return found


@pytest.fixture
def virtual() -> Iterator[Clock]:
    """The clock of the engines, turned by hand."""
    moving = Clock()
    with clock.use(moving):
        yield moving


@pytest.fixture
def published(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Hint]:
    """The hints that would go to a real broker."""
    settings.EMBEDDED_BROKER = False
    sent: list[Hint] = []
    monkeypatch.setattr(hints, "announce", sent.append)
    return sent


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No handlers but those that a test registers."""
    monkeypatch.setattr(handlers, "_handlers", defaultdict(list))
