"""SendGrid's v3 API. https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from notifications.adapters import MessageAdapter
from notifications.adapters.bodies import encoded
from notifications.adapters.messages import (
    BATCH,
    CALL_KEY,
    KEY_KEY,
    Attachment,
    BulkEmail,
    BulkRecipient,
    Email,
    Mailbox,
)
from notifications.adapters.mime import NOTHING, ascii_header
from notifications.adapters.recipients import (
    RecipientsNamed,
    distinct,
    drop_refused,
    everybody,
    others,
    without,
)
from notifications.adapters.refusals import (
    ACCOUNT,
    QUOTA,
    RECIPIENTS,
    Table,
    error_of,
    fields_in,
    private_texts,
    readable,
    text_in,
)
from notifications.adapters.rendering import template_of
from notifications.adapters.replies import NOBODY, Receipt, reply_or_refusal
from outbound.adapters import CallContext, Reply, operation
from outbound.client import Request, Response

DEFAULT_API_BASE = "https://api.sendgrid.com"
SUBSTITUTION_BYTES = 10_000  # of one personalization
INVALID = "invalid_address"
TAG = "-{}-"

# SendGrid has sentences, not codes; these are words of ours for them.
# https://support.sendgrid.com/hc/en-us/articles/18322114821403
SENTENCES = {
    "maximum credits exceeded": "maximum_credits_exceeded",  # comes as 401
    "authorization grant is invalid": "invalid_api_key",
    "not authorized to send mail": "not_authorized_to_send",
    "does not match a verified sender identity": "sender_not_verified",
    "does not contain a valid address": INVALID,
}
MEANINGS: Table = {
    "maximum_credits_exceeded": QUOTA,
    "invalid_api_key": ACCOUNT,
    "not_authorized_to_send": ACCOUNT,
    "sender_not_verified": ACCOUNT,
}
# Where a refused address stands in the request.
# https://www.twilio.com/docs/sendgrid/api-reference/mail-send/errors
PLACE = re.compile(r"personalizations\.(\d{1,4})\.(to|cc|bcc)\.(\d{1,4})(\.email)?")

Written = dict[str, Any]


class SendGridAdapter(MessageAdapter):
    """SendGrid takes all recipients of a request or none, and names those whom it minds: then the
    message is sent without them."""

    required_options = {"API_KEY": "SENDGRID_API_KEY"}  # noqa: RUF012  # a ClassVar in Adapter
    # https://www.twilio.com/docs/sendgrid/api-reference/mail-send/limitations
    batch_limit = BATCH  # personalizations of one request
    max_bytes = 30_000_000

    @operation()
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        """One message that all its recipients see alike."""
        written = _written(payload, (payload.subject, payload.text, payload.html), context)

        def send(email: Email) -> Response:
            lists = {field: _mailboxes(getattr(email, field)) for field in ("to", "cc", "bcc")}
            personalization = {field: people for field, people in lists.items() if people}
            return self._post(payload, [personalization], written, context)

        email, response, refused = drop_refused(distinct(payload), send, without)
        return _reply(response, everybody(email), refused)

    @operation()
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        """One message to each recipient. SendGrid fills the placeholders in."""
        self.check_batch(payload)
        template = template_of(payload, TAG.format, seed=context.idempotency_key)
        written = _written(payload, (template.subject, template.text, template.html), context)

        def tags(recipient: BulkRecipient) -> dict[str, str]:
            values = template.values(recipient)
            return {TAG.format(variable): value for variable, value in values.items()}

        def send(people: Sequence[BulkRecipient]) -> Response:
            personalizations = [
                _without_nothing(to=_mailboxes([each]), substitutions=tags(each)) for each in people
            ]
            return self._post(payload, personalizations, written, context)

        too_large = [
            _too_large(each.address) for each in payload.recipients if _is_too_large(tags(each))
        ]

        fitting = others(payload.recipients, too_large)
        if fitting is None:
            return reply_or_refusal(too_large, provider="sendgrid")
        people, response, refused = drop_refused(fitting, send, others)
        return _reply(response, people, [*too_large, *refused])

    def _post(
        self,
        payload: Email | BulkEmail,
        personalizations: list[dict[str, Any]],
        written: Written,
        context: CallContext,
    ) -> Response:
        response = self.http.send(
            Request(
                "POST",
                f"{self.options.get('API_BASE') or DEFAULT_API_BASE}/v3/mail/send",
                headers={
                    "Authorization": f"Bearer {self.options['API_KEY']}",
                    "Content-Type": "application/json",
                },
                body=encoded({"personalizations": personalizations, **written}),
            ),
            context,
        )
        private = private_texts(payload) if response.status >= 300 else frozenset()
        sentences = _sentences(response)
        named = _named(sentences, personalizations)
        if response.status == 400 and named:
            nobody = RECIPIENTS.error(response, f"sendgrid: {INVALID} - {NOBODY}")
            raise RecipientsNamed(named, nobody)
        text = " ".join(text for _, text in sentences)
        error = error_of(
            response,
            provider="sendgrid",
            table=MEANINGS,
            word=_word(text),
            text=text,
            private=private,
        )
        if error is not None:
            raise error
        return response


def _written(
    payload: Email | BulkEmail, words: tuple[str, str, str], context: CallContext
) -> Written:
    """What is the same for all recipients."""
    subject, text, html = words
    content = (
        [("text/plain", text), ("text/html", html)] if text or html else [("text/plain", NOTHING)]
    )
    headers = {name: ascii_header(value) for name, value in payload.headers.items()}
    marks = {CALL_KEY: context.call_id, KEY_KEY: context.idempotency_key}
    return _without_nothing(
        **{"from": _mailbox(payload.sender)},
        reply_to_list=_mailboxes(payload.reply_to),
        subject=subject,
        content=[{"type": kind, "value": value} for kind, value in content if value],
        attachments=[_attachment(each, context) for each in payload.attachments],
        headers=headers,
        categories=payload.tags,
        custom_args={**payload.metadata, **marks},
    )


def _without_nothing(**fields: Any) -> dict[str, Any]:
    """SendGrid minds empty lists and objects."""
    return {name: value for name, value in fields.items() if value}


def _mailbox(mailbox: Mailbox | BulkRecipient) -> dict[str, str]:
    return _without_nothing(email=mailbox.address, name=mailbox.name)


def _mailboxes(mailboxes: Sequence[Mailbox | BulkRecipient]) -> list[dict[str, str]]:
    return [_mailbox(mailbox) for mailbox in mailboxes]


def _attachment(attachment: Attachment, context: CallContext) -> dict[str, str]:
    fields = {
        "content": base64.b64encode(context.read_blob(attachment.digest)).decode(),
        "type": attachment.content_type.partition(";")[0],  # SendGrid takes no parameters there
        "filename": attachment.name,
    }
    if attachment.content_id:
        return {**fields, "disposition": "inline", "content_id": attachment.content_id}
    return {**fields, "disposition": "attachment"}


def _is_too_large(substitutions: dict[str, str]) -> bool:
    return sum(len((k + v).encode()) for k, v in substitutions.items()) > SUBSTITUTION_BYTES


def _too_large(address: str) -> Receipt:
    return Receipt(
        address,
        False,
        code="variables_too_large",
        reason=f"values above {SUBSTITUTION_BYTES} bytes",
    )


def _sentences(response: Response) -> list[tuple[str, str]]:
    """The field and the sentence of each error in a body."""
    errors = fields_in(response).get("errors")
    found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return [(text_in(each.get("field")), text_in(each.get("message"))) for each in found]


def _word(text: str) -> str:
    known = (word for sentence, word in SENTENCES.items() if sentence in text.lower())
    return next(known, "")


def _named(
    sentences: list[tuple[str, str]], personalizations: list[dict[str, Any]]
) -> list[Receipt]:
    """A receipt for each address that an error names; none where something else is wrong too."""
    receipts = []
    for field, text in sentences:
        address = _address_at(field, personalizations)
        if not address:
            return []
        reason = readable("sendgrid", _word(text) or INVALID, text, frozenset({address}))
        receipts.append(Receipt(address, False, code=_word(text) or INVALID, reason=reason))
    return receipts


def _address_at(field: str, personalizations: list[dict[str, Any]]) -> str:
    place = PLACE.fullmatch(field)
    if place is None:
        return ""
    try:
        return str(personalizations[int(place[1])][place[2]][int(place[3])]["email"])
    except (IndexError, KeyError):
        return ""


def _reply(
    response: Response, people: Sequence[Mailbox | BulkRecipient], refused: Sequence[Receipt]
) -> Reply:
    """SendGrid's events speak of X-Message-Id and the address."""
    message_id = response.headers.get("X-Message-Id", "")
    accepted = [Receipt(each.address, True, message_id) for each in people]
    return reply_or_refusal(
        [*accepted, *refused],
        provider="sendgrid",
        message_id=message_id,
        provider_status=response.status,
    )
