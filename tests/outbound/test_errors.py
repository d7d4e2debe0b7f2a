"""The error tree: the class is the decision."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbound import errors
from outbound.errors import (
    CallRefused,
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    StoredFailure,
    TransientError,
)

CALLER_ERRORS = [
    errors.UnknownAdapter, errors.UnknownOperation, errors.InvalidPayload, errors.KeyReused,
    errors.KeyExpired, errors.IllegalMove, errors.ReasonRequired, errors.RetryRefused,
]  # fmt: skip


def test_the_tree() -> None:
    """Two trees that share nothing, and configuration errors in neither."""
    assert issubclass(TransientError, DeliveryError)
    assert issubclass(PermanentError, DeliveryError)
    assert issubclass(RateLimited, TransientError)
    assert issubclass(OutcomeUnknown, TransientError)
    assert issubclass(StoredFailure, OutcomeUnknown)
    assert not issubclass(DeliveryError, ValueError)
    assert not issubclass(ImproperlyConfigured, DeliveryError | CallRefused)
    assert not issubclass(errors.AdapterBug, DeliveryError | CallRefused)
    assert all(issubclass(kind, CallRefused) for kind in CALLER_ERRORS)


@pytest.mark.parametrize(
    "error,kind,possible",
    [
        (TransientError("x"), "transient_error", False),
        (RateLimited("x"), "rate_limited", False),
        (OutcomeUnknown("x"), "outcome_unknown", True),
        (StoredFailure("x"), "stored_failure", True),
        (PermanentError("x"), "permanent_error", False),
        (TransientError("x", effect_possible=True), "transient_error", True),
        (OutcomeUnknown("x", effect_possible=False), "outcome_unknown", False),
        (PermanentError("x", effect_possible=True), "permanent_error", True),
    ],
)
def test_kinds(error: DeliveryError, kind: str, possible: bool) -> None:
    """The name that rows store fits its column; the default doubt can be overridden."""
    assert (error.kind, error.effect_possible) == (kind, possible)
    assert len(error.kind) <= 40


def test_details() -> None:
    """Every error carries what our API, the admin and the policy need."""
    error = TransientError(
        "away", retry_after=5, code="c", http_status=503, provider_status=502,
        provider_request_id="r",
    )  # fmt: skip
    assert (str(error), error.message, error.retry_after, error.code) == ("away", "away", 5, "c")
    assert (error.http_status, error.provider_status) == (503, 502)
    assert (error.provider_request_id, error.hint_in) == ("r", None)
    assert (PermanentError("x").conclusive, PermanentError("x").http_status) == (True, 502)


def test_invalid_payload() -> None:
    """The text names each wrong field."""
    error = errors.InvalidPayload(
        [errors.FieldError("/n", "too small"), errors.FieldError("/a/b", "missing")]
    )
    assert str(error) == "/n: too small; /a/b: missing"
