"""What Stripe's refusals mean for us.

https://docs.stripe.com/api/errors, https://docs.stripe.com/error-low-level
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outbound.client import Response, classify
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    StoredFailure,
    TransientError,
)

SERVER_ERROR = 500
OURS = 500  # what our API answers when the trouble is not the caller's


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error reply of Stripe. All texts are '' where the body is not Stripe's own."""

    response: Response
    reads: bool
    keyed: bool  # a refusal under a key speaks for all attempts with that key
    sort: str  # Stripe's `type`
    code: str
    param: str
    message: str

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def request_id(self) -> str:
        return self.response.headers.get("Request-Id", "")

    def permanent(self, http_status: int, *, conclusive: bool = True) -> PermanentError:
        return PermanentError(
            self.message,
            conclusive=conclusive and self.keyed,
            code=self.code,
            param=self.param,
            http_status=http_status,
            provider_status=self.status,
            provider_request_id=self.request_id,
        )

    def transient(
        self, kind: type[TransientError] = TransientError, *, effect_possible: bool
    ) -> TransientError:
        return kind(
            self.message,
            retry_after=self.response.retry_after,
            code=self.code,
            param=self.param,
            http_status=429 if kind is RateLimited else 502,
            provider_status=self.status,
            provider_request_id=self.request_id,
            effect_possible=effect_possible and not self.reads,
        )


def error_of(
    response: Response, *, reads: bool, keyed: bool, private: frozenset[str]
) -> DeliveryError | None:
    """The error that a reply stands for; None for 2xx. `private` are texts of the request that
    must not be quoted."""
    if classify(response, keyed=keyed, reads=reads, message="") is None:
        return None
    refusal = read_refusal(response, reads=reads, keyed=keyed, private=private)
    return _as_stripe_says(refusal) or _by_status(refusal)


def read_refusal(
    response: Response, *, reads: bool, keyed: bool, private: frozenset[str]
) -> Refusal:
    """Tolerates any body: what stands in between may answer too."""
    try:
        document = response.json()
    except ValueError:
        document = None
    error = document.get("error") if isinstance(document, Mapping) else None
    fields: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    sort, code = _text(fields, "type"), _text(fields, "code")
    parts = [f"stripe: {code or sort or f'status {response.status}'}"]
    if decline_code := _text(fields, "decline_code"):
        parts.append(f"({decline_code})")
    param = _text(fields, "param")
    if param:
        parts.append(f"(param {param})")
    if text := _text(fields, "message"):
        parts.append(f"- {_without(text, private)}")
    return Refusal(response, reads, keyed, sort, code, param, " ".join(parts))


def _as_stripe_says(refusal: Refusal) -> DeliveryError | None:
    """Stripe-Should-Retry overrules the status, both ways."""
    word = refusal.response.headers.get("Stripe-Should-Retry", "").strip().lower()
    server_error = refusal.status >= SERVER_ERROR
    if word == "true":
        if refusal.status == 429:
            return refusal.transient(RateLimited, effect_possible=False)
        return refusal.transient(effect_possible=server_error or _still_running(refusal))
    if word == "false" and (server_error or refusal.status in (408, 409, 425, 429)):
        if server_error or refusal.status == 408:
            return _stored(refusal)
        return refusal.permanent(429 if refusal.status == 429 else OURS, conclusive=False)
    return None


def _by_status(refusal: Refusal) -> DeliveryError:
    status = refusal.status
    if status == 429 or refusal.code == "rate_limit":
        return refusal.transient(RateLimited, effect_possible=False)
    if status == 409 or refusal.code == "lock_timeout":
        return refusal.transient(effect_possible=_still_running(refusal))
    if status >= SERVER_ERROR:
        if refusal.response.headers.get("Idempotent-Replayed", "").strip().lower() == "true":
            return _stored(refusal)
        return refusal.transient(effect_possible=True)
    if status in (408, 425):
        return refusal.transient(effect_possible=status == 408)
    if status in (401, 403):
        return refusal.permanent(OURS, conclusive=False)
    if status < 400 or not refusal.sort:  # not Stripe's word: says nothing about the call
        return refusal.permanent(502 if refusal.reads else OURS, conclusive=False)
    if refusal.sort == "idempotency_error":
        return refusal.permanent(OURS, conclusive=False)
    if refusal.sort in ("card_error", "invalid_request_error"):
        return refusal.permanent(404 if refusal.reads and status == 404 else 400)
    return refusal.permanent(OURS)


def _stored(refusal: Refusal) -> DeliveryError:
    """Asking again can only say the same again. What it means for the outcome nobody knows."""
    if refusal.reads:
        return refusal.permanent(502)
    return refusal.transient(StoredFailure, effect_possible=True)


def _still_running(refusal: Refusal) -> bool:
    """A request with our key is at work there: an earlier attempt of ours."""
    return refusal.code == "idempotency_key_in_use"


def unreadable(response: Response, *, reads: bool) -> DeliveryError:
    """A 2xx whose body is not the object that was asked for: it worked, but what came of it is
    lost. Repeating with the same key brings the stored answer."""
    message = f"stripe: status {response.status} without the expected object"
    kind = TransientError if reads else OutcomeUnknown
    return kind(
        message,
        provider_status=response.status,
        provider_request_id=response.headers.get("Request-Id", ""),
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value[:1000] if isinstance(value, str) else ""


def _without(text: str, private: frozenset[str]) -> str:
    """Stripe likes to quote what it did not understand."""
    for secret in sorted(private, key=len, reverse=True):
        text = text.replace(secret, "[hidden]")
    return text
