"""What each of Stripe's refusals means. https://docs.stripe.com/error-low-level"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from outbound.client import Response
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    StoredFailure,
    TransientError,
)
from payments.adapters.stripe_errors import error_of
from tests.payments import samples

RETRY = {"Stripe-Should-Retry": "true"}
NO_RETRY = {"Stripe-Should-Retry": "false"}
REPLAYED = {"Idempotent-Replayed": "true"}
API_ERROR = {"error": {"type": "api_error", "message": "Sorry."}}


@dataclass(frozen=True)
class Row:
    """A reply, and what must come of it for a write under a key."""

    status: int
    kind: type[DeliveryError]
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    http_status: int = 502
    effect_possible: bool = False
    conclusive: bool = True
    code: str = ""


def error(sort: str, code: str = "") -> dict[str, Any]:
    return {"error": {"type": sort, "code": code, "message": "because"}}


TABLE = {
    # Stripe-Should-Retry comes first, both ways.
    "402 told to retry": Row(
        402, TransientError, samples.card_error(), RETRY, code="card_declined"
    ),
    "400 told to retry": Row(400, TransientError, error("invalid_request_error"), RETRY),
    "429 told to retry": Row(429, RateLimited, {}, RETRY, http_status=429),
    "500 told to retry": Row(500, TransientError, API_ERROR, RETRY, effect_possible=True),
    "500 told not to": Row(500, StoredFailure, API_ERROR, NO_RETRY, effect_possible=True),
    "503 told not to": Row(503, StoredFailure, API_ERROR, NO_RETRY, effect_possible=True),
    "409 told not to": Row(
        409,
        PermanentError,
        error("invalid_request_error", "lock_timeout"),
        NO_RETRY,
        http_status=500,
        conclusive=False,
        code="lock_timeout",
    ),
    "429 told not to": Row(429, PermanentError, {}, NO_RETRY, http_status=429, conclusive=False),
    "402 told not to": Row(
        402, PermanentError, samples.card_error(), NO_RETRY, http_status=400, code="card_declined"
    ),
    # Then the status and Stripe's own words.
    "409 key in use": Row(
        409,
        TransientError,
        error("idempotency_error", "idempotency_key_in_use"),
        effect_possible=True,
        code="idempotency_key_in_use",
    ),
    "409 lock timeout": Row(
        409, TransientError, error("invalid_request_error", "lock_timeout"), code="lock_timeout"
    ),
    "409 of any sort": Row(409, TransientError),
    "429": Row(429, RateLimited, http_status=429),
    "400 rate limit, as it once was": Row(
        400,
        RateLimited,
        error("invalid_request_error", "rate_limit"),
        http_status=429,
        code="rate_limit",
    ),
    "402 declined": Row(
        402, PermanentError, samples.card_error(), http_status=400, code="card_declined"
    ),
    "402 declined, replayed": Row(
        402,
        PermanentError,
        samples.card_error(code="expired_card"),
        REPLAYED,
        http_status=400,
        code="expired_card",
    ),
    "400 invalid": Row(
        400,
        PermanentError,
        samples.invalid_request(),
        http_status=400,
        code="parameter_invalid_integer",
    ),
    "404 missing": Row(
        404,
        PermanentError,
        error("invalid_request_error", "resource_missing"),
        http_status=400,
        code="resource_missing",
    ),
    "400 other parameters under the key": Row(
        400, PermanentError, error("idempotency_error"), http_status=500, conclusive=False
    ),
    "401 wrong key": Row(
        401, PermanentError, error("invalid_request_error"), http_status=500, conclusive=False
    ),
    "403 not allowed": Row(
        403, PermanentError, error("invalid_request_error"), http_status=500, conclusive=False
    ),
    "400 of an unknown sort": Row(400, PermanentError, error("novel_error"), http_status=500),
    "400 that is not Stripe's": Row(400, PermanentError, http_status=500, conclusive=False),
    "404 that is not Stripe's": Row(404, PermanentError, http_status=500, conclusive=False),
    "301": Row(301, PermanentError, http_status=500, conclusive=False),
    "304": Row(304, PermanentError, http_status=500, conclusive=False),
    "408": Row(408, TransientError, effect_possible=True),
    "425": Row(425, TransientError),
    "500": Row(500, TransientError, API_ERROR, effect_possible=True),
    "500 replayed": Row(500, StoredFailure, API_ERROR, REPLAYED, effect_possible=True),
    "502": Row(502, TransientError, effect_possible=True),
    "503": Row(503, TransientError, effect_possible=True),
    "529": Row(529, TransientError, effect_possible=True),
}


def response(
    status: int, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Response:
    named = CaseInsensitiveDict({"Request-Id": "req_7", **(headers or {})})
    return Response(status, named, json.dumps(body or {}).encode())


def found(
    status: int,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    *,
    reads: bool = False,
    keyed: bool = True,
    private: frozenset[str] = frozenset(),
) -> DeliveryError:
    error = error_of(response(status, body, headers), reads=reads, keyed=keyed, private=private)
    assert error is not None
    return error


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_write(row: Row) -> None:
    """The class, what our API answers, and whether the call may have had its effect."""
    error = found(row.status, row.body, row.headers)
    assert type(error) is row.kind
    assert error.http_status == row.http_status
    assert error.effect_possible is row.effect_possible
    assert error.code == row.code
    assert error.provider_status == row.status
    assert error.provider_request_id == "req_7"
    if isinstance(error, PermanentError):
        assert error.conclusive is row.conclusive


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_is_no_error(status: int) -> None:
    """2xx is for the reader of the body."""
    assert error_of(response(status), reads=False, keyed=True, private=frozenset()) is None


@pytest.mark.parametrize(
    "headers", [{}, REPLAYED, NO_RETRY, RETRY], ids=["plain", "replayed", "no retry", "retry"]
)
def test_reads_change_nothing(headers: dict[str, str]) -> None:
    """Whatever a read meets, nothing happened, and its outcome is never unknown."""
    for status in (400, 402, 409, 429, 500, 503):
        error = found(status, API_ERROR, headers, reads=True)
        assert not error.effect_possible
        assert not isinstance(error, OutcomeUnknown)


def test_read_of_what_is_not_there() -> None:
    """A read of an object that Stripe does not know answers 404, and 502 where it is not Stripe
    that says so."""
    missing = error_body = error("invalid_request_error", "resource_missing")
    assert found(404, missing, reads=True).http_status == 404
    assert found(404, {}, reads=True).http_status == 502
    assert found(400, error_body, reads=True).http_status == 400


def test_without_a_key_no_refusal_speaks_for_earlier_attempts() -> None:
    """The second DELETE meets a 404, be it because the first one worked."""
    refused = found(404, error("invalid_request_error", "resource_missing"), keyed=False)
    assert isinstance(refused, PermanentError)
    assert not refused.conclusive


def test_retry_after_is_kept() -> None:
    """The wish of a busy provider reaches the policy, with 429 and with 5xx."""
    for status in (429, 503):
        error = found(status, headers={"Retry-After": "17"})
        assert isinstance(error, TransientError)
        assert error.retry_after == 17


def test_message_of_a_decline() -> None:
    """A person sees the code, the bank's reason and Stripe's words."""
    assert found(402, samples.card_error()).message == (
        "stripe: card_declined (insufficient_funds) - Your card has insufficient funds."
    )


def test_message_of_an_invalid_request() -> None:
    """A person sees which parameter it was."""
    assert found(400, samples.invalid_request()).message == (
        "stripe: parameter_invalid_integer (param amount) - "
        "This value must be greater than or equal to 1."
    )


def test_message_quotes_nothing_private() -> None:
    """Stripe quotes what it did not understand; we do not."""
    body = error("invalid_request_error", "email_invalid")
    body["error"]["message"] = "Invalid email address: jo at home (jo at home, Jo)"
    private = frozenset({"jo at home", "Jo"})
    assert found(400, body, private=private).message == (
        "stripe: email_invalid - Invalid email address: [hidden] ([hidden], [hidden])"
    )


def test_message_without_a_body() -> None:
    """What stands in between says little, and even that is kept."""
    assert found(502).message == "stripe: status 502"
