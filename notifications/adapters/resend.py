"""Resend's email API. https://resend.com/docs/api-reference/emails/send-email"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from anymail.backends.base_requests import RequestsPayload
from anymail.backends.resend import EmailBackend

from notifications.adapters import MessageAdapter
from notifications.adapters.anymail import OPTIONS, build_payload, statuses
from notifications.adapters.bodies import encoded
from notifications.adapters.messages import CALL_KEY, KEY_KEY, BulkEmail, Email
from notifications.adapters.recipients import distinct, everybody
from notifications.adapters.refusals import (
    ACCOUNT,
    CONFLICT,
    QUOTA,
    RECIPIENTS,
    STILL_RUNNING,
    THROTTLED,
    Entry,
    Table,
    error_of,
    fields_in,
    private_texts,
    readable,
    reply_of_entries,
    text_in,
    unreadable,
    word_in,
)
from notifications.adapters.rendering import render
from notifications.adapters.replies import Receipt, accepted_reply
from outbound.adapters import CallContext, Reply, operation
from outbound.client import HttpClient, Request, Response

DEFAULT_API_BASE = "https://api.resend.com"
# Remembered for 24 hours. https://resend.com/docs/dashboard/emails/idempotency-keys
KEY_LIFETIME = timedelta(hours=20)
TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")

# https://resend.com/docs/api-reference/errors
MEANINGS: Table = {
    "missing_api_key": ACCOUNT,
    "invalid_api_key": ACCOUNT,
    "restricted_api_key": ACCOUNT,
    "invalid_access": ACCOUNT,
    "daily_quota_exceeded": QUOTA,
    "monthly_quota_exceeded": QUOTA,
    "rate_limit_exceeded": THROTTLED,
    "concurrent_idempotent_requests": STILL_RUNNING,
    "invalid_idempotent_request": CONFLICT,
    "invalid_recipient": RECIPIENTS,  # ours, for a validation_error about `to`
}
# "Invalid `to` field. The email address needs to follow the `email@example.com` format."
TO_FIELD = re.compile(r"`(to|cc|bcc)`")


class ResendAdapter(MessageAdapter):
    """The one provider of email with idempotency keys: what is not known is asked for again."""

    required_options = {"API_KEY": "RESEND_API_KEY"}  # noqa: RUF012  # a ClassVar in Adapter
    visible_fields = frozenset({"id", "name", "statusCode"})
    # https://resend.com/docs/api-reference/emails/send-batch-emails
    batch_limit = 100
    batch_attachments = False  # not supported there
    batch_bytes = 30_000_000  # nothing is promised for a batch
    # https://resend.com/docs/dashboard/emails/attachments
    max_bytes = 40_000_000

    def __init__(self, *, name: str, options: Any, http: HttpClient) -> None:
        super().__init__(name=name, options=options, http=http)
        self._backend = EmailBackend(
            api_key=str(options.get("API_KEY", "")),
            api_url=f"{options.get('API_BASE') or DEFAULT_API_BASE}/",
            verify_attachment_extensions=True,
            **OPTIONS,
        )

    @operation(key_lifetime=KEY_LIFETIME)
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        """One message that all its recipients see alike."""
        email = distinct(payload)
        built = self._built(email, context)
        response = self._post(built.data, context, path="emails")
        _raise_for(response, private_texts(payload))
        message_id = self._message_id(response, built)
        receipts = [Receipt(mailbox.address, True, message_id) for mailbox in everybody(email)]
        return accepted_reply(receipts, message_id=message_id, provider_status=response.status)

    @operation(key_lifetime=KEY_LIFETIME)
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        """One message to each recipient, rendered here. Permissive: Resend takes those that it does
        not mind. https://resend.com/changelog/batch-validation-modes"""
        self.check_batch(payload)
        emails = [render(payload, recipient) for recipient in payload.recipients]
        body = [self._built(email, context).data for email in emails]
        permissive = {"x-batch-validation": "permissive"}
        response = self._post(body, context, path="emails/batch", headers=permissive)
        private = private_texts(payload)
        _raise_for(response, private)
        return reply_of_entries(_entries(response, emails, private), response, provider="resend")

    def _built(self, email: Email, context: CallContext) -> RequestsPayload:
        marks = {CALL_KEY: context.call_id, KEY_KEY: context.idempotency_key}
        tags = [{"name": k, "value": v} for k, v in marks.items() if TAG.fullmatch(v)]
        return build_payload(
            self._backend,
            email,
            context,
            provider="resend",
            metadata=email.metadata,
            tags=email.tags,
            esp_extra={"tags": tags},
        )

    def _post(
        self,
        body: Any,
        context: CallContext,
        *,
        path: str,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        request = Request(
            "POST",
            f"{self._backend.api_url}{path}",
            {
                "Authorization": f"Bearer {self.options['API_KEY']}",
                "Content-Type": "application/json",
                "Idempotency-Key": context.idempotency_key,
                **(headers or {}),
            },
            encoded(body),
        )
        return self.http.send(request, context)

    def _message_id(self, response: Response, built: RequestsPayload) -> str:
        found = statuses(self._backend, built, fields_in(response)) or {}
        ids = {status.message_id for status in found.values()}
        message_id = ids.pop() if len(ids) == 1 else None
        if not isinstance(message_id, str) or not message_id:
            raise unreadable(response, provider="resend")
        return message_id


def _raise_for(response: Response, private: frozenset[str]) -> None:
    fields = fields_in(response)
    word, text = word_in(fields.get("name")), text_in(fields.get("message"))
    if response.status in (400, 422) and TO_FIELD.search(text):
        word = "invalid_recipient"
    error = error_of(
        response,
        provider="resend",
        table=MEANINGS,
        word=word,
        text=text,
        keyed=True,
        private=private,
    )
    if error is not None:
        raise error


def _entries(response: Response, emails: list[Email], private: frozenset[str]) -> list[Entry]:
    """`data` has the ids of those that were taken, in order; `errors` the places of the others.
    Raises OutcomeUnknown where that does not add up."""
    refused = dict(_errors(response))
    ids = iter(_ids(response))
    entries = []
    for place, email in enumerate(emails):
        address = email.to[0].address
        if place in refused:
            reason = readable("resend", "validation_error", refused[place], private)
            entries.append(
                Entry(address, meaning=RECIPIENTS, word="validation_error", reason=reason)
            )
        else:
            entries.append(Entry(address, next(ids, "")))
    if next(ids, "") or any(not e.message_id and e.meaning is None for e in entries):
        raise unreadable(response, provider="resend")
    return entries


def _ids(response: Response) -> list[str]:
    return [text_in(each.get("id")) for each in _objects(response, "data")]


def _errors(response: Response) -> list[tuple[int, str]]:
    found = [
        (each.get("index"), text_in(each.get("message"))) for each in _objects(response, "errors")
    ]
    return [(place, text) for place, text in found if isinstance(place, int)]


def _objects(response: Response, name: str) -> list[dict[str, object]]:
    value = fields_in(response).get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
