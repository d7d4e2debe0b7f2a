"""The adapters named in settings.OUTBOUND_ADAPTERS, made once per process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from outbound.adapters import Adapter, Operation
from outbound.breaker import SharedCircuitBreaker
from outbound.client import HttpClient
from outbound.errors import UnknownAdapter, UnknownOperation
from outbound.limits import Limits, build_limits
from outbound.policy import READ_POLICY, Policy, build_policy
from outbound.tallies import AttemptTally
from outbound.thresholds import Thresholds

ENTRY_KEYS = frozenset({"ADAPTER", "QUEUE", "OPTIONS", "POLICY", "OPERATIONS", "BREAKER", "LIMITS"})


def entry(name: str) -> Mapping[str, Any]:
    """The settings entry of an adapter. Raises UnknownAdapter."""
    try:
        found: Mapping[str, Any] = settings.OUTBOUND_ADAPTERS[name]
    except (KeyError, TypeError):
        known = ", ".join(sorted(settings.OUTBOUND_ADAPTERS)) or "none"
        raise UnknownAdapter(f"no adapter {name!r} in OUTBOUND_ADAPTERS (known: {known})") from None
    return found


@cache
def adapter_class(name: str) -> type[Adapter]:
    """The class behind a name. Raises UnknownAdapter, ImproperlyConfigured."""
    path = entry(name).get("ADAPTER", "")
    try:
        found = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"OUTBOUND_ADAPTERS[{name!r}]: cannot import {path!r}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise ImproperlyConfigured(f"OUTBOUND_ADAPTERS[{name!r}]: {path!r} is no Adapter")
    return found


def operation_of(name: str, operation: str) -> Operation:
    """Raises UnknownAdapter, UnknownOperation, ImproperlyConfigured."""
    operations = adapter_class(name).operations
    try:
        return operations[operation]
    except (KeyError, TypeError):
        known = ", ".join(sorted(operations))
        raise UnknownOperation(f"{name} has no operation {operation!r} (known: {known})") from None


@cache
def adapter_for(name: str) -> Adapter:
    """The adapter, ready to perform. Raises UnknownAdapter, ImproperlyConfigured."""
    found, options = adapter_class(name), entry(name).get("OPTIONS", {})
    missing = missing_options(name)
    if missing:
        raise ImproperlyConfigured(f"{name}: {missing[0]} is not set")
    return found(name=name, options=options, http=HttpClient(provider=name))


def missing_options(name: str) -> list[str]:
    """The environment variables that an adapter needs and does not have."""
    options = entry(name).get("OPTIONS", {})
    required = adapter_class(name).required_options
    return [variable for option, variable in required.items() if not options.get(option)]


def queue_for(name: str) -> str:
    """The queue in which an adapter's calls wait. Raises UnknownAdapter."""
    return str(entry(name).get("QUEUE") or settings.CELERY_TASK_DEFAULT_QUEUE)


@cache
def policy_for(name: str, operation: str) -> Policy:
    """How an operation is tried. Raises UnknownAdapter, UnknownOperation, ImproperlyConfigured."""
    found = entry(name)
    reads = operation_of(name, operation).reads
    return build_policy(
        settings.OUTBOUND_POLICY,
        READ_POLICY if reads else {},
        found.get("POLICY", {}),
        found.get("OPERATIONS", {}).get(operation, {}),
    )


def circuit_name(name: str, operation: str, account: str) -> str:
    """The circuit that a call goes through. Raises UnknownAdapter, UnknownOperation,
    ImproperlyConfigured."""
    return adapter_class(name).circuit(name, operation_of(name, operation), account)


@cache
def thresholds_for(name: str) -> Thresholds:
    """When an adapter's circuits open and close. Raises ImproperlyConfigured."""
    own = settings.OUTBOUND_ADAPTERS.get(name, {}).get("BREAKER", {})
    merged: dict[str, Any] = {"probe_lease": float(settings.OUTBOUND_LEASE_SECONDS)}
    merged |= {**settings.OUTBOUND_BREAKER, **own}
    unknown = merged.keys() - {field.name for field in fields(Thresholds)}
    if unknown:
        raise ImproperlyConfigured(f"unknown breaker setting {sorted(unknown)[0]!r}")
    return Thresholds(**merged)


@cache
def limits_for(name: str) -> Limits:
    """How fast and how often at once an adapter may call. Raises UnknownAdapter,
    ImproperlyConfigured."""
    return build_limits({**settings.OUTBOUND_LIMITS, **entry(name).get("LIMITS", {})})


@cache
def breaker_for(circuit: str, adapter: str) -> SharedCircuitBreaker:
    """The breaker of a circuit, which counts the attempts of the calls that go through it."""
    return SharedCircuitBreaker(
        name=circuit, adapter=adapter, thresholds=thresholds_for(adapter), tally=AttemptTally()
    )


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith("OUTBOUND_"):
        for cached in CACHES:
            cached.cache_clear()


CACHES = (adapter_class, adapter_for, policy_for, thresholds_for, limits_for, breaker_for)
setting_changed.connect(_forget)
