"""A setting that Stripe would refuse every request for fails the system check."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import checks
from pytest_django import Settings

from payments.checks import check_stripe_options


def findings(settings: Settings, **options: Any) -> list[str | None]:
    entry = settings.OUTBOUND_ADAPTERS["stripe"]
    changed = {**entry, "OPTIONS": {**entry["OPTIONS"], **options}}
    settings.OUTBOUND_ADAPTERS = {"stripe": changed, "again": changed, "broken": 7}
    found = check_stripe_options(app_configs=None)
    assert all(message.level == checks.ERROR and message.hint for message in found)
    return [message.id for message in found]


@pytest.mark.parametrize("version", ["2023-10-16", "2024-09-30.acacia", "2026-01-28.clover", ""])
def test_versions(settings: Settings, version: str) -> None:
    """Dates, with a name since 2024; none means the default."""
    assert findings(settings, API_VERSION=version) == []


@pytest.mark.parametrize(
    "version", ["v1", "2023", "2023-10-16\n", "2023-10-16.", "2023-10-16 ; x", "latest", 20231016]
)
def test_wrong_versions(settings: Settings, version: Any) -> None:
    """Anything else is named, once for each adapter entry that has it."""
    assert findings(settings, API_VERSION=version) == ["payments.E001"] * 2


@pytest.mark.parametrize("key", ["sk_test_1\n", "sk test", "'é'", "\x00", 7])
def test_wrong_keys(settings: Settings, key: Any) -> None:
    """A key that cannot stand in a header is named, and not quoted."""
    assert findings(settings, API_KEY=key) == ["payments.E002"] * 2
    assert all(str(key) not in m.msg for m in check_stripe_options(app_configs=None))


@pytest.mark.parametrize("adapters", [None, [], {}, "stripe"])
def test_what_the_engine_refuses_already(settings: Settings, adapters: Any) -> None:
    """A setting of another shape is the engine's finding, not a traceback here."""
    settings.OUTBOUND_ADAPTERS = adapters
    assert check_stripe_options(app_configs=None) == []
