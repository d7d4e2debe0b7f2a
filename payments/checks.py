"""System checks of the payments app: what a Stripe request would be refused for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage

# 2023-10-16, and 2024-09-30.acacia since. https://docs.stripe.com/api/versioning
API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z][a-z0-9_]*)?")
ADAPTER = "payments.adapters.stripe.StripeAdapter"


def register_all() -> None:
    checks.register(check_stripe_options)


def check_stripe_options(
    *, app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[CheckMessage]:
    """Every use of the Stripe adapter has a version that Stripe could have, and a key that can
    stand in a header. (A missing key is the engine's finding.)"""
    adapters: object = settings.OUTBOUND_ADAPTERS
    entries: Iterable[object] = adapters.values() if isinstance(adapters, dict) else []
    return [
        message
        for entry in entries
        if isinstance(entry, dict) and entry.get("ADAPTER") == ADAPTER
        for message in _check_options(entry.get("OPTIONS", {}))
    ]


def _check_options(options: dict[str, Any]) -> list[CheckMessage]:
    problems: list[CheckMessage] = []
    version = options.get("API_VERSION")
    if version and not (isinstance(version, str) and API_VERSION.fullmatch(version)):
        problems.append(
            checks.Error(
                "STRIPE_API_VERSION is no version of Stripe's API",
                hint="a date, like 2023-10-16, or a date and a name, like 2024-09-30.acacia",
                id="payments.E001",
            )
        )
    key = options.get("API_KEY")
    if key and not (isinstance(key, str) and all("!" <= c <= "~" for c in key)):
        problems.append(
            checks.Error(
                "STRIPE_SECRET_KEY must be visible ASCII characters only",
                hint="copy it again, without quotes, spaces or line breaks",
                id="payments.E002",
            )
        )
    return problems
