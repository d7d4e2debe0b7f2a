"""What an adapter for messages is. One file for each provider.

Operations, by name: `send_email(Email)`, `send_bulk_email(BulkEmail)`, `send_sms(Sms)`,
`send_push(Push)`; each answers with `accepted_reply`. One recipient who is refused fails nobody
else: the others are accepted, and the receipts tell. Where nobody was accepted, raises
PermanentError with the code RECIPIENTS_REFUSED (OPTED_OUT, UNREGISTERED).
"""

from __future__ import annotations

from typing import ClassVar

from notifications.adapters.messages import BulkEmail
from outbound.adapters import Adapter
from outbound.errors import PermanentError

ENVELOPE_BYTES = 4000  # addresses, headers and what else is about a body
BASE64 = 4 / 3  # what attachments grow by


class MessageAdapter(Adapter):
    """Base of the adapters for messages: what a provider can take in one call."""

    batch_limit: ClassVar[int] = 1
    """Recipients of one `send_bulk_email`."""
    batch_attachments: ClassVar[bool] = True
    """Whether a bulk call may carry attachments; where not, each recipient has a call."""
    batch_bytes: ClassVar[int | None] = None
    """Of one `send_bulk_email` where each recipient has a whole message in it; None where the
    message is in there once."""
    max_bytes: ClassVar[int] = 10_000_000
    """Of one message as it is sent: bodies, and attachments in base64."""

    @classmethod
    def recipients_per_call(cls, size: int) -> int:
        """How many recipients of a bulk message of so many bytes one `send_bulk_email` takes."""
        if cls.batch_bytes is None:
            return cls.batch_limit
        return max(1, min(cls.batch_limit, cls.batch_bytes // (size + ENVELOPE_BYTES)))

    def check_batch(self, payload: BulkEmail) -> None:
        """Raises PermanentError, before anything is sent, for more than `recipients_per_call`."""
        limit = self.recipients_per_call(_size_of(payload))
        if len(payload.recipients) > limit:
            raise PermanentError(
                f"{self.name}: {len(payload.recipients)} recipients in one call, at most {limit}",
                code="too_many_recipients",
                http_status=400,
            )


def _size_of(message: BulkEmail) -> int:
    bodies = len(message.text.encode()) + len(message.html.encode())
    return bodies + int(sum(attachment.size for attachment in message.attachments) * BASE64)
