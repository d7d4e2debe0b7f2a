"""Stripe's refusals. https://docs.stripe.com/api/errors, https://docs.stripe.com/error-codes"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from sandbox.wire import Answer

Json = dict[str, Any]
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Refusal(Exception):
    """An error answer. `executed` tells whether the endpoint had begun its work: only then does
    the answer stay under the idempotency key."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002  # Stripe's name
        code: str = "",
        param: str = "",
        executed: bool = True,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.executed = executed
        self.headers = headers or {}
        self.error: Json = {"message": message, "type": type}
        if code:
            self.error["code"] = code
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        if param:
            self.error["param"] = param
        self.error |= members

    def answer(self, *, request_id: str) -> Answer:
        """The refusal on the wire."""
        link = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error = dict(sorted({**self.error, "request_log_url": link}.items()))
        return Answer(self.status, encode({"error": error}), tuple(self.headers.items()))


def encode(document: Any) -> bytes:
    """JSON as it is sent."""
    return _JSON.encode(document).encode("utf-8", "surrogatepass")


def invalid(message: str, *, param: str = "", code: str = "") -> Refusal:
    """The parameters make no sense; nothing was begun."""
    return Refusal(HTTPStatus.BAD_REQUEST, message, code=code, param=param, executed=False)


def missing(kind: str, id: str, *, param: str, status: int = HTTPStatus.NOT_FOUND) -> Refusal:  # noqa: A002  # Stripe's name
    """There is no such object."""
    message = f"No such {kind}: '{id}'"
    return Refusal(status, message, code="resource_missing", param=param)


def card_error(code: str, decline_code: str, **members: Any) -> Refusal:
    """The bank said no. https://docs.stripe.com/declines/codes"""
    if decline_code:
        members["decline_code"] = decline_code
    return Refusal(
        HTTPStatus.PAYMENT_REQUIRED,
        MESSAGES.get(code, "Your card was declined.")
        if decline_code != "insufficient_funds"
        else "Your card has insufficient funds.",
        type="card_error",
        code=code,
        **members,
    )


MESSAGES = {
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "incorrect_number": "Your card number is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
