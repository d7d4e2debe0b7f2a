"""Who tells of its messages afterwards."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.fields import BadInput
from sandbox.messages.tracking.mailgun import MailgunTelling
from sandbox.messages.tracking.postmark import PostmarkTelling
from sandbox.messages.tracking.resend import ResendTelling
from sandbox.messages.tracking.sendgrid import SendGridTelling
from sandbox.messages.tracking.ses import SesTelling
from sandbox.messages.tracking.telling import Telling
from sandbox.messages.tracking.twilio import TwilioTelling

TELLINGS: dict[str, Telling] = {
    "sendgrid": SendGridTelling(),
    "mailgun": MailgunTelling(),
    "ses": SesTelling(),
    "postmark": PostmarkTelling(),
    "resend": ResendTelling(),
    "twilio": TwilioTelling(),
}


def demand_secrets(provider: str, secrets: Iterable[str]) -> None:
    """Raises BadInput for what this provider cannot sign with. Stripe signs with anything."""
    telling = TELLINGS.get(provider)
    for secret in secrets:
        try:
            if telling is not None:
                telling.proof(secret)
        except (TypeError, ValueError) as error:
            raise BadInput(f"this is no secret of {provider}: {error}") from error
