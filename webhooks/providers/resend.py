"""Resend's events. https://resend.com/docs/dashboard/webhooks/introduction"""

from __future__ import annotations

from typing import ClassVar

from webhooks.envelopes import Envelope, is_name
from webhooks.providers.standard import SvixSource


class ResendSource(SvixSource):
    """Resend sends through Svix: the same proof and the same headers, the id being `svix-id`.
    https://resend.com/docs/dashboard/webhooks/verify-webhooks-requests"""

    secret_variable: ClassVar[str] = "RESEND_WEBHOOK_SECRETS"  # noqa: S105 - a variable's name

    def ordering_key(self, envelope: Envelope) -> str:
        """The message."""
        about = envelope.payload.get("data")
        name = about.get("email_id") if isinstance(about, dict) else None
        return str(name) if is_name(name) else ""
