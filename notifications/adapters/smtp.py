"""Any mail server, through Django's SMTP backend. https://www.rfc-editor.org/rfc/rfc5321"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from django.core.mail.backends.smtp import EmailBackend

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import BulkEmail, Email, Mailbox
from notifications.adapters.mime import build_message, message_id_of, mime_bytes
from notifications.adapters.recipients import distinct, everybody
from notifications.adapters.refusals import OURS, private_texts, readable
from notifications.adapters.rendering import render
from notifications.adapters.replies import (
    OUT_OF_QUOTA,
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    Receipt,
    reply_or_refusal,
)
from outbound.adapters import CallContext, Reply, operation
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from outbound.transport import Transfer, transferring

ACCEPTED = 250
PERMANENT = 500
QUOTA_SECONDS = 6 * 3600
# Nothing more from us today: Gmail's 5.4.5, and what Amazon SES answers.
# https://support.google.com/a/answer/3726730
# https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-smtp.html
QUOTA = re.compile(r"\b5\.4\.5\b|daily (message|user sending|sending) (quota|limit)", re.I)
ADDRESS_OR_MAILBOX = ("1", "2")  # the second number of an enhanced status
MAILBOX_STATUSES = (550, 551, 552, 553)  # of a server that has no enhanced ones
ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # https://www.rfc-editor.org/rfc/rfc3463

Refused = Mapping[str, tuple[int, bytes]]


class SmtpAdapter(MessageAdapter):
    """One message is one connection. A server speaks for each recipient before it has the message,
    so that one who is refused fails nobody else. What happened is unknown only where the connection
    is lost while the message is on its way."""

    required_options = {"HOST": "EMAIL_HOST"}  # noqa: RUF012  # a ClassVar in Adapter
    batch_limit = 1  # SMTP has no batch; what a server takes at the most is its own choice

    @operation()
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        """One message that all its recipients see alike."""
        return self._send(distinct(payload), context)

    @operation()
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        """One message to one recipient, rendered here."""
        self.check_batch(payload)
        return self._send(render(payload, payload.recipients[0]), context)

    def _send(self, email: Email, context: CallContext) -> Reply:
        message = build_message(email, context)
        people = everybody(email)
        content = mime_bytes(message)
        private = private_texts(email)
        with self._session(context, private) as session:
            refused = session.send(email.sender, people, content)
        message_id = message_id_of(email, context)
        receipts = [_receipt(each, refused, message_id, private) for each in people]
        return reply_or_refusal(
            receipts, provider="smtp", message_id=message_id, provider_status=ACCEPTED
        )

    @contextmanager
    def _session(self, context: CallContext, private: frozenset[str]) -> Iterator[_Session]:
        """A connection that is cut when the call's time is up, and whose errors are ours."""
        started = time.monotonic()
        ends = started + context.timeouts.total
        transfer = Transfer(ends=ends if context.ends is None else min(ends, context.ends))
        session = _Session(self.options, context, transfer)
        exchange = context.exchange
        exchange.method, exchange.url = "SMTP", f"smtp://{session.host}:{session.port}"
        try:
            with transferring(transfer):
                yield session
        except OSError as error:
            raise _error(error, session, private) from None
        finally:
            exchange.status = session.code
            exchange.duration = time.monotonic() - started


class _Session(EmailBackend):
    """Django's backend, which tells what became of each recipient."""

    def __init__(
        self, options: Mapping[str, Any], context: CallContext, transfer: Transfer
    ) -> None:
        super().__init__(
            host=options["HOST"],
            port=options.get("PORT") or 25,
            username=options.get("USER") or "",
            password=options.get("PASSWORD") or "",
            use_tls=bool(options.get("USE_TLS")),
            use_ssl=bool(options.get("USE_SSL")),
            timeout=context.timeouts.connect,
            fail_silently=False,
        )
        self.transfer = transfer
        self.read_timeout = context.timeouts.read
        self._partial_connection: smtplib.SMTP | None = None
        self.ready = False
        self.content_began = False
        self.code: int | None = None

    @property
    def connection_class(self) -> Any:
        kind = _SslConnection if self.use_ssl else _Connection
        return partial(kind, session=self)

    def send(self, sender: Mailbox, people: list[Mailbox], content: bytes) -> Refused:
        """Hand the message over. Returns the answers about those who were refused."""
        try:
            self.open()
            self.ready = True
            connection: Any = self.connection
            addresses = [each.address for each in people]
            refused: Refused = connection.sendmail(sender.address, addresses, content)
        finally:
            self._hang_up()
        return refused

    def _hang_up(self) -> None:
        """Say good-bye, and wait for no answer: it would change nothing."""
        connection: Any = self.connection or self._partial_connection
        self.connection = self._partial_connection = None
        if connection is not None:
            with suppress(OSError):
                connection.putcmd("quit")
            connection.close()


