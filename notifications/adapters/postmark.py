"""Postmark's email API. https://postmarkapp.com/developer/api/email-api"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anymail.backends.base_requests import RequestsPayload
from anymail.backends.postmark import EmailBackend

from notifications.adapters import MessageAdapter
from notifications.adapters.anymail import ACCEPTED, OPTIONS, build_payload, statuses
from notifications.adapters.bodies import encoded
from notifications.adapters.messages import CALL_KEY, KEY_KEY, BulkEmail, Email
from notifications.adapters.mime import addr_spec
from notifications.adapters.recipients import (
    RecipientsNamed,
    distinct,
    drop_refused,
    everybody,
    without,
)
from notifications.adapters.refusals import (
    ACCOUNT,
    AGAIN,
    QUOTA,
    RECIPIENTS,
    REQUEST,
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
from notifications.adapters.replies import NOBODY, Receipt, reply_or_refusal
from outbound.adapters import CallContext, Reply, operation
from outbound.client import HttpClient, Request, Response
from outbound.errors import DeliveryError

DEFAULT_API_BASE = "https://api.postmarkapp.com"
METADATA_CHARACTERS = 80  # of a value: https://postmarkapp.com/support/article/1125

# https://postmarkapp.com/developer/api/overview#error-codes
MEANINGS: Table = {
    "10": ACCOUNT,  # bad or missing server token
    "100": AGAIN,  # offline for maintenance
    "300": REQUEST,  # invalid email request; the sentence says what of it
    "400": ACCOUNT,  # sender signature not found
    "401": ACCOUNT,  # sender signature not confirmed
    "405": QUOTA,  # not allowed to send: out of credits
    "406": RECIPIENTS,  # inactive: has bounced or complained before
    "412": ACCOUNT,  # account pending: only to its own domain
    "413": ACCOUNT,  # account may not send
    "429": THROTTLED,
    "1235": ACCOUNT,  # no such message stream
}
INVALID_RECIPIENT, INACTIVE = "300", "406"
TO_FIELD = re.compile(r"^(Invalid|Error\s+parsing)\s+'To'", re.I)  # the sentence of a 300


class PostmarkAdapter(MessageAdapter):
    """Keeps one tag of a message, the first. Recipients who have bounced or complained there before
    are refused, by name."""

    required_options = {"SERVER_TOKEN": "POSTMARK_SERVER_TOKEN"}  # noqa: RUF012  # a ClassVar
    visible_fields = frozenset({"ErrorCode", "MessageID", "SubmittedAt"})
    # https://postmarkapp.com/developer/user-guide/send-email-with-api/batch-emails
    batch_limit = 500
    batch_attachments = False  # each recipient's message would have them all
    batch_bytes = 40_000_000  # of 50 MB: with their values in it a message is larger
    # https://postmarkapp.com/developer/user-guide/send-email-with-api
    max_bytes = 10_000_000

    def __init__(self, *, name: str, options: Any, http: HttpClient) -> None:
        super().__init__(name=name, options=options, http=http)
        self._backend = EmailBackend(
            server_token=str(options.get("SERVER_TOKEN", "")),
            api_url=f"{options.get('API_BASE') or DEFAULT_API_BASE}/",
            message_stream=options.get("MESSAGE_STREAM") or None,
            use_bulk_api=False,
            generate_message_id=False,
            **OPTIONS,
        )

    @operation()
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        """One message that all its recipients see alike."""
        private = private_texts(payload)

        def send(email: Email) -> tuple[Response, list[Receipt]]:
            built = self._built(email, context)
            response = self._post(built.data, context, path="email")
            if 200 <= response.status < 300:
                return response, self._receipts(response, built, email)
            if named := self._named(response, built, private):
                nobody = readable("postmark", _code(response), NOBODY, private)
                error = RECIPIENTS.error(response, nobody)
                raise RecipientsNamed(named, error)
            raise _error(response, private)

        _, (response, receipts), refused = drop_refused(distinct(payload), send, without)
        return reply_or_refusal(
            [*receipts, *refused],
            provider="postmark",
            message_id=next((each.message_id for each in receipts if each.accepted), ""),
            provider_status=response.status,
        )

    @operation()
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        """One message to each recipient, rendered here: Postmark fills in only what it stores."""
        self.check_batch(payload)
        emails = [render(payload, recipient) for recipient in payload.recipients]
        body = [self._built(email, context).data for email in emails]
        response = self._post(body, context, path="email/batch")
        private = private_texts(payload)
        if not 200 <= response.status < 300:
            raise _error(response, private)
        answers = _list(response)
        if len(answers) != len(emails):
            raise unreadable(response, provider="postmark")
        entries = [
            _entry(response, email.to[0].address, answer, private)
            for email, answer in zip(emails, answers, strict=True)
        ]
        return reply_of_entries(entries, response, provider="postmark")

    def _built(self, email: Email, context: CallContext) -> RequestsPayload:
        marks = {CALL_KEY: context.call_id, KEY_KEY: context.idempotency_key}
        fitting = {k: v for k, v in marks.items() if len(v) <= METADATA_CHARACTERS}
        return build_payload(
            self._backend,
            email,
            context,
            provider="postmark",
            metadata={**email.metadata, **fitting},
            tags=email.tags[:1],
        )

    def _post(self, body: Any, context: CallContext, *, path: str) -> Response:
        headers = {
            "Content-Type": "application/json",
            "X-Postmark-Server-Token": str(self.options["SERVER_TOKEN"]),
        }
        url = f"{self._backend.api_url}{path}"
        return self.http.send(Request("POST", url, headers, encoded(body)), context)

    def _receipts(self, response: Response, built: RequestsPayload, email: Email) -> list[Receipt]:
        """Some may be refused where others are not: "Message OK, but will not deliver to these
        inactive addresses"."""
        found = statuses(self._backend, built, fields_in(response)) or {}
        if not any(status.status in ACCEPTED for status in found.values()):
            raise unreadable(response, provider="postmark")
        receipts = []
        for mailbox in everybody(email):
            status = found[addr_spec(mailbox)]
            if status.status in ACCEPTED and isinstance(status.message_id, str):
                receipts.append(Receipt(mailbox.address, True, status.message_id))
            else:
                receipts.append(_inactive(mailbox.address))
        return receipts

    def _named(
        self, response: Response, built: RequestsPayload, private: frozenset[str]
    ) -> list[Receipt]:
        """A receipt for each recipient whom a refusal of all of them names."""
        code = _code(response)
        if code not in (INVALID_RECIPIENT, INACTIVE):
            return []
        reason = readable("postmark", code, text_in(fields_in(response).get("Message")), private)
        found = statuses(self._backend, built, fields_in(response)) or {}
        return [
            Receipt(address, False, code=code, reason=reason)
            for address, status in found.items()
            if status.status in ("invalid", "rejected")
        ]


