"""System checks: a typo fails `manage.py check`, not the first event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from webhooks.handlers import handled_types
from webhooks.sources import ENTRY_KEYS, source_class

POSITIVE = ("WEBHOOK_FAILURES_PER_MINUTE", "WEBHOOK_REJECTS_ALERT")


def register_all() -> None:
    checks.register(check_bounds)
    checks.register(check_sources)
    checks.register(check_handlers)
    checks.register(check_cap)
    checks.register(check_retention)


def check_sources(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every entry of WEBHOOK_SOURCES can be imported and has sane options."""
    sources: object = settings.WEBHOOK_SOURCES
    if not isinstance(sources, Mapping):
        return [checks.Error("WEBHOOK_SOURCES must be a dict", id="webhooks.E001")]
    return [message for name, entry in sources.items() for message in _check_entry(name, entry)]


def _check_entry(name: object, entry: object) -> list[CheckMessage]:
    where = f"WEBHOOK_SOURCES[{name!r}]"
    if not isinstance(name, str) or not 1 <= len(name) <= 50 or "/" in name:
        message = f"{where}: the name must be 1 to 50 characters, without a slash"
        return [checks.Error(message, id="webhooks.E001")]
    if not isinstance(entry, Mapping) or not isinstance(entry.get("OPTIONS", {}), Mapping):
        return [checks.Error(f"{where} and its OPTIONS must be dicts", id="webhooks.E001")]
    unknown = sorted(entry.keys() - ENTRY_KEYS)
    if unknown:
        return [checks.Error(f"{where} has an unknown key {unknown[0]!r}", id="webhooks.E001")]
    try:
        source = source_class(name)
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), id="webhooks.E002")]
    options = entry.get("OPTIONS", {})
    problems = [
        checks.Error(f"{where}: {problem}", id="webhooks.E003")
        for problem in source.problems(options)
    ]
    if not options.get(source.required_option):
        variable = source.secret_variable or "its SECRETS"
        return [
            *problems,
            checks.Warning(
                f"{where} has no secret, so it is not enabled and answers 404",
                hint=f"set {variable}",
                id="webhooks.W001",
            ),
        ]
    return list(problems)


def check_handlers(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every handler waits for a source that exists."""
    strangers = sorted({source for source, _ in handled_types()} - set(settings.WEBHOOK_SOURCES))
    return [
        checks.Warning(
            f"a handler waits for events of {source!r}, which is not in WEBHOOK_SOURCES",
            id="webhooks.W002",
        )
        for source in strangers
    ]


def check_cap(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The cap on bodies is a number that makes sense."""
    if _is_positive(settings.WEBHOOK_MAX_BYTES):
        return []
    return [checks.Error("WEBHOOK_MAX_BYTES must be at least 1", id="webhooks.E004")]


def check_bounds(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """A bound of nothing would refuse everybody, or cry all the time."""
    return [
        checks.Error(f"{name} must be a whole number of at least 1", id="webhooks.E006")
        for name in POSITIVE
        if not _is_positive(getattr(settings, name))
    ]


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_retention(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """A body is kept for a day at least, and a row for as long as its body."""
    if 1 <= settings.WEBHOOK_BODY_DAYS <= settings.WEBHOOK_ROW_DAYS:
        return []
    message = "WEBHOOK_BODY_DAYS must be at least 1 and at most WEBHOOK_ROW_DAYS"
    return [checks.Error(message, id="webhooks.E005")]
