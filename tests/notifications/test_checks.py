"""What the settings of notifications are refused for, each with the variable's name."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings

from notifications.checks import check_push_key, check_routes, check_sender
from tests.notifications.conftest import Providers


def routes() -> list[str]:
    return [str(each.msg) for each in check_routes(app_configs=None)]


def test_nothing_wrong(providers: Providers) -> None:
    """A good route passes."""
    assert routes() == []
    assert check_sender(app_configs=None) == []


@pytest.mark.parametrize(
    "route,problem",
    [
        (["frist"], "'frist' is no provider that can send Email"),
        (["stripe"], "'stripe' is no provider that can send Email"),
        (["first", "first"], "'first' is there twice"),
    ],
)
def test_routes_that_lead_nowhere(
    providers: Providers, settings: LazySettings, route: list[str], problem: str
) -> None:
    """An unknown provider, one that cannot send that, and one that is there twice."""
    settings.EMAIL_ROUTE = route
    assert routes() == [f"EMAIL_ROUTE: {problem}"]


def test_two_defaults(providers: Providers, settings: LazySettings) -> None:
    """Where several could send, it must be said in which order."""
    settings.SMS_ROUTE = []
    assert routes() == ["SMS_ROUTE must say in which order: first, second"]


@pytest.mark.parametrize(
    "adapters",
    [
        None,
        {"x": None},
        {"x": {}},
        {"x": {"ADAPTER": 1}},
        {"x": {"ADAPTER": "a.B", "OPTIONS": None}},
    ],
)
def test_the_engines_findings_are_not_ours(settings: LazySettings, adapters: Any) -> None:
    """Adapters that are no entries at all are found once, by the engine's check."""
    settings.OUTBOUND_ADAPTERS = adapters
    assert routes() == []
    assert check_push_key(app_configs=None) == []


@pytest.mark.parametrize("sender", ["", "Shop", "Shop <shop@>", "a@b@c"])
def test_sender(settings: LazySettings, sender: str) -> None:
    """An address that is none."""
    settings.DEFAULT_FROM_EMAIL = sender
    (found,) = check_sender(app_configs=None)
    assert str(found.msg).startswith("DEFAULT_FROM_EMAIL ")
