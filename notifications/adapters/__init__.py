"""What an adapter for messages is. One file for each provider.

Operations, by name: `send_email(Email)`, `send_bulk_email(BulkEmail)`, `send_sms(Sms)`,
`send_push(Push)`; each answers with `accepted_reply`. One recipient who is refused fails nobody
else: the others are accepted, and the receipts tell. Where nobody was accepted, raises
PermanentError with the code RECIPIENTS_REFUSED (OPTED_OUT, UNREGISTERED).
"""

from __future__ import annotations

from typing import ClassVar

from outbound.adapters import Adapter


class MessageAdapter(Adapter):
    """Base of the adapters for messages: what a provider can take in one call."""

    batch_limit: ClassVar[int] = 1
    """Recipients of one `send_bulk_email`."""
    batch_attachments: ClassVar[bool] = True
    """Whether a bulk call may carry attachments; where not, each recipient has a call."""
    max_bytes: ClassVar[int] = 10_000_000
    """Of one message as it is sent: bodies, and attachments in base64."""
