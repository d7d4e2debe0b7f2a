"""Standard Webhooks, as many providers send them, and Svix, from which they come.
https://www.standardwebhooks.com, https://docs.svix.com/receiving/verifying-payloads/how-manual"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature as NoProof
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

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

SHARED, PUBLIC = "whsec_", "whpk_"
SCHEMES = {SHARED: "v1", PUBLIC: "v1a"}
MAX_SIGNATURES = 20  # of which each may cost a look at every key
UNNAMED = "message"


class StandardSource(Source):
    """Standard Webhooks: HMAC-SHA256 (v1) or Ed25519 (v1a) over id, time and body. The type is the
    body's `type`, or `message`. Options: SECRETS (`whsec_…` or `whpk_…`, each base64 behind the
    prefix), TOLERANCE (seconds)."""

    option_names: ClassVar[frozenset[str]] = frozenset({"SECRETS", "TOLERANCE"})
    secret_variable: ClassVar[str] = "STANDARD_WEBHOOK_SECRETS"  # noqa: S105 - a variable's name
    prefix: ClassVar[str] = "webhook"
    kept_headers: ClassVar[tuple[str, ...]] = (
        *Source.kept_headers, "webhook-id", "webhook-timestamp",
    )  # fmt: skip

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        message, digits, line = (
            read_header(headers, f"{self.prefix}-{part}")
            for part in ("id", "timestamp", "signature")
        )
        signed_at, given = read_time(digits), _signatures(line)
        content = b".".join([as_bytes(message), digits.encode(), body])
        secret = matching(self.secrets, lambda each: _proves(each, content, given))
        demand_fresh(signed_at, now=now, tolerance=tolerance_of(self.options))
        return self.label_of(secret)

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document, message = read_json_object(body), headers.get(f"{self.prefix}-id", "")
        if not is_name(message):
            raise MalformedBody(f"the {self.prefix}-id header is no name")
        kind = document.get("type")
        digits = headers.get(f"{self.prefix}-timestamp", "")
        return [
            Envelope(
                event_id=message,
                event_type=str(kind) if is_name(kind) else UNNAMED,
                payload=document,
                occurred_at=datetime.fromtimestamp(read_time(digits), UTC) if digits else None,
            )
        ]

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        for place, secret in enumerate(options.get("SECRETS") or (), start=1):
            if isinstance(secret, str) and secret and not _is_key(secret):
                yield f"secret {place} is neither {SHARED} nor {PUBLIC} with base64 behind it"
        if problem := tolerance_problem(options):
            yield problem


class SvixSource(StandardSource):
    """Svix, and who sends through it (Clerk, Resend and others): the same with other headers."""

    secret_variable: ClassVar[str] = "SVIX_WEBHOOK_SECRETS"  # noqa: S105 - a variable's name
    prefix: ClassVar[str] = "svix"
    kept_headers: ClassVar[tuple[str, ...]] = (
        *Source.kept_headers, "svix-id", "svix-timestamp",
    )  # fmt: skip


def _signatures(line: str) -> list[tuple[str, bytes]]:
    """The schemes and signatures of a header. Raises MissingSignature when there is none that we
    know."""
    pairs = [item.partition(",")[::2] for item in line.split(" ") if "," in item]
    known = [(scheme, value) for scheme, value in pairs if scheme in SCHEMES.values()]
    if not 1 <= len(known) <= MAX_SIGNATURES:
        raise MissingSignature(f"there must be 1 to {MAX_SIGNATURES} signatures v1 or v1a")
    return [(scheme, read_base64(value)) for scheme, value in known]


def _proves(secret: str, content: bytes, given: list[tuple[str, bytes]]) -> bool:
    kind, key = _read_key(secret)
    mine = [value for scheme, value in given if scheme == SCHEMES[kind]]
    if kind == SHARED:
        digest = hmac.new(key, content, hashlib.sha256).digest()
        return any(hmac.compare_digest(digest, each) for each in mine)
    public = Ed25519PublicKey.from_public_bytes(key)
    return any(_is_signed(public, each, content) for each in mine)


def _is_signed(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except NoProof:
        return False
    return True


def _read_key(secret: str) -> tuple[str, bytes]:
    """Raises ValueError for what is no key."""
    for kind in SCHEMES:
        if secret.startswith(kind):
            return kind, base64.b64decode(secret.removeprefix(kind), validate=True)
    return SHARED, base64.b64decode(secret, validate=True)


def _is_key(secret: str) -> bool:
    try:
        kind, key = _read_key(secret)
        if kind == PUBLIC:
            Ed25519PublicKey.from_public_bytes(key)
    except (ValueError, binascii.Error):
        return False
    return bool(key)
