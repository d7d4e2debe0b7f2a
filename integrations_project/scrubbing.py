"""The last net under logs and error reports: no secret, no personal data, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings

from outbound.redaction import HIDDEN, sanitise

TEXT_CHARACTERS = 2000
DEPTH = 6
REPEATED_CHARACTERS = 100
UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")

SECRET_NAMES = ("body", "cookies", "data", "email", "env", "headers", "payload", "query_string")
SECRET_ENDINGS = (
    "api_key", "authorization", "cookie", "dsn", "password", "secret", "secrets", "secret_key",
    "signature", "token", "username",
)  # fmt: skip


def scrub_text(text: str, *, limit: int = TEXT_CHARACTERS) -> str:
    """`text` without configured secrets and without what looks like one, cut to `limit`."""
    for secret in sorted(settings.ENVIRONMENT.secret_values, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if len(text) > REPEATED_CHARACTERS:
        return sanitise(text, limit=limit)
    return text if UUID.fullmatch(text) else _sanitise_repeated(text, limit)


@lru_cache(maxsize=1024)
def _sanitise_repeated(text: str, limit: int) -> str:
    """Most lines consist of the same few words: the patterns would take most of their time."""
    return sanitise(text, limit=limit)


def scrub(value: Any, *, depth: int = DEPTH) -> Any:
    """A copy of `value`, its texts scrubbed, values under a telling name hidden, other objects
    as text, nesting bounded."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return scrub_text(value)
    if depth == 0:
        return HIDDEN
    if isinstance(value, Mapping):
        return {
            str(name): HIDDEN if is_secret_name(str(name)) else scrub(item, depth=depth - 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [scrub(item, depth=depth - 1) for item in value]
    return scrub_text(str(value))


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is not for showing."""
    name = name.lower().replace("-", "_")
    return name in SECRET_NAMES or name.endswith(SECRET_ENDINGS)
