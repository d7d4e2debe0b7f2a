"""What a provider said, after verification: the same shape for every provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from webhooks.errors import MalformedBody

MAX_NAME_LENGTH = 255
MAX_FIELDS = 1000
LAST_SECOND = 32_503_680_000  # the year 3000: later than that is no time at all


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event, as its provider named it. `account` is '' where the provider has none. `body`:
    what is stored of it where a delivery brings several; None for the delivery as it came.
    `nonce`: what the provider promises to use once, where that is part of the proof."""

    event_id: str
    event_type: str
    payload: dict[str, Any] = field(default_factory=dict, repr=False)
    livemode: bool | None = None
    occurred_at: datetime | None = None
    account: str = ""
    body: bytes | None = field(default=None, repr=False)
    nonce: str | None = field(default=None, repr=False)


def read_json_object(body: bytes) -> dict[str, Any]:
    """`body` as a JSON object in UTF-8. Raises MalformedBody."""
    document = read_json(body)
    if not isinstance(document, dict):
        raise MalformedBody("the body is not a JSON object")
    return document


def read_json(body: bytes) -> Any:
    """`body` as JSON in UTF-8. Raises MalformedBody.

    Strict about what JSON is (no NaN, no other encoding), tolerant of its content: an integer
    too long for Python becomes a float.
    """
    try:
        return json.loads(
            body.decode("utf-8"), parse_int=_read_int, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise MalformedBody("the body is not JSON in UTF-8") from None


def read_form(body: bytes) -> dict[str, list[str]]:
    """`body` as a form in UTF-8, each name with its values. Raises MalformedBody."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise MalformedBody("the body is not a form in UTF-8") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


def read_name(document: Mapping[str, Any], member: str) -> str:
    """A member that becomes a key of ours. Raises MalformedBody."""
    value = document.get(member)
    if not is_name(value):
        raise MalformedBody(f"{member!r} must be a string of 1 to {MAX_NAME_LENGTH} characters")
    return str(value)


def is_name(value: object) -> bool:
    """Whether it is text that any of our databases can hold as a key."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_NAME_LENGTH
        and "\x00" not in value
        and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))
    )


def read_unix_time(value: object) -> datetime | None:
    """Seconds since 1970 as a time; None when it is unusable."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LAST_SECOND:
        return None
    return datetime.fromtimestamp(value, UTC)


def _read_int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
