"""System checks of what belongs to no app: the environment, keys, the broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.fernet import Fernet
from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from integrations_project import metrics_folder
from outbound.client import check_url

ENVIRONMENT = "integrations_project.E001"
DEFAULT_SECRET_KEY = "integrations_project.E002"  # noqa: S105 - the id of a check
MEMORY_BROKER = "integrations_project.E003"
EAGER = "integrations_project.E004"
UNCONFIRMED = "integrations_project.E005"
NO_ENCRYPTION_KEY = "integrations_project.E006"
BAD_ENCRYPTION_KEY = "integrations_project.E007"
PROVIDER_ADDRESS = "integrations_project.E008"
ERROR_REPORTS = "integrations_project.E009"
METRICS_FOLDER = "integrations_project.E010"
EMBEDDED_AND_BROKER = "integrations_project.W001"
NO_HOSTS = "integrations_project.W002"
OPEN_METRICS = "integrations_project.W003"


def register_all() -> None:
    for check in (check_environment, check_secrets, check_broker, check_addresses, check_metrics):
        checks.register(check)


def check_environment(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every variable could be read."""
    return [
        Error(f"{problem.variable} {problem.detail}", id=ENVIRONMENT)
        for problem in settings.ENVIRONMENT.problems
    ]


def check_secrets(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """There is a secret key nobody knows, and there are keys to encrypt rows with."""
    return [*_secret_key(), *_encryption_keys()]


def _secret_key() -> Iterator[CheckMessage]:
    if not settings.DEBUG and settings.SECRET_KEY == settings.DEFAULT_SECRET_KEY:
        yield Error(
            "SECRET_KEY is not set, and DEBUG is off",
            hint="set SECRET_KEY (or SECRET_KEY_FILE) to a long random text",
            id=DEFAULT_SECRET_KEY,
        )


def _encryption_keys() -> Iterator[CheckMessage]:
    keys = settings.FIELD_ENCRYPTION_KEYS
    if not keys:
        yield Error(
            "FIELD_ENCRYPTION_KEYS is not set: no call and no event could be stored",
            hint="python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())' makes one",
            id=NO_ENCRYPTION_KEY,
        )
    for position, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            yield Error(
                f"FIELD_ENCRYPTION_KEYS: number {position} is no Fernet key",
                hint="32 bytes in URL-safe base64",
                id=BAD_ENCRYPTION_KEY,
            )


def check_broker(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The broker is meant to be what it is, and is asked to confirm what it took."""
    return [*_embedded(), *_delivery()]


def _embedded() -> Iterator[CheckMessage]:
    if settings.EMBEDDED_BROKER and not settings.EMBEDDED:
        yield Error(
            "CELERY_BROKER_URL is memory://, and nothing says that this is meant",
            hint="set CELERY_BROKER_URL to amqp://..., or EMBEDDED=1 for the one-worker form",
            id=MEMORY_BROKER,
        )
    if settings.EMBEDDED and not settings.EMBEDDED_BROKER:
        yield checks.Warning(
            "EMBEDDED is set, but CELERY_BROKER_URL names a broker of its own",
            hint="unset EMBEDDED; it also allows plain http to providers on this machine",
            id=EMBEDDED_AND_BROKER,
        )


def _delivery() -> Iterator[CheckMessage]:
    if settings.CELERY_TASK_ALWAYS_EAGER:
        yield Error(
            "CELERY_TASK_ALWAYS_EAGER is on: tasks would run in the caller, without backoff",
            id=EAGER,
        )
    confirmed = settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("confirm_publish") is True
    if not settings.EMBEDDED_BROKER and not confirmed:
        yield Error(
            "CELERY_BROKER_TRANSPORT_OPTIONS: confirm_publish is off: "
            "messages could be lost without a trace",
            id=UNCONFIRMED,
        )


def check_addresses(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Providers are called over https, error reports go somewhere, and somebody can call us."""
    return [*_providers(), *_error_reports(), *_hosts()]


def _providers() -> Iterator[CheckMessage]:
    for name, address in _addresses():
        try:
            check_url(address)
        except ImproperlyConfigured as error:
            yield Error(f"{name.upper()}_API_BASE: {error}", id=PROVIDER_ADDRESS)


def _addresses() -> Iterator[tuple[str, str]]:
    """Each adapter's name and address; an entry of the wrong shape is outbound's to complain of."""
    adapters: object = settings.OUTBOUND_ADAPTERS
    for name, entry in adapters.items() if isinstance(adapters, dict) else ():
        options = entry.get("OPTIONS") if isinstance(entry, dict) else None
        if isinstance(options, dict) and isinstance(options.get("API_BASE"), str):
            yield str(name), options["API_BASE"]


def _error_reports() -> Iterator[CheckMessage]:
    if not settings.SENTRY_DSN:
        return
    from integrations_project import error_reports  # Sentry's client takes its time

    if not error_reports.is_valid(settings.SENTRY_DSN):
        yield Error("SENTRY_DSN is no DSN: https://key@host/project", id=ERROR_REPORTS)


def _hosts() -> Iterator[CheckMessage]:
    if not settings.DEBUG and not settings.ALLOWED_HOSTS:
        yield checks.Warning(
            "ALLOWED_HOSTS and PUBLIC_URL are not set: the web process will refuse every request",
            id=NO_HOSTS,
        )


def check_metrics(*, app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Counters can be added up, and are not shown to everybody by accident."""
    return [*_metrics()] if settings.METRICS_ENABLED else []


def _metrics() -> Iterator[CheckMessage]:
    if not metrics_folder.usable(settings.METRICS_DIR):
        yield Error("METRICS_DIR is no folder that can be written", id=METRICS_FOLDER)
    if not settings.METRICS_TOKEN and not settings.DEBUG:
        yield checks.Warning(
            "METRICS_ENABLED is set without METRICS_TOKEN: everybody may read /metrics",
            hint="set METRICS_TOKEN, or keep strangers away from /metrics in the proxy",
            id=OPEN_METRICS,
        )
