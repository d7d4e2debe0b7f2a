"""What the tests of the outbound engine share."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from outbound import clock, hints, settlement
from outbound.hints import Hint
from tests.outbound.scripted import Script, scripted_settings


@pytest.fixture
def script(settings: Settings) -> Script:
    """The script that the adapter `scripted` follows; it is the only adapter there is."""
    script = Script()
    settings.OUTBOUND_ADAPTERS = scripted_settings(script)
    settings.OUTBOUND_POLICY = {}
    settings.OUTBOUND_LEASE_SECONDS = 30
    settings.OUTBOUND_HINT_GRACE_SECONDS = 10
    settings.OUTBOUND_REANNOUNCE_SECONDS = 60
    return script


class VirtualTime:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """What a monotonic clock would say."""
        return self.now.timestamp()

    def passes(self, *, seconds: float = 0, hours: float = 0) -> datetime:
        self.now += timedelta(seconds=seconds, hours=hours)
        return self.now


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    """The engine's one clock, in the test's hands."""
    virtual = VirtualTime()
    with clock.use(virtual):
        yield virtual


@pytest.fixture
def announced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Hint]:
    """Every hint that was handed to the publisher, as with a broker of its own. None is sent."""
    hinted: list[Hint] = []

    class Recorder:
        def put(self, hint: Hint) -> bool:
            hinted.append(hint)
            return True

    settings.EMBEDDED = settings.EMBEDDED_BROKER = False
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
    monkeypatch.setattr(hints, "_publisher", Recorder())
    return hinted


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register settlement hooks of an operation of `scripted` for the length of a test."""

    def register(
        operation: str, *, settled: Any = None, revived: Any = None, postponed: Any = None
    ) -> None:
        if settled is not None:
            monkeypatch.setitem(settlement._settled, ("scripted", operation), [settled])
        if revived is not None:
            monkeypatch.setitem(settlement._revived, ("scripted", operation), [revived])
        if postponed is not None:
            monkeypatch.setitem(settlement._postponed, ("scripted", operation), [postponed])

    return register


@pytest.fixture
def patience() -> Callable[..., AbstractContextManager[None]]:
    """A block that must end: one that hangs ends the test run with a traceback, so that the
    bound can be generous and no test measures time."""

    @contextmanager
    def patience(*, seconds: float) -> Iterator[None]:
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    return patience
