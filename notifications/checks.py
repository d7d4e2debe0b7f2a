"""System checks of the notifications app: routes that lead nowhere, and a sender that is none."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parseaddr
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from notifications.addresses import email_address
from notifications.errors import NoProvider
from notifications.routing import configured_route
from notifications.states import Channel

FCM = "notifications.adapters.fcm.FcmAdapter"


def register_all() -> None:
    checks.register(check_routes)
    checks.register(check_sender)
    checks.register(check_push_key)


def check_routes(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every provider of a route is there, can send that, and stands there once; and where several
    could send, it is said in which order."""
    problems: list[CheckMessage] = []
    for channel in Channel if _can_be_read(settings.OUTBOUND_ADAPTERS) else ():
        try:
            configured_route(channel)
        except NoProvider as error:
            problems.append(
                checks.Error(
                    str(error),
                    hint="a comma list of providers, the first is asked first: sendgrid,ses",
                    id="notifications.E001",
                )
            )
        except ImproperlyConfigured:  # an adapter that cannot be imported is the engine's finding
            continue
    return problems


def _can_be_read(adapters: object) -> bool:
    """What is not even an entry is the engine's finding."""
    return isinstance(adapters, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("ADAPTER"), str)
        and isinstance(entry.get("OPTIONS", {}), dict)
        for entry in adapters.values()
    )


def check_sender(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The address that messages come from is one."""
    try:
        email_address(parseaddr(settings.DEFAULT_FROM_EMAIL)[1])
    except ValueError as error:
        return [checks.Error(f"DEFAULT_FROM_EMAIL {error}", id="notifications.E002")]
    return []


def check_push_key(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The key by which push notifications are sent can sign."""
    entries = settings.OUTBOUND_ADAPTERS if _can_be_read(settings.OUTBOUND_ADAPTERS) else {}
    problems: list[CheckMessage] = []
    for name, entry in entries.items():
        key = entry.get("OPTIONS", {}).get("CREDENTIALS")
        if entry["ADAPTER"] != FCM or not key:  # none at all is the engine's finding
            continue
        try:
            _read_push_key(key)
        except ImproperlyConfigured as error:
            problems.append(
                checks.Error(f"{name}: FIREBASE_CREDENTIALS: {error}", id="notifications.E003")
            )
    return problems


def _read_push_key(key: Any) -> None:
    from notifications.adapters.fcm import SCOPE  # Google's client takes its time
    from notifications.adapters.google_tokens import read_key

    read_key(key, scope=SCOPE)
