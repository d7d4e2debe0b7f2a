"""What may leave the encrypted columns: allow-listed fields, and text without secrets.

The patterns are bounded, so that the time they take grows with the length of a text and no
faster: what they read is written by strangers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

SUMMARY_CHARACTERS = 2000
SUMMARY_NAMES = 40
NAME_CHARACTERS = 60
VALUE_CHARACTERS = 200
PUNCTUATION = 6  # quotes, colon, comma, spaces
MESSAGE_CHARACTERS = 500
HIDDEN = "[hidden]"
MORE = "\N{HORIZONTAL ELLIPSIS}"
LARGEST_NUMBER = 10**18

_UNSTORABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_AFTER_SCHEME = re.compile(r"://[^\s\"'<>]*")
_LOCAL_PART = r"[^\s<>\"'(),:;@\[\]\\/]"  # a character of it; each run of them is read once
_DOMAIN = r"[\w-]+(?:\.[\w-]+)+"
_PATTERNS = (
    (re.compile(r"\?[\w.~%+-]{1,100}=[^\s\"'<>]*"), ""),  # a query without its host
    (re.compile(r"\b(bearer|basic)\s{1,20}[\w.~+/=-]+", re.I), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"((?:api[_-]?key|token|secret|password|authorization)[\"']?\s{0,20}[=:]\s{0,20}[\"']?)"
            r"[^\s\"'&,;]+",
            re.I,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?:sk|rk|pk)_(?:test|live)_[\w*]+|whsec_[\w+/=]+"), HIDDEN),
    (re.compile(r"_secret_\w+"), HIDDEN),
    (re.compile(rf"(?<!{_LOCAL_PART})(?:{_LOCAL_PART}++@{_DOMAIN})+"), HIDDEN),  # e-mail
    (re.compile(r"^(DETAIL|CONTEXT):.*", re.M), rf"\1: {HIDDEN}"),  # PostgreSQL quotes whole rows
    (re.compile(r"\+\d[\d ().-]{6,18}\d"), HIDDEN),  # telephone numbers
    (re.compile(r"(?<![\w-])(?<!\d\.)(?:\d[ -]?){12,18}\d(?![\w-]|\.\d)"), HIDDEN),  # cards
    (_UNSTORABLE, "\N{REPLACEMENT CHARACTER}"),
)


def sanitise(text: str, *, limit: int = MESSAGE_CHARACTERS) -> str:
    """`text` without credentials, URL queries, addresses, card numbers and control characters.

    The input is cut to eight times `limit` before the patterns run, the output to `limit`.
    """
    if len(text) > limit * 8:
        # not in the middle of a word, where half a secret looks like none
        text = (text[: limit * 8].rsplit(maxsplit=1) or [""])[0]
    text = _AFTER_SCHEME.sub(_bare, text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text if len(text) <= limit else text[: limit - 1] + MORE


def _bare(url: re.Match[str]) -> str:
    """What follows a URL's scheme, without user, query and fragment."""
    authority, slash, path = re.split(r"[?#]", url[0][3:], maxsplit=1)[0].partition("/")
    return f"://{authority.rpartition('@')[2]}{slash}{path}"


def storable(text: str, *, limit: int = 255) -> str:
    """`text` without what a database column cannot hold, cut to `limit` characters."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)[:limit]


def visible(document: Any, allowed: Collection[str], *, depth: int = 4) -> Any:
    """A copy of `document` in which only scalar values under an allowed name can be read.

    Names stay (they explain), other values become "[hidden]". Lists, nesting, names and the
    whole are bounded: a summary has about SUMMARY_CHARACTERS at the most.
    """
    return _Summary(allowed).of(document, depth)


class _Summary:
    """The copy in the making, and the room that is left for it."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = allowed
        self._room = SUMMARY_CHARACTERS

    def of(self, document: Any, depth: int) -> Any:
        if not isinstance(document, Mapping) or depth == 0:
            self._room -= len(HIDDEN)
            return HIDDEN
        shown: dict[str, Any] = {}
        for name, value in islice(document.items(), SUMMARY_NAMES):
            if self._room <= 0:
                break
            key = _name(str(name))
            self._room -= len(key) + PUNCTUATION
            shown[key] = self._value(str(name), value, depth)
        if len(shown) < len(document):
            shown[MORE] = HIDDEN
        return shown

    def _value(self, name: str, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self.of(value, depth - 1)
        shown = _scalar(value) if name in self._allowed or value is None else HIDDEN
        self._room -= len(str(shown))
        return shown


def _name(name: str) -> str:
    """Short ones are the same in most documents, and kept; long ones are made by strangers."""
    short = len(name) <= NAME_CHARACTERS
    return _short_name(name) if short else sanitise(name, limit=NAME_CHARACTERS)


@lru_cache(maxsize=4096)
def _short_name(name: str) -> str:
    return sanitise(name, limit=NAME_CHARACTERS)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return sanitise(value, limit=VALUE_CHARACTERS)
    # not so for NaN, which no database takes
    if isinstance(value, int | float) and abs(value) < LARGEST_NUMBER:
        return value
    return HIDDEN
