"""A bulk message made ready: rendered here for each recipient, or with its placeholders written as
a provider does that fills them in by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import Any

from notifications.adapters.messages import BulkEmail, BulkRecipient, Email, Mailbox
from notifications.placeholders import fill, names_in, respell
from outbound.errors import PermanentError

Spelling = Callable[[str], str]
Writing = Callable[[str, Spelling], str]

# What a bulk message has in common with the one that is made of it for a recipient.
SHARED = frozenset(BulkEmail.model_fields) - {"recipients", "subject", "text", "html"}


class Place(StrEnum):
    """Where a value goes: each place has its own form of it."""

    SUBJECT = "s"
    TEXT = "t"
    HTML = "h"


@dataclass(frozen=True, slots=True)
class Template:
    """A bulk message in a provider's own spelling. `used`: the variables that it needs, and the
    place and name of each."""

    subject: str
    text: str
    html: str
    used: Mapping[str, tuple[Place, str]]

    def values(self, recipient: BulkRecipient) -> dict[str, str]:
        """A recipient's value for every variable. Providers do not escape: it is done here."""
        return {
            variable: _form(place, recipient.variables, name)
            for variable, (place, name) in self.used.items()
        }


def template_of(
    payload: BulkEmail, spelling: Spelling, *, seed: str = "", write: Writing = respell
) -> Template:
    """The message with `spelling(variable)` in each placeholder's stead. With a seed nobody can
    guess a variable's name: no value contains another's, however a provider goes about it."""
    mark = hashlib.sha256(seed.encode()).hexdigest()[:12] + "_" if seed else ""
    texts = {Place.SUBJECT: payload.subject, Place.TEXT: payload.text, Place.HTML: payload.html}
    written = {
        place: write(text, lambda name, place=place: spelling(f"{mark}{place}_{name}"))  # type: ignore[misc]
        for place, text in texts.items()
    }
    used = {
        f"{mark}{place}_{name}": (place, name)
        for place, text in texts.items()
        for name in sorted(names_in(text))
    }
    return Template(written[Place.SUBJECT], written[Place.TEXT], written[Place.HTML], used)


def render(payload: BulkEmail, recipient: BulkRecipient) -> Email:
    """The message to one recipient."""
    variables = recipient.variables
    lines = {name: _one_line(value) for name, value in variables.items()}
    try:
        words: dict[str, Any] = {
            "subject": fill(payload.subject, lines),
            "text": fill(payload.text, variables),
            "html": fill(payload.html, variables, html=True),
        }
    except KeyError as error:
        raise _missing(str(error.args[0])) from None
    # as it stands: what was checked with its placeholders is not refused for what fills them
    to = Mailbox.model_construct(address=recipient.address, name=recipient.name)
    same = {name: getattr(payload, name) for name in SHARED}
    return Email.model_construct(**same, **words, to=[to], cc=[], bcc=[])


def _form(place: Place, variables: Mapping[str, str], name: str) -> str:
    try:
        value = variables[name]
    except KeyError:
        raise _missing(name) from None
    if place is Place.HTML:
        return escape(value)
    return _one_line(value) if place is Place.SUBJECT else value


def _one_line(value: str) -> str:
    """A subject has no second line: that would be another header."""
    return " ".join(value.split())


def _missing(name: str) -> PermanentError:
    return PermanentError(
        f"a recipient has no value for {{{{{name}}}}}", code="variable_missing", http_status=400
    )
