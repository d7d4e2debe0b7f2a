"""What may leave the encrypted columns: allow-listed fields, and text without secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

SUMMARY_CHARACTERS = 2000
MESSAGE_CHARACTERS = 500
HIDDEN = "[hidden]"

_UNSTORABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_PATTERNS = (
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s@]*@", re.I), r"\1"),  # user:password@ in URLs
    (re.compile(r"([a-z][a-z0-9+.-]*://[^\s?#\"'<>]*)[?#][^\s\"'<>]*", re.I), r"\1"),  # queries
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.I), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(?:sk|rk|pk)_(?:test|live)_[\w*]+|\bwhsec_[\w+/=]+|\b\w+_secret_\w+"), HIDDEN),
    (re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"), HIDDEN),  # e-mail addresses
    (re.compile(r"(?<![\w.-])(?:\d[ -]?){13,19}(?![\w.-])"), HIDDEN),  # card numbers
    (_UNSTORABLE, "�"),
)


def sanitise(text: str, *, limit: int = MESSAGE_CHARACTERS) -> str:
    """`text` without credentials, URL queries, addresses, card numbers and control characters.

    The input is cut to eight times `limit` before the patterns run, the output to `limit`.
    """
    text = text[: limit * 8]
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def storable(text: str, *, limit: int = 255) -> str:
    """`text` without what a database column cannot hold, cut to `limit` characters."""
    return _UNSTORABLE.sub("�", text)[:limit]


def visible(document: Any, allowed: Collection[str], *, depth: int = 4) -> Any:
    """A copy of `document` in which only scalar values under an allowed name can be read.

    Names stay (they explain), other values become "[hidden]". Lists and nesting are bounded.
    """
    if not isinstance(document, Mapping) or depth == 0:
        return HIDDEN
    return {
        sanitise(str(name), limit=60): _visible_value(str(name), value, allowed, depth)
        for name, value in list(document.items())[:40]
    }


def _visible_value(name: str, value: Any, allowed: Collection[str], depth: int) -> Any:
    if isinstance(value, Mapping):
        return visible(value, allowed, depth=depth - 1)
    if value is None or name not in allowed or isinstance(value, list | tuple):
        return None if value is None else HIDDEN
    return sanitise(value, limit=200) if isinstance(value, str) else value
