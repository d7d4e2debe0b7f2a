"""Times as arguments of commands."""

from __future__ import annotations

from datetime import UTC, datetime

from django.core.management.base import CommandError

TIME = "ISO 8601, such as 2026-11-24T08:00:00Z; UTC if unsaid"


def read_time(text: str | None, *, option: str) -> datetime | None:
    """The time that was given, if one was. Raises CommandError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise CommandError(f"{option} {text[:40]!r} is no time in ISO 8601") from None
