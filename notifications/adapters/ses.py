"""Amazon SES, API v2, by our own client and botocore's signer.
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.recipients import distinct, everybody
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
from notifications.adapters.replies import Receipt, accepted_reply
from notifications.adapters.ses_content import (
    HEADERS,
    bulk_entry,
    destination_of,
    fits_simple,
    handlebars,
    raw_content,
    sender_of,
    simple_content,
    tags_of,
    template_content,
)
from notifications.adapters.ses_signing import Signer
from outbound.adapters import CallContext, Reply, operation
from outbound.client import HttpClient, Request, Response
from outbound.errors import PermanentError

# https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html and the operations' own
MEANINGS: Table = {
    "daily_quota_exceeded": QUOTA,  # ours, for a throttling that says so
    "TooManyRequestsException": THROTTLED,
    "ThrottlingException": THROTTLED,
    "Throttling": THROTTLED,
    "LimitExceededException": QUOTA,
    "SendingPausedException": QUOTA,
    "AccountSuspendedException": QUOTA,
    "MailFromDomainNotVerifiedException": ACCOUNT,
    "not_verified": ACCOUNT,  # ours, for a MessageRejected in the sandbox
    "MessageRejected": REQUEST,
    "NotFoundException": ACCOUNT,  # the configuration set
    "BadRequestException": REQUEST,
    "invalid_address": RECIPIENTS,  # ours, for a BadRequestException that says so
    "UnrecognizedClientException": ACCOUNT,
    "InvalidSignatureException": ACCOUNT,
    "ExpiredTokenException": ACCOUNT,
    "RequestExpired": ACCOUNT,  # our clock is wrong
}
# https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_BulkEmailEntryResult.html
STATUSES: Table = {
    "MESSAGE_REJECTED": REQUEST,
    "MAIL_FROM_DOMAIN_NOT_VERIFIED": ACCOUNT,
    "CONFIGURATION_SET_NOT_FOUND": ACCOUNT,
    "TEMPLATE_NOT_FOUND": ACCOUNT,
    "ACCOUNT_SUSPENDED": QUOTA,
    "ACCOUNT_THROTTLED": THROTTLED,
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": QUOTA,
    "INVALID_SENDING_POOL_NAME": ACCOUNT,
    "ACCOUNT_SENDING_PAUSED": QUOTA,
    "CONFIGURATION_SET_SENDING_PAUSED": QUOTA,
    "INVALID_PARAMETER": RECIPIENTS,
    "TRANSIENT_FAILURE": AGAIN,
    "FAILED": REQUEST,
}
# https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html
SENTENCES = (
    (re.compile(r"daily (message|sending) quota", re.I), "daily_quota_exceeded"),
    (re.compile(r"email address is not verified", re.I), "not_verified"),
    (re.compile(r"(illegal|invalid|missing).{0,30} (email )?address", re.I), "invalid_address"),
)
SUCCESS = "SUCCESS"


class SesAdapter(MessageAdapter):
    """SES answers for each recipient of a batch; of one message to several it takes all or none."""

    required_options = {  # noqa: RUF012  # a ClassVar in Adapter
        "ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
        "REGION": "AWS_REGION",
    }
    visible_fields = frozenset({"MessageId", "Status", "__type", "code"})
    batch_limit = (
        50  # https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendBulkEmail.html
    )
    # https://docs.aws.amazon.com/ses/latest/dg/quotas.html
    max_bytes = 40_000_000

    def __init__(self, *, name: str, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(name=name, options=options, http=http)
        self._signer = Signer(
            region=str(options.get("REGION", "")),
            access_key=str(options.get("ACCESS_KEY_ID", "")),
            secret_key=str(options.get("SECRET_ACCESS_KEY", "")),
            session_token=str(options.get("SESSION_TOKEN") or ""),
        )

    @operation()
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        """One message that all its recipients see alike."""
        email = distinct(payload)
        content = simple_content if fits_simple(email) else raw_content
        body = {
            **sender_of(email),
            "Destination": destination_of(email),
            "Content": content(email, context),
            "EmailTags": tags_of(email, context),
        }
        response = self._post("/v2/email/outbound-emails", body, payload, context)
        message_id = text_in(fields_in(response).get("MessageId"))
        if not message_id:
            raise unreadable(response, provider="ses", request_id=_request_id(response))
        return accepted_reply(
            [Receipt(mailbox.address, True, message_id) for mailbox in everybody(email)],
            message_id=message_id,
            provider_status=response.status,
            provider_request_id=_request_id(response),
        )

    @operation()
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        """One message to each recipient, of an inline template: nothing is stored at SES."""
        self.check_batch(payload)
        if not fits_simple(payload):
            raise PermanentError(
                f"ses: a bulk message has at most {HEADERS} headers, and short content types",
                code="unsupported",
                http_status=400,
            )
        template = handlebars(payload)
        body = {
            **sender_of(payload),
            "DefaultContent": template_content(payload, template, context),
            "BulkEmailEntries": [bulk_entry(each, template) for each in payload.recipients],
            "DefaultEmailTags": tags_of(payload, context),
        }
        response = self._post("/v2/email/outbound-bulk-emails", body, payload, context)
        return reply_of_entries(
            _entries(response, payload),
            response,
            provider="ses",
            request_id=_request_id(response),
        )

    def _post(
        self, path: str, body: dict[str, Any], payload: Email | BulkEmail, context: CallContext
    ) -> Response:
        if configuration_set := self.options.get("CONFIGURATION_SET"):
            body = {**body, "ConfigurationSetName": str(configuration_set)}
        request = Request(
            "POST",
            f"{self.options['API_BASE']}{path}",
            {"Content-Type": "application/json"},
            json.dumps(body).encode(),
        )
        response = self.http.send(self._signer.sign(request), context)
        if not 200 <= response.status < 300:
            _raise_for(response, private_texts(payload))
        return response


def _raise_for(response: Response, private: frozenset[str]) -> None:
    fields = fields_in(response)
    text = text_in(fields.get("message") or fields.get("Message"))
    named = response.headers.get("x-amzn-ErrorType") or text_in(fields.get("__type"))
    word = word_in(named.partition(":")[0].rpartition("#")[2])
    error = error_of(
        response,
        provider="ses",
        table=MEANINGS,
        word=_narrowed(word, text),
        text=text,
        private=private,
        request_id=_request_id(response),
    )
    if error is not None:
        raise error


def _narrowed(word: str, text: str) -> str:
    """The same exception stands for what we do and what they cannot."""
    if not word:
        return ""
    return next((own for sentence, own in SENTENCES if sentence.search(text)), word)


def _entries(response: Response, payload: BulkEmail) -> list[Entry]:
    """In the order of the recipients. Raises OutcomeUnknown where that does not add up."""
    results = fields_in(response).get("BulkEmailEntryResults")
    if not isinstance(results, list) or len(results) != len(payload.recipients):
        raise unreadable(response, provider="ses", request_id=_request_id(response))
    private = private_texts(payload)
    return [
        _entry(response, recipient.address, result, private)
        for recipient, result in zip(payload.recipients, results, strict=True)
    ]


def _entry(response: Response, address: str, result: object, private: frozenset[str]) -> Entry:
    fields: Mapping[str, object] = result if isinstance(result, dict) else {}
    status, message_id = word_in(fields.get("Status")), text_in(fields.get("MessageId"))
    if status == SUCCESS and message_id:
        return Entry(address, message_id)
    if status in ("", SUCCESS):
        raise unreadable(response, provider="ses", request_id=_request_id(response))
    reason = readable("ses", status, text_in(fields.get("Error")), private)
    return Entry(address, meaning=STATUSES.get(status, REQUEST), word=status, reason=reason)


def _request_id(response: Response) -> str:
    return response.headers.get("x-amzn-RequestId", "")
