"""What the schemes of several providers have in common.

Headers may hold anything: they are compared as bytes, for compare_digest refuses text beyond ASCII,
and every oddity ends as MissingSignature (not put together as the provider does it) or
InvalidSignature (put together well, and no proof).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from webhooks.errors import InvalidSignature, MissingSignature

MAX_DIGITS = 20  # more than any time has, and less than int() minds
TOLERANCE_SECONDS = 300.0


def read_header(headers: Mapping[str, str], name: str) -> str:
    """Raises MissingSignature when it is not there, or empty."""
    value = headers.get(name, "").strip(" \t")
    if not value:
        raise MissingSignature(f"the {name} header is missing")
    return value


def as_bytes(text: str) -> bytes:
    """A header's text to compare with: what has no bytes becomes '?', and matches nothing."""
    return text.encode("utf-8", "replace")


def read_base64(text: str) -> bytes:
    """Raises MissingSignature for what is not base64, strictly."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise MissingSignature("the signature is not base64") from None


def read_time(digits: str) -> int:
    """Seconds since 1970. Raises MissingSignature for what is not 1 to 20 ASCII digits."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
        raise MissingSignature(f"the time must be 1 to {MAX_DIGITS} digits")
    return int(digits)


def matching(secrets: Collection[str], proves: Callable[[str], bool]) -> str:
    """The secret that proves it. Raises InvalidSignature."""
    for secret in secrets:
        if proves(secret):
            return secret
    raise InvalidSignature("the signature does not match")


def signed(key: bytes, content: bytes, algorithm: str, given: Collection[bytes]) -> bool:
    """Whether one of the digests `given`, as hexadecimal, is the HMAC of `content`."""
    digest = hmac.new(key, content, algorithm).hexdigest().encode()
    return any(hmac.compare_digest(digest, each) for each in given)


def demand_fresh(signed_at: int, *, now: datetime, tolerance: float) -> None:
    """Raises InvalidSignature for a time that is further from now, in the past or in the future,
    than `tolerance` seconds."""
    if abs(now.timestamp() - signed_at) > tolerance:
        raise InvalidSignature("signed too long ago, or in the future")


def tolerance_of(options: Mapping[str, Any], default: float = TOLERANCE_SECONDS) -> float:
    return float(options.get("TOLERANCE", default))


def tolerance_problem(options: Mapping[str, Any]) -> str:
    """What is wrong with the option TOLERANCE; '' when nothing is."""
    value = options.get("TOLERANCE", TOLERANCE_SECONDS)
    if isinstance(value, bool) or not (isinstance(value, int | float) and 0 < value < float("inf")):
        return "TOLERANCE must be a positive number of seconds"
    return ""
