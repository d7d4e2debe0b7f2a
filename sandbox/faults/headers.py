"""Headers that a fault adds to an answer."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.fields import BadInput, Fields


def read_headers(fields: Fields) -> Mapping[str, str]:
    """Any `headers`, and `should_retry`, which is Stripe-Should-Retry.

    https://docs.stripe.com/error-low-level
    """
    headers = {
        one_line(name, "headers"): one_line(value, "headers")
        for name, value in fields.string_map("headers").items()
    }
    should_retry = fields.flag("should_retry", None)
    if should_retry is not None:
        headers["Stripe-Should-Retry"] = "true" if should_retry else "false"
    return headers


def one_line(text: str, name: str) -> str:
    """The text, which must fit into a header. Raises BadInput."""
    if any(sign < " " or sign == "\x7f" for sign in text):
        raise BadInput(f"{name} must not contain control characters")
    return text