class _Connection(smtplib.SMTP):
    """Is cut by the session's transfer, and waits for answers as long as for any provider's."""

    def __init__(self, *args: Any, session: _Session, **kwargs: Any) -> None:
        self._session = session
        super().__init__(*args, **kwargs)

    def _get_socket(self, *args: Any) -> socket.socket:
        connected: socket.socket = super()._get_socket(*args)  # type: ignore[misc]
        self._session.transfer.watch(connected)
        connected.settimeout(self._session.read_timeout)
        return connected

    def data(self, msg: Any) -> tuple[int, bytes]:
        self._session.transfer.about_to_send()
        self._session.content_began = True
        found = super().data(msg)
        self._session.code = found[0]
        return found


class _SslConnection(smtplib.SMTP_SSL, _Connection):
    """The same inside TLS, the handshake included."""

    def __init__(self, *args: Any, session: _Session, **kwargs: Any) -> None:
        self._session = session
        smtplib.SMTP_SSL.__init__(self, *args, **kwargs)


def _error(error: OSError, session: _Session, private: frozenset[str]) -> DeliveryError:
    """Every error of smtplib is an OSError."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        status, text = _mildest(error.recipients)
        theirs = _is_about_mailbox(status, text)
        code = RECIPIENTS_REFUSED if theirs else ""
        return _refusal(status, text, private, code=code, ours=not theirs)
    if isinstance(error, smtplib.SMTPResponseException) and _is_answer(error, session):
        session.code = error.smtp_code
        theirs = session.ready and not isinstance(error, smtplib.SMTPSenderRefused)
        return _refusal(error.smtp_code, error.smtp_error, private, ours=not theirs)
    if session.content_began:
        return OutcomeUnknown(
            f"smtp: {_describe(error, session)}; the outcome is unknown", http_status=504
        )
    if isinstance(error, smtplib.SMTPException) and not isinstance(error, LOST):
        what = "the server lacks what is wanted of it (STARTTLS, or a way to log in)"
        return PermanentError(f"smtp: {what}", conclusive=False, http_status=OURS)
    return TransientError(f"smtp: {_describe(error, session)}; nothing was sent", http_status=504)


LOST = (smtplib.SMTPServerDisconnected, smtplib.SMTPResponseException)


def _is_answer(error: smtplib.SMTPResponseException, session: _Session) -> bool:
    """Whether the server has said no. smtplib raises the same class, bare, for a line that it could
    not read."""
    if session.content_began and type(error) is smtplib.SMTPResponseException:
        return False
    return 400 <= error.smtp_code < 600


def _refusal(
    status: int,
    text: bytes | str,
    private: frozenset[str],
    *,
    code: str = "",
    ours: bool = False,
) -> DeliveryError:
    """What an answer of 4xx or 5xx stands for: the server has not taken the message."""
    words = _text(text)
    message = readable("smtp", str(status), words, private)
    if QUOTA.search(words):
        return RateLimited(
            message,
            code=OUT_OF_QUOTA,
            retry_after=QUOTA_SECONDS,
            http_status=429,
            provider_status=status,
        )
    if status < PERMANENT:
        return TransientError(message, code=_word(status, words), provider_status=status)
    return PermanentError(
        message,
        conclusive=not ours,
        code=code or _word(status, words),
        http_status=OURS if ours else 400,
        provider_status=status,
    )


def _receipt(
    mailbox: Mailbox, refused: Refused, message_id: str, private: frozenset[str]
) -> Receipt:
    if mailbox.address not in refused:
        return Receipt(mailbox.address, True, message_id)
    status, text = refused[mailbox.address]
    words = _text(text)
    code = _word(status, words) if status >= PERMANENT else TRY_AGAIN
    reason = readable("smtp", str(status), words, private)
    return Receipt(mailbox.address, False, code=code, reason=reason)


def _is_about_mailbox(status: int, text: bytes) -> bool:
    """Whether that is why a recipient was refused, and not because we may not send from here.
    https://www.rfc-editor.org/rfc/rfc3463#section-3"""
    found = ENHANCED.search(_text(text))
    if found:
        return found[0].split(".")[1] in ADDRESS_OR_MAILBOX
    return status in MAILBOX_STATUSES


def _mildest(refused: Refused) -> tuple[int, bytes]:
    """Where one may be taken later, it is for later."""
    return min(refused.values(), key=lambda answer: answer[0] >= PERMANENT)


def _word(status: int, words: str) -> str:
    found = ENHANCED.search(words)
    return found[0] if found else str(status)


def _text(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _describe(error: OSError, session: _Session) -> str:
    if session.transfer.expired:
        return "no complete answer in time"
    if isinstance(error, ssl.SSLError):
        return "the TLS connection failed"
    return "the connection was lost" if session.ready else "no connection"
