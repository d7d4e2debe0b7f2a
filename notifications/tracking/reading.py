"""Reading what a provider wrote, whatever it is: nothing here raises anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any, NamedTuple

from notifications.adapters.messages import CALL_KEY, KEY_KEY
from notifications.addresses import email_address
from outbound.redaction import HIDDEN, sanitise, storable

ADDRESS_CHARACTERS = 320
REASON_CHARACTERS = 300
WORD = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
SHORT = 3  # characters: a shorter name is in every other word
YEARS = range(1990, 3000)  # when something may have happened


class Marks(NamedTuple):
    """Which call of ours made a message, and with which key."""

    call_id: str = ""
    key: str = ""


def part(document: object, *path: str) -> Mapping[str, Any]:
    """The object at the end of the path; an empty one where there is none."""
    found = _at(document, path)
    return found if isinstance(found, Mapping) else {}


def text(document: object, *path: str) -> str:
    """The text at the end of the path, fit to be stored; '' where there is none."""
    found = _at(document, path)
    return storable(found) if isinstance(found, str) else ""


def word(document: object, *path: str) -> str:
    """A code at the end of the path, as it may stand anywhere; '' for any other text."""
    found = _at(document, path)
    return found if isinstance(found, str) and WORD.fullmatch(found) else ""


def items(document: object, *path: str) -> list[Any]:
    """The list at the end of the path; an empty one where there is none."""
    found = _at(document, path)
    return found if isinstance(found, list) else []


def _at(document: object, path: tuple[str, ...]) -> object:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def address(written: object) -> str:
    """The bare address in `Name <address>`; '' where there is none that could be a recipient's."""
    if not isinstance(written, str) or len(written) > ADDRESS_CHARACTERS:
        return ""
    found = parseaddr(written)[1]
    try:
        return email_address(found)
    except ValueError:  # not one that we would write to, but perhaps one that we know
        return found if "@" in found and storable(found) == found else ""


def moment(written: object) -> datetime | None:
    """A time in ISO 8601, in UTC where it does not say; None when it is unusable."""
    try:
        found = datetime.fromisoformat(written if isinstance(written, str) else "")
        found = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.year in YEARS else None


def marks(document: object) -> Marks:
    """What we sent along, where the provider gives it back as names and values."""
    return Marks(text(document, CALL_KEY), text(document, KEY_KEY))


def reason(*said: str, about: str) -> str:
    """The first text that says something, for people to read: without addresses, and without the
    name before the @ of the one that it is about."""
    words = sanitise(next(filter(None, said), ""), limit=REASON_CHARACTERS)
    name = about.partition("@")[0]
    if len(name) < SHORT:
        return words
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, words, flags=re.IGNORECASE)