def _code(response: Response) -> str:
    return word_in(fields_in(response).get("ErrorCode"))


def _error(response: Response, private: frozenset[str]) -> DeliveryError:
    error = error_of(
        response,
        provider="postmark",
        table=MEANINGS,
        word=_code(response),
        text=text_in(fields_in(response).get("Message")),
        private=private,
    )
    return error or unreadable(response, provider="postmark")


def _list(response: Response) -> list[object]:
    try:
        document = response.json()
    except ValueError:
        return []
    return document if isinstance(document, list) else []


def _entry(response: Response, address: str, answer: object, private: frozenset[str]) -> Entry:
    """What a batch says of one message. Raises OutcomeUnknown where it does not say it."""
    fields: Mapping[str, object] = answer if isinstance(answer, dict) else {}
    code, text = word_in(fields.get("ErrorCode", 0)), text_in(fields.get("Message"))
    message_id = text_in(fields.get("MessageID"))
    if code == "0" and message_id:
        return Entry(address, message_id)
    if code == "0" or not code.isdigit():
        raise unreadable(response, provider="postmark")
    meaning = RECIPIENTS if TO_FIELD.search(text) else MEANINGS.get(code, REQUEST)
    reason = readable("postmark", code, text, private)
    return Entry(address, meaning=meaning, word=code, reason=reason)


def _inactive(address: str) -> Receipt:
    reason = "postmark: inactive, has bounced or complained before"
    return Receipt(address, False, code=INACTIVE, reason=reason)
