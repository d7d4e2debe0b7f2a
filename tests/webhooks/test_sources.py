"""Sources by name, and what `manage.py check` says about them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from tests.webhooks.conftest import STRIPE
from webhooks import checks
from webhooks.errors import UnknownSource
from webhooks.handlers import Event, handled_types, handlers_for, handles
from webhooks.sources import Source, enabled_source, source_for


def check(settings: Settings, sources: object) -> list[CheckMessage]:
    settings.WEBHOOK_SOURCES = sources
    return checks.check_sources(app_configs=None)


def with_options(**options: Any) -> dict[str, Any]:
    return {"stripe": STRIPE | {"OPTIONS": {"SECRETS": ["s"]} | options}}


def test_a_sane_entry(settings: Settings) -> None:
    """Nothing to say."""
    assert check(settings, {"stripe": STRIPE}) == []
    assert check(settings, with_options(LIVEMODE=None, TOLERANCE=0.5)) == []
    assert check(settings, {}) == []


ERRORS: dict[str, tuple[object, str]] = {
    "no dict": ([], "webhooks.E001"),
    "an entry that is no dict": ({"stripe": "x"}, "webhooks.E001"),
    "options that are no dict": ({"stripe": STRIPE | {"OPTIONS": []}}, "webhooks.E001"),
    "an unknown key": ({"stripe": STRIPE | {"SORUCE": "x"}}, "webhooks.E001"),
    "a name with a slash": ({"a/b": STRIPE}, "webhooks.E001"),
    "an empty name": ({"": STRIPE}, "webhooks.E001"),
    "a name longer than its column": ({"x" * 51: STRIPE}, "webhooks.E001"),
    "a name that is no text": ({1: STRIPE}, "webhooks.E001"),
    "no class": ({"stripe": {"OPTIONS": STRIPE["OPTIONS"]}}, "webhooks.E002"),
    "a class that is not there": ({"stripe": STRIPE | {"SOURCE": "no.Such"}}, "webhooks.E002"),
    "a class that is no source": (
        {"stripe": STRIPE | {"SOURCE": "datetime.datetime"}},
        "webhooks.E002",
    ),
    "a path that is no text": ({"stripe": STRIPE | {"SOURCE": None}}, "webhooks.E002"),
    "an unknown option": (with_options(SECRET="s"), "webhooks.E003"),
    "secrets as one text": (with_options(SECRETS="whsec"), "webhooks.E003"),
    "an empty secret": (with_options(SECRETS=["s", ""]), "webhooks.E003"),
    "a secret that is no text": (with_options(SECRETS=[1]), "webhooks.E003"),
    "a mode in words": (with_options(LIVEMODE="live"), "webhooks.E003"),
    "a mode in numbers": (with_options(LIVEMODE=1), "webhooks.E003"),
    "no tolerance": (with_options(TOLERANCE=0), "webhooks.E003"),
    "a negative tolerance": (with_options(TOLERANCE=-1), "webhooks.E003"),
    "an endless tolerance": (with_options(TOLERANCE=float("inf")), "webhooks.E003"),
    "a tolerance that is no number": (with_options(TOLERANCE="300"), "webhooks.E003"),
}


@pytest.mark.parametrize("sources,error", ERRORS.values(), ids=ERRORS.keys())
def test_a_bad_entry_is_an_error(settings: Settings, sources: object, error: str) -> None:
    """A typo fails `manage.py check`, not the first event."""
    [found] = check(settings, sources)
    assert found.id == error
    assert found.is_serious()


@pytest.mark.parametrize("options", [{}, {"SECRETS": []}, {"SECRETS": None}])
def test_a_source_without_a_secret_is_a_warning(
    settings: Settings, options: dict[str, Any]
) -> None:
    """It is not enabled; the warning names the variable to set."""
    found = check(settings, {"stripe": STRIPE | {"OPTIONS": options}})
    assert "webhooks.W001" in [message.id for message in found]
    assert any("STRIPE_WEBHOOK_SECRETS" in (message.hint or "") for message in found)


def test_messages_show_no_secret(settings: Settings) -> None:
    """What is wrong with secrets is said without them."""
    secret = "whsec_CANARY"
    for options in ({"SECRETS": secret}, {"SECRETS": [secret, ""]}, {"SECRET": secret}):
        found = check(settings, {"stripe": STRIPE | {"OPTIONS": options}})
        assert not any(secret in str(message) for message in found)


@pytest.mark.parametrize("cap", [0, -1, None, "1 MiB", True, 1.5])
def test_a_cap_that_makes_no_sense(settings: Settings, cap: object) -> None:
    """WEBHOOK_MAX_BYTES is a positive whole number."""
    settings.WEBHOOK_MAX_BYTES = cap
    assert [m.id for m in checks.check_cap(app_configs=None)] == ["webhooks.E004"]


def test_a_handler_of_nobodys_events(settings: Settings) -> None:
    """A source that is misspelt in `@handles` is said."""
    handles("stripe", "a")(print)
    handles("strpie", "a")(print)
    [found] = checks.check_handlers(app_configs=None)
    assert found.id == "webhooks.W002"
    assert "'strpie'" in found.msg


@pytest.mark.parametrize("name", ["nobody", "", "Stripe", "stripe ", "\x00"])
def test_an_unknown_name(name: str) -> None:
    """There is no such source, and the refusal does not say which there are."""
    with pytest.raises(UnknownSource) as caught:
        enabled_source(name)
    assert str(caught.value) == "no such source"


def test_a_source_without_a_secret_is_not_enabled() -> None:
    """From outside it is not there; events that it brought earlier are still handled."""
    with pytest.raises(UnknownSource):
        enabled_source("closed")
    assert source_for("closed").name == "closed"


def test_a_change_of_settings_is_seen(settings: Settings) -> None:
    """Sources are made once, and anew when their settings change."""
    before = source_for("stripe")
    assert source_for("stripe") is before
    settings.WEBHOOK_SOURCES = with_options()
    assert source_for("stripe").secrets == ("s",)


def test_a_source_that_verifies_nothing(settings: Settings) -> None:
    """The base accepts nothing: whoever forgets to verify finds out."""
    source = Source(name="x", options={"SECRETS": ["s"]})
    for call in (
        lambda: source.verify(b"", {}, now=None),  # type: ignore[arg-type]
        lambda: source.parse(b"", {}),
    ):
        with pytest.raises(ImproperlyConfigured):
            call()


def test_handlers_are_kept_in_order() -> None:
    """Registered once each, however often they are registered; others do not see them."""

    @handles("stripe", "a")
    @handles("stripe", "b")
    def first(event: Event) -> None: ...

    @handles("stripe", "a")
    def second(event: Event) -> None: ...

    handles("stripe", "a")(first)
    assert handlers_for("stripe", "a") == (first, second)
    assert handlers_for("stripe", "b") == (first,)
    assert handlers_for("stripe", "c") == ()
    assert sorted(handled_types()) == [("stripe", "a"), ("stripe", "b")]
