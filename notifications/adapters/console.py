"""Messages on standard output, where a developer sees them. Nothing is sent."""

from __future__ import annotations

import threading

from django.core.mail.backends.console import EmailBackend

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import BATCH, BulkEmail, Email
from notifications.adapters.mime import build_message, message_id_of
from notifications.adapters.recipients import distinct, everybody
from notifications.adapters.rendering import render
from notifications.adapters.replies import Receipt, accepted_reply
from outbound.adapters import CallContext, Reply, operation

_one_at_a_time = threading.Lock()


class ConsoleAdapter(MessageAdapter):
    """Takes everything, and writes it as Django's console backend does: not to the log, which holds
    no addresses."""

    batch_limit = BATCH

    @operation()
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        """One message that all its recipients see alike."""
        email = distinct(payload)
        message_id = _write(email, context)
        receipts = [Receipt(mailbox.address, True, message_id) for mailbox in everybody(email)]
        return accepted_reply(receipts, message_id=message_id)

    @operation()
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        """One message to each recipient."""
        self.check_batch(payload)
        receipts = [
            Receipt(each.address, True, _write(render(payload, each), context))
            for each in payload.recipients
        ]
        return accepted_reply(receipts, message_id="")


def _write(email: Email, context: CallContext) -> str:
    with _one_at_a_time:
        EmailBackend().send_messages([build_message(email, context)])
    return message_id_of(email, context)
