"""System checks of the engine: a typo fails `manage.py check`, not the first refund."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from outbound import registry
from outbound.errors import CallRefused

LONGEST_NAME = 50  # of an adapter: the column's length


def register_all() -> None:
    checks.register(check_adapters)


def check_adapters(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every entry of OUTBOUND_ADAPTERS can be imported, is complete and has a sane policy."""
    adapters: object = settings.OUTBOUND_ADAPTERS
    if not isinstance(adapters, dict):
        return [checks.Error("OUTBOUND_ADAPTERS must be a dict", id="outbound.E001")]
    return [message for name in adapters for message in _check_entry(name)]


def _check_entry(name: str) -> list[CheckMessage]:
    where = f"OUTBOUND_ADAPTERS[{name!r}]"
    entry = settings.OUTBOUND_ADAPTERS[name]
    wrong = _wrong_shape(name, entry)
    if wrong:
        return [checks.Error(f"{where} {wrong}", id="outbound.E001")]
    try:
        adapter = registry.adapter_class(name)
    except (ImproperlyConfigured, CallRefused) as error:
        return [checks.Error(str(error), id="outbound.E002")]
    return [
        *_check_queue(where, entry),
        *_check_operations(where, entry, adapter.operations.keys()),
        *_check_policies(name, where, adapter.operations.keys()),
        *_check_breaker(name, where),
        *_check_options(name, where),
    ]


def _wrong_shape(name: object, entry: object) -> str:
    """What is wrong with an entry as such; empty when nothing is."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
        return f"must have a name of 1 to {LONGEST_NAME} characters"
    if not isinstance(entry, dict):
        return "must be a dict"
    for key, value in entry.items():
        if key not in registry.ENTRY_KEYS:
            return f"has an unknown key {key!r}"
        kind = str if key in ("ADAPTER", "QUEUE") else Mapping
        if not isinstance(value, kind):
            return f"has a {key} that is no {'text' if kind is str else 'dict'}"
    return ""


def _check_queue(where: str, entry: dict[str, Any]) -> list[CheckMessage]:
    known = {queue.name for queue in settings.CELERY_TASK_QUEUES}
    if entry.get("QUEUE") in known:
        return []
    hint = f"one of {', '.join(sorted(known))}"
    return [checks.Error(f"{where}: QUEUE is no declared queue", hint=hint, id="outbound.E003")]


def _check_operations(where: str, entry: dict[str, Any], operations: Any) -> list[CheckMessage]:
    return [
        checks.Error(f"{where}: OPERATIONS names an unknown {name!r}", id="outbound.E004")
        for name in entry.get("OPERATIONS", {})
        if name not in operations
    ]


def _check_policies(name: str, where: str, operations: Any) -> list[CheckMessage]:
    problems = set()
    for operation in operations:
        try:
            registry.policy_for(name, operation)
        except ImproperlyConfigured as error:
            problems.add(str(error))
    return [checks.Error(f"{where}: {problem}", id="outbound.E005") for problem in sorted(problems)]


def _check_breaker(name: str, where: str) -> list[CheckMessage]:
    problems = []
    for settled in (registry.thresholds_for, registry.limits_for):
        try:
            settled(name)
        except ImproperlyConfigured as error:
            problems.append(str(error))
    return [checks.Error(f"{where}: {problem}", id="outbound.E007") for problem in problems]


def _check_options(name: str, where: str) -> list[CheckMessage]:
    return [
        checks.Error(
            f"{where}: {variable} is not set",
            hint=f"set {variable} (or {variable}_FILE), or remove the adapter",
            id="outbound.E006",
        )
        for variable in registry.missing_options(name)
    ]
