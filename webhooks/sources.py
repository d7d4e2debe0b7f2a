"""Sources: who sends us events, as named in settings.WEBHOOK_SOURCES.

A source is a verifier and a parser. It touches no model, no clock and no setting: bytes, headers
and `now` go in, envelopes or a DeliveryRefused come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from outbound.redaction import sanitise
from webhooks.envelopes import Envelope
from webhooks.errors import DeliveryRefused, UnknownSource

ENTRY_KEYS = frozenset({"SOURCE", "OPTIONS"})
HEADER_CHARACTERS = 200
COMMON_OPTIONS = frozenset({"ORDERED"})


class Source:
    """Base of all sources. Subclass it, name it in WEBHOOK_SOURCES, and that is all."""

    kept_headers: ClassVar[tuple[str, ...]] = ("Content-Type", "User-Agent")
    """Headers that are stored with the event."""
    option_names: ClassVar[frozenset[str]] = frozenset({"SECRETS"})
    """Options of its own, beside ORDERED, which every source has: whether events about the same
    object (`ordering_key`) are handled one at a time."""
    required_option: ClassVar[str] = "SECRETS"
    """The option without which nothing can be verified."""
    secret_variable: ClassVar[str] = ""
    """The environment variable that sets the secrets."""
    lists_by: ClassVar[tuple[str, str] | None] = None
    """The outbound adapter and its operation by which the provider lists its events, newest
    first; None: it cannot be asked."""
    probed_by_head: ClassVar[bool] = False
    """Whether the provider tries an address with HEAD, and wants 200."""

    def __init__(self, *, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self.options = options
        self.secrets: tuple[str, ...] = tuple(options.get("SECRETS") or ())

    @property
    def enabled(self) -> bool:
        """Without a secret nothing can be verified, so nothing is accepted."""
        return bool(self.options.get(self.required_option))

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        """Prove that the provider sent this to `url`, which is the address as it knows it. Returns
        the label of the secret that matched (`label_of`). Raises MissingSignature,
        InvalidSignature, MalformedBody."""
        raise ImproperlyConfigured(f"{type(self).__name__} does not verify anything")

    def with_address(self, headers: Mapping[str, str], url: str) -> Mapping[str, str]:
        """The headers of a verified delivery, and beside them what the address to which it was sent
        says of its events, where the scheme proves that, too."""
        return headers

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        """The events in a body. Raises MalformedBody."""
        raise ImproperlyConfigured(f"{type(self).__name__} does not parse anything")

    def parse_stored(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        """The events in what was stored, with the kept headers, when they are handled. Another
        one than `parse` where envelopes have bodies of their own."""
        return self.parse(body, headers)

    def reply(self, body: bytes) -> str | None:
        """The text that answers a verified body in which there is no event; None: there is one.
        Raises MalformedBody."""
        return None

    def list_request(self, *, since: datetime, after: str) -> dict[str, Any]:
        """The payload that asks for a page of the events since then, behind the one called
        `after` ('' for the first page)."""
        raise ImproperlyConfigured(f"{type(self).__name__} has no list of events")

    def read_list(self, page: Mapping[str, Any]) -> tuple[list[Envelope], str]:
        """The events of a page, and the name of the last one when there are more behind it, else
        ''. Raises MalformedBody."""
        raise ImproperlyConfigured(f"{type(self).__name__} has no list of events")

    def status_of(self, refusal: DeliveryRefused) -> int:
        """The HTTP status of a refusal, where the provider has an own understanding of it."""
        return refusal.http_status

    def admit(self, envelope: Envelope) -> None:
        """Refuse what is authentic and still not for us. Raises DeliveryRefused."""

    def handshake(self, query: Mapping[str, str]) -> str | None:
        """The answer to the GET by which some providers try an address; None: there is none."""
        return None

    def ordering_key(self, envelope: Envelope) -> str:
        """What the event is about, as one name; '' when that cannot be said."""
        return ""

    def label_of(self, secret: str) -> str:
        """The place and the fingerprint of a secret, to be stored instead of it."""
        fingerprint = hashlib.sha256(b"holdfast:" + secret.encode()).hexdigest()[:8]
        return f"{self.secrets.index(secret) + 1}-{fingerprint}"

    def keep(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The part of the headers that is stored."""
        return {
            name: sanitise(headers[name], limit=HEADER_CHARACTERS)
            for name in self.kept_headers
            if name in headers
        }

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with the options, for `manage.py check`."""
        for name in sorted(options.keys() - cls.option_names - COMMON_OPTIONS):
            yield f"unknown option {name!r}"
        if not isinstance(options.get("ORDERED", False), bool):
            yield "ORDERED must be True or False"
        secrets = options.get("SECRETS", ())
        if not isinstance(secrets, list | tuple) or not all(
            isinstance(secret, str) and secret for secret in secrets
        ):
            yield "SECRETS must be a list of strings, none of them empty"


def source_class(name: str) -> type[Source]:
    """The class behind a name. Raises UnknownSource, ImproperlyConfigured."""
    path = _entry(name).get("SOURCE", "")
    try:
        found = import_string(str(path))
    except ImportError as error:
        raise ImproperlyConfigured(
            f"WEBHOOK_SOURCES[{name!r}]: cannot import {path!r}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise ImproperlyConfigured(f"WEBHOOK_SOURCES[{name!r}]: {path!r} is no Source")
    return found


@cache
def source_for(name: str) -> Source:
    """The source of that name, enabled or not. Raises UnknownSource, ImproperlyConfigured."""
    return source_class(name)(name=name, options=_entry(name).get("OPTIONS", {}))


def enabled_source(name: str) -> Source:
    """The source that may send to us. Raises UnknownSource, ImproperlyConfigured."""
    source = source_for(name)
    if not source.enabled:
        raise UnknownSource("no such source")
    return source


def _entry(name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = settings.WEBHOOK_SOURCES[name]
    except (KeyError, TypeError):
        raise UnknownSource("no such source") from None
    return found


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "WEBHOOK_SOURCES":
        source_for.cache_clear()


setting_changed.connect(_forget)
