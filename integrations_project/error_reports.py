"""Error reports to Sentry, off without a DSN: what went wrong and where, never with what content.

https://docs.sentry.io/platforms/python/configuration/options/
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.logging import LoggingIntegration, ignore_logger
from sentry_sdk.transport import Transport
from sentry_sdk.types import Event, Hint
from sentry_sdk.utils import BadDsn, Dsn

from integrations_project.scrubbing import scrub
from outbound.errors import DeliveryError, TransientError

DEPTH = 20
REQUEST_FIELDS = ("method", "url")


def is_valid(dsn: str) -> bool:
    """Whether Sentry's client can use it."""
    try:
        Dsn(dsn)
    except BadDsn:
        return False
    return True


def start(*, dsn: str, transport: Transport | None = None) -> bool:
    """Report errors to `dsn` from now on; returns whether there will be reports."""
    if not dsn or not is_valid(dsn):  # the system checks name the variable
        return False
    sentry_sdk.init(
        dsn=dsn,
        transport=transport,
        # no personal data is the default; the option that said so is deprecated
        max_request_body_size="never",
        include_local_variables=False,
        auto_session_tracking=False,
        trace_propagation_targets=[],  # providers get our headers and no others
        auto_enabling_integrations=False,
        integrations=[
            DjangoIntegration(),
            CeleryIntegration(propagate_traces=False),
            LoggingIntegration(level=logging.INFO, event_level=logging.ERROR),
        ],
        before_send=before_send,
        before_breadcrumb=before_breadcrumb,
    )
    ignore_logger("django.security.DisallowedHost")  # strangers' noise
    return True


def before_send(event: Event, hint: Hint) -> Event | None:
    """The report as it may leave the house; None for what is no issue."""
    error = _error(hint)
    if isinstance(error, TransientError):
        return None
    fields = _log_fields(hint)
    report = scrub(_without_content(event), depth=DEPTH)
    if "event" in fields:
        report["logentry"] = {"message": str(scrub(fields["event"]))}
        report["extra"] = {**report.get("extra", {}), **scrub(_plain(fields))}
    fingerprint = _fingerprint(error, fields)
    if fingerprint:
        report["fingerprint"] = fingerprint
    return cast(Event, report)


def before_breadcrumb(crumb: dict[str, Any], hint: Hint) -> dict[str, Any] | None:
    """Breadcrumbs keep their words, and nothing of what was sent or asked."""
    fields = _log_fields(hint)
    kept = {name: value for name, value in crumb.items() if name != "data"}
    if "event" in fields:
        kept["message"] = str(fields["event"])
    timestamp = kept.pop("timestamp", None)
    kept = cast(dict[str, Any], scrub(kept))
    if timestamp is not None:
        kept["timestamp"] = timestamp
    return kept


def _error(hint: Hint) -> BaseException | None:
    exc_info = hint.get("exc_info")
    return exc_info[1] if exc_info else None


def _log_fields(hint: Hint) -> Mapping[str, Any]:
    """What a structlog line consists of; empty for other reports."""
    message = getattr(hint.get("log_record"), "msg", None)
    return message if isinstance(message, Mapping) else {}


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ("event", "exc_info")}


def _without_content(event: Event) -> dict[str, Any]:
    kept = {name: value for name, value in event.items() if name != "user"}
    request = event.get("request")
    if request is not None:
        kept["request"] = {name: request[name] for name in REQUEST_FIELDS if name in request}
    return kept


def _fingerprint(error: BaseException | None, fields: Mapping[str, Any]) -> list[str]:
    """One issue for each adapter and kind of error, wherever it surfaced."""
    kind = error.kind if isinstance(error, DeliveryError) else fields.get("error_kind")
    if not kind:
        return []
    return ["outbound", str(fields.get("adapter") or "any"), str(kind)]
