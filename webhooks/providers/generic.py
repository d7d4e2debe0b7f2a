"""Providers with a scheme that needs no code: an HMAC of the body in a header, or a secret that is
simply shown."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from webhooks.envelopes import Envelope, is_name, read_json_object
from webhooks.errors import MalformedBody, MissingSignature
from webhooks.signatures import (
    as_bytes,
    demand_fresh,
    matching,
    read_base64,
    read_header,
    read_time,
    tolerance_of,
    tolerance_problem,
)
from webhooks.sources import Source

ALGORITHMS = ("sha256", "sha1", "sha512")
ENCODINGS = ("hex", "base64")
CONTENT = "{body}"
UNNAMED = "event"
NAMING = frozenset({"ID_HEADER", "ID_FIELD", "TYPE_HEADER", "TYPE_FIELD"})


class NamedSource(Source):
    """What an event is called: the header ID_HEADER or the body's member ID_FIELD (else the body's
    SHA-256, so that the same body is the same event), and TYPE_HEADER or TYPE_FIELD (else
    `event`). A field may be a path with dots. The body is a JSON object."""

    option_names: ClassVar[frozenset[str]] = NAMING | {"SECRETS"}

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document = read_json_object(body)
        event_id = self._named("ID", document, headers)
        return [
            Envelope(
                event_id=hashlib.sha256(body).hexdigest() if event_id is None else event_id,
                event_type=self._named("TYPE", document, headers) or UNNAMED,
                payload=document,
            )
        ]

    def keep(self, headers: Mapping[str, str]) -> dict[str, str]:
        named = {self.options.get(f"{what}_HEADER", "") for what in ("ID", "TYPE")} - {""}
        return super().keep(headers) | {name: headers[name] for name in named if name in headers}

    def _named(
        self, what: str, document: Mapping[str, Any], headers: Mapping[str, str]
    ) -> str | None:
        """The name of that kind; None when no place is set. Raises MalformedBody when there is
        nothing at the place, or no name."""
        header, path = self.options.get(f"{what}_HEADER"), self.options.get(f"{what}_FIELD")
        if not header and not path:
            return None
        value: object = headers.get(header) if header else _at(document, str(path))
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not is_name(value):
            raise MalformedBody(f"there is no name at {header or path}")
        return str(value)

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        for name in sorted(NAMING & options.keys()):
            if not isinstance(options[name], str) or not options[name]:
                yield f"{name} must be a text that is not empty"
        for what in ("ID", "TYPE"):
            if f"{what}_HEADER" in options and f"{what}_FIELD" in options:
                yield f"{what}_HEADER and {what}_FIELD cannot both be set"


class HmacSource(NamedSource):
    """An HMAC in a header. Options beside the names: SECRETS, HEADER, ALGORITHM (sha256, sha1,
    sha512), ENCODING (hex, base64), PREFIX (before the digest, such as `sha256=`),
    TIMESTAMP_HEADER (seconds since 1970) with TOLERANCE, and CONTENT, what is signed: `{body}` by
    default, with a time for example `{timestamp}.{body}`.

    Without a time an old delivery can be sent again by who has seen it: it is then a duplicate, as
    long as its id is remembered.
    """

    option_names: ClassVar[frozenset[str]] = NamedSource.option_names | {
        "HEADER", "ALGORITHM", "ENCODING", "PREFIX", "TIMESTAMP_HEADER", "TOLERANCE", "CONTENT",
    }  # fmt: skip

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        signature, prefix = read_header(headers, self.options["HEADER"]), self._option("PREFIX")
        if not signature.startswith(prefix):
            raise MissingSignature(f"the signature must start with {prefix}")
        given = self._digest_in(signature.removeprefix(prefix))
        digits, signed_at = "", None
        if self._option("TIMESTAMP_HEADER"):
            digits = read_header(headers, self._option("TIMESTAMP_HEADER"))
            signed_at = read_time(digits)
        content = _filled(self._option("CONTENT") or CONTENT, timestamp=digits, body=body)
        algorithm = self._option("ALGORITHM") or ALGORITHMS[0]
        secret = matching(
            self.secrets,
            lambda each: hmac.compare_digest(
                hmac.new(each.encode(), content, algorithm).digest(), given
            ),
        )
        if signed_at is not None:
            demand_fresh(signed_at, now=now, tolerance=tolerance_of(self.options))
        return self.label_of(secret)

    def _option(self, name: str) -> str:
        return str(self.options.get(name) or "")

    def _digest_in(self, text: str) -> bytes:
        if self._option("ENCODING") == "base64":
            return read_base64(text)
        try:
            return binascii.unhexlify(as_bytes(text))
        except binascii.Error:
            raise MissingSignature("the signature is not hexadecimal") from None

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        for name in ("HEADER", "PREFIX", "TIMESTAMP_HEADER", "CONTENT"):
            if name in options and not isinstance(options[name], str):
                yield f"{name} must be a text"
        if not options.get("HEADER"):
            yield "HEADER must name the header that has the signature"
        if options.get("ALGORITHM", ALGORITHMS[0]) not in ALGORITHMS:
            yield f"ALGORITHM must be one of {', '.join(ALGORITHMS)}"
        if options.get("ENCODING", ENCODINGS[0]) not in ENCODINGS:
            yield f"ENCODING must be one of {', '.join(ENCODINGS)}"
        content, timed = str(options.get("CONTENT", CONTENT)), bool(options.get("TIMESTAMP_HEADER"))
        if "{body}" not in content:
            yield "CONTENT must have {body}"
        if timed != ("{timestamp}" in content):
            yield "TIMESTAMP_HEADER and {timestamp} in CONTENT go together: else it is not signed"
        if problem := tolerance_problem(options):
            yield problem


class SharedSecretSource(NamedSource):
    """A secret that each delivery shows: `Authorization: Bearer SECRET`, or `Basic` with SECRET as
    `user:password`. It proves who sends, nothing about what: use it over https only, and where a
    provider has nothing better. Options beside the names: SECRETS, SCHEME (bearer, basic)."""

    option_names: ClassVar[frozenset[str]] = NamedSource.option_names | {"SCHEME"}
    schemes: ClassVar[tuple[str, ...]] = ("bearer", "basic")
    default_scheme: ClassVar[str] = "bearer"

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        wanted = self.options.get("SCHEME", self.default_scheme)
        scheme, _, shown = read_header(headers, "Authorization").partition(" ")
        if scheme.lower() != wanted or not shown.strip(" "):
            raise MissingSignature(f"the Authorization header must be {wanted}")
        text = shown.strip(" ")
        given = read_base64(text) if wanted == "basic" else as_bytes(text)
        secret = matching(self.secrets, lambda each: hmac.compare_digest(each.encode(), given))
        return self.label_of(secret)

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        scheme = options.get("SCHEME", cls.default_scheme)
        if scheme not in cls.schemes:
            yield f"SCHEME must be one of {', '.join(cls.schemes)}"
        secrets = options.get("SECRETS") or ()
        if scheme == "basic" and not all(":" in str(secret) for secret in secrets):
            yield "with SCHEME basic each of SECRETS must be user:password"


def _at(document: Mapping[str, Any], path: str) -> object:
    found: object = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _filled(template: str, *, timestamp: str, body: bytes) -> bytes:
    return as_bytes(template).replace(b"{timestamp}", as_bytes(timestamp)).replace(b"{body}", body)
