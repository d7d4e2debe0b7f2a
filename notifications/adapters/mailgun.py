"""Mailgun's messages API. https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from anymail.backends.base_requests import RequestsPayload
from anymail.backends.mailgun import EmailBackend

from notifications.adapters import MessageAdapter
from notifications.adapters.anymail import OPTIONS, build_payload, statuses
from notifications.adapters.bodies import encode_form
from notifications.adapters.messages import (
    BATCH,
    CALL_KEY,
    KEY_KEY,
    BulkEmail,
    BulkRecipient,
    Email,
    Mailbox,
)
from notifications.adapters.mime import addr_spec
from notifications.adapters.recipients import distinct, everybody
from notifications.adapters.refusals import (
    ACCOUNT,
    QUOTA,
    RECIPIENTS,
    REQUEST,
    Table,
    error_of,
    fields_in,
    private_texts,
    text_in,
    unreadable,
)
from notifications.adapters.rendering import SHARED, template_of
from notifications.adapters.replies import (
    TRY_AGAIN,
    Receipt,
    read_receipts,
    reply_or_refusal,
)
from outbound.adapters import CallContext, Reply, operation
from outbound.client import HttpClient, Request, Response
from outbound.errors import DeliveryError, OutcomeUnknown

DEFAULT_API_BASE = "https://api.mailgun.net"
REQUESTS = 64  # of one call at the most, while it looks for a refused address

# Mailgun has sentences, not codes; these are words of ours for them.
# https://documentation.mailgun.com/docs/mailgun/api-reference/mg-api-errors
SENTENCES = (
    (re.compile(r"^'?(to|cc|bcc)'? parameter is not a valid address", re.I), "invalid_address"),
    (re.compile(r"recipients per request is allowed", re.I), "too_many_on_probation"),
    (re.compile(r"recipient limit exceeded", re.I), "recipient_limit_exceeded"),  # 420
    (re.compile(r"(daily|monthly|sending) (message )?limit|exceeded.* quota", re.I), "quota"),
    (re.compile(r"is not allowed to send|authorized recipients", re.I), "not_allowed_to_send"),
    (re.compile(r"domain not found", re.I), "domain_not_found"),
)
MEANINGS: Table = {
    "invalid_address": RECIPIENTS,
    "too_many_on_probation": REQUEST,
    "recipient_limit_exceeded": QUOTA,
    "quota": QUOTA,
    "payment_required": QUOTA,
    "not_allowed_to_send": ACCOUNT,  # a sandbox domain, or one that is disabled
    "domain_not_found": ACCOUNT,
}
SEPARABLE = frozenset({RECIPIENTS.code, "too_many_on_probation"})


class MailgunAdapter(MessageAdapter):
    """Mailgun takes all recipients of a request or none, and does not say which it minds: a batch
    that it refuses for one of them is sent in halves, down to that one."""

    required_options = {  # noqa: RUF012  # a ClassVar in Adapter
        "API_KEY": "MAILGUN_API_KEY",
        "DOMAIN": "MAILGUN_DOMAIN",
    }
    visible_fields = frozenset({"id"})
    # https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/batch-sending
    batch_limit = BATCH
    # https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages
    max_bytes = 25_000_000

    def __init__(self, *, name: str, options: Any, http: HttpClient) -> None:
        super().__init__(name=name, options=options, http=http)
        self._backend = EmailBackend(
            api_key=str(options.get("API_KEY", "")),
            api_url=f"{options.get('API_BASE') or DEFAULT_API_BASE}/v3/",
            sender_domain=options.get("DOMAIN"),
            **OPTIONS,
        )

    @operation()
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        """One message that all its recipients see alike."""
        email = distinct(payload)
        return self._post(payload, email, everybody(email), context)

    @operation()
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        """One message to each recipient. Mailgun fills the placeholders in."""
        self.check_batch(payload)
        waiting: list[Sequence[BulkRecipient]] = [payload.recipients]
        receipts: list[Receipt] = []
        requests_left = REQUESTS
        while waiting and requests_left:
            people = waiting.pop(0)
            requests_left -= 1
            try:
                receipts += read_receipts(self._post_batch(payload, people, context).result)
            except OutcomeUnknown:
                raise  # for all of it: who was taken by now is told by Mailgun's events
            except DeliveryError as error:
                if error.code in SEPARABLE and len(people) > 1:
                    middle = len(people) // 2
                    waiting[:0] = [people[:middle], people[middle:]]
                elif error.code in SEPARABLE:
                    receipts += [_refused(each, error) for each in people]
                elif any(receipt.accepted for receipt in receipts):
                    waiting.insert(0, people)
                    break  # those who are left have a call of their own, and its error
                else:
                    raise
        again = [_again(each) for people in waiting for each in people]
        return reply_or_refusal([*receipts, *again], provider="mailgun", provider_status=200)

    def _post_batch(
        self, payload: BulkEmail, people: Sequence[BulkRecipient], context: CallContext
    ) -> Reply:
        template = template_of(payload, "%recipient.{}%".format, seed=context.idempotency_key)
        to = [Mailbox.model_construct(address=each.address, name=each.name) for each in people]
        email = Email.model_construct(
            **{name: getattr(payload, name) for name in SHARED},
            subject=template.subject,
            text=template.text,
            html=template.html,
            to=to,
            cc=[],
            bcc=[],
        )
        values = {addr_spec(each): template.values(each) for each in people}
        return self._post(payload, email, people, context, merge_data=values)

    def _post(
        self,
        payload: Email | BulkEmail,
        email: Email,
        people: Sequence[Mailbox | BulkRecipient],
        context: CallContext,
        **extras: Any,
    ) -> Reply:
        built = build_payload(
            self._backend,
            email,
            context,
            provider="mailgun",
            metadata={
                **email.metadata,
                CALL_KEY: context.call_id,
                KEY_KEY: context.idempotency_key,
            },
            tags=email.tags,
            **extras,
        )
        response = self.http.send(self._request(built, context), context)
        error = _error(response, payload)
        if error is not None:
            raise error
        return self._reply(response, built, people)

    def _request(self, built: RequestsPayload, context: CallContext) -> Request:
        params = built.get_request_params(self._backend.api_url)
        user, password = params["auth"]
        seed = context.idempotency_key
        content_type, body = encode_form(params["data"], params["files"], seed=seed)
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": content_type}
        return Request(params["method"], params["url"], headers, body)

    def _reply(
        self,
        response: Response,
        built: RequestsPayload,
        people: Sequence[Mailbox | BulkRecipient],
    ) -> Reply:
        found = statuses(self._backend, built, fields_in(response))
        ids = {status.message_id for status in found.values()} if found else set()
        message_id = ids.pop() if len(ids) == 1 else None
        if not isinstance(message_id, str) or not message_id:
            raise unreadable(response, provider="mailgun")
        receipts = [Receipt(each.address, True, message_id) for each in people]
        return reply_or_refusal(
            receipts, provider="mailgun", message_id=message_id, provider_status=response.status
        )


def _error(response: Response, payload: Email | BulkEmail) -> DeliveryError | None:
    if 200 <= response.status < 300:
        return None
    text = text_in(fields_in(response).get("message"))
    word = "payment_required" if response.status == 402 else ""
    return error_of(
        response,
        provider="mailgun",
        table=MEANINGS,
        word=next((word for sentence, word in SENTENCES if sentence.search(text)), word),
        text=text,
        private=private_texts(payload),
    )


def _refused(recipient: BulkRecipient, error: DeliveryError) -> Receipt:
    return Receipt(recipient.address, False, code=error.code, reason=error.message)


def _again(recipient: BulkRecipient) -> Receipt:
    return Receipt(recipient.address, False, code=TRY_AGAIN, reason="mailgun: not asked for yet")
