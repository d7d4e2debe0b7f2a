"""System checks of what belongs to no app."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from integrations_project import checks
from integrations_project.environment import Environment

WORDS = {
    checks.ENVIRONMENT: "LEASE_SECONDS must be a number of seconds above 0",
    checks.DEFAULT_SECRET_KEY: "SECRET_KEY is not set",
    checks.MEMORY_BROKER: "CELERY_BROKER_URL is memory://",
    checks.EAGER: "CELERY_TASK_ALWAYS_EAGER is on",
    checks.UNCONFIRMED: "confirm_publish is off",
    checks.NO_ENCRYPTION_KEY: "FIELD_ENCRYPTION_KEYS is not set",
    checks.BAD_ENCRYPTION_KEY: "FIELD_ENCRYPTION_KEYS: number 2 is no Fernet key",
    checks.PROVIDER_ADDRESS: "STRIPE_API_BASE: http://stripe.example",
    checks.ERROR_REPORTS: "SENTRY_DSN is no DSN",
    checks.EMBEDDED_AND_BROKER: "EMBEDDED is set, but",
    checks.NO_HOSTS: "ALLOWED_HOSTS and PUBLIC_URL are not set",
}


def broken_environment() -> Environment:
    env = Environment({"LEASE_SECONDS": "-1"})
    env.seconds("LEASE_SECONDS", 30)
    return env


def stripe_at(address: str) -> dict[str, Any]:
    return {"stripe": {"ADAPTER": "x", "OPTIONS": {"API_BASE": address}}}


def ours() -> dict[str, str]:
    """What our checks say, by id."""
    return {
        str(message.id): f"{message.msg}"
        for message in run_checks()
        if str(message.id).startswith("integrations_project.")
    }


def test_the_tests_own_settings_are_well() -> None:
    """So that each case below is about what it changes."""
    assert ours() == {}


@pytest.mark.parametrize(
    "changes, id_",
    [
        ({"ENVIRONMENT": broken_environment()}, checks.ENVIRONMENT),
        ({"SECRET_KEY": "known", "DEFAULT_SECRET_KEY": "known"}, checks.DEFAULT_SECRET_KEY),
        ({"EMBEDDED": False}, checks.MEMORY_BROKER),
        ({"CELERY_TASK_ALWAYS_EAGER": True}, checks.EAGER),
        (
            {"EMBEDDED_BROKER": False, "EMBEDDED": False, "CELERY_BROKER_TRANSPORT_OPTIONS": {}},
            checks.UNCONFIRMED,
        ),
        ({"FIELD_ENCRYPTION_KEYS": []}, checks.NO_ENCRYPTION_KEY),
        ({"OUTBOUND_ADAPTERS": stripe_at("http://stripe.example")}, checks.PROVIDER_ADDRESS),
        ({"SENTRY_DSN": "not-a-dsn"}, checks.ERROR_REPORTS),
        ({"ALLOWED_HOSTS": []}, checks.NO_HOSTS),
        (
            {
                "EMBEDDED_BROKER": False,
                "CELERY_BROKER_TRANSPORT_OPTIONS": {"confirm_publish": True},
            },
            checks.EMBEDDED_AND_BROKER,
        ),
    ],
)
def test_each_has_an_id_and_names_what_to_set(changes: dict[str, Any], id_: str) -> None:
    """One wrong thing, one message."""
    with override_settings(**changes):
        found = ours()
    assert set(found) == {id_}
    assert WORDS[id_] in found[id_]


def test_a_key_that_encrypts_nothing_is_named_by_its_place(settings: Any) -> None:
    """Not by what it is."""
    settings.FIELD_ENCRYPTION_KEYS = [*settings.FIELD_ENCRYPTION_KEYS, "hunter22"]
    assert WORDS[checks.BAD_ENCRYPTION_KEY] in ours()[checks.BAD_ENCRYPTION_KEY]
    assert "hunter22" not in ours()[checks.BAD_ENCRYPTION_KEY]


def test_debug_needs_no_secret_key_and_no_host(settings: Any) -> None:
    """A checkout works without an environment file."""
    settings.DEBUG = True
    settings.SECRET_KEY = settings.DEFAULT_SECRET_KEY
    settings.ALLOWED_HOSTS = []
    assert ours() == {}


@pytest.mark.parametrize(
    "address, embedded, allowed, refused",
    [
        ("https://api.stripe.com", False, [], False),
        ("http://127.0.0.1:9001", True, [], False),
        ("http://127.0.0.1:9001", False, [], True),
        ("http://stripe-mock:12111", True, [], True),
        ("http://stripe-mock:12111", False, ["stripe-mock"], False),
        ("ftp://127.0.0.1", True, [], True),
    ],
)
def test_plain_http_is_for_this_machine_and_for_named_hosts(
    settings: Any, address: str, embedded: bool, allowed: list[str], refused: bool
) -> None:
    """Loopback while developing or embedded, ALLOW_HTTP_PROVIDERS elsewhere."""
    settings.EMBEDDED_BROKER = settings.EMBEDDED = embedded
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
    settings.ALLOW_HTTP_PROVIDERS = allowed
    settings.OUTBOUND_ADAPTERS = stripe_at(address)
    assert (checks.PROVIDER_ADDRESS in ours()) is refused
