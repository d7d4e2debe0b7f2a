"""Faults that answer with an error: 5xx, 429, 409, 402."""

from __future__ import annotations

from email.utils import formatdate

from sandbox.faults.fault import Fault, Met
from sandbox.faults.headers import one_line, read_headers
from sandbox.fields import BadInput, Fields
from sandbox.sending import Reply
from sandbox.stripe.cards import Decline
from sandbox.stripe.trouble import CONFLICT, TOO_MANY
from sandbox.wire import Answer


def read_status(fields: Fields) -> Fault:
    """An error of the server, `status` (500).

    `effect` (false): it happens nevertheless. `store` (false): the key answers this error from now
    on; otherwise a repetition finds the true answer. Also `should_retry`, `headers`.
    """
    status = fields.integer("status", 500, least=400, most=599)
    effect, store = fields.flag("effect", False), fields.flag("store", False)
    headers = read_headers(fields)

    def error(met: Met) -> Answer:
        return met.trouble(status, code="", met=met).with_headers(headers)

    if store:
        return Fault("status", executes=effect, stored=lambda _answer, met: error(met))
    if effect:
        return Fault("status", sent=lambda _answer, met: error(met))
    return Fault("status", instead=lambda met: Reply(error(met)))


def read_rate_limit(fields: Fields) -> Fault:
    """429.

    `retry_after`: seconds or any text at all, or `retry_after_date`: seconds from now, sent as an
    HTTP date. `code` (Stripe's): rate_limit or lock_timeout. Also `should_retry`, `headers`.
    """
    after = fields.any("retry_after")
    if isinstance(after, bool) or not isinstance(after, str | int | float | None):
        raise BadInput("retry_after must be a number or a text")
    date = fields.number("retry_after_date", None, least=-1e9)
    if after is not None and date is not None:
        raise BadInput("give retry_after or retry_after_date, not both")
    text = None if after is None else one_line(str(after), "retry_after")
    code = fields.text("code", "rate_limit", choices=TOO_MANY)
    headers = read_headers(fields)

    def instead(met: Met) -> Reply:
        answer = met.trouble(429, code=code, met=met)
        wait = formatdate(met.now + date, usegmt=True) if date is not None else text
        return Reply(answer.with_headers({**({"Retry-After": wait} if wait else {}), **headers}))

    return Fault("rate_limit", instead=instead)


def read_conflict(fields: Fields) -> Fault:
    """409, as if another request with the same key were running. `should_retry`, `headers`."""
    headers = read_headers(fields)

    def instead(met: Met) -> Reply:
        return Reply(met.trouble(409, code=CONFLICT, met=met).with_headers(headers))

    return Fault("conflict", instead=instead)


def read_decline(fields: Fields) -> Fault:
    """The bank says no to the payment. What is no payment is refused in the same words, without
    effect. `code`, `decline_code`."""
    return Fault("decline", decline=Decline.read(fields))
