"""The seam to anymail: what it reads is what we give it."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings

from notifications.adapters.messages import Email
from tests.contracts.http_mail import HttpMailContract
from tests.notifications.adapters import letters, test_mailgun, test_postmark, test_resend

OF_SOMEBODY_ELSE = {
    "SEND_DEFAULTS": {"tags": ["stray"], "metadata": {"stray": "1"}, "track_opens": True},
    "MAILGUN_SEND_DEFAULTS": {"tags": ["stray"]},
    "IGNORE_UNSUPPORTED_FEATURES": True,
    "DEBUG_API_REQUESTS": True,
    "MAILGUN_API_URL": "https://elsewhere.example/v3",
    "POSTMARK_MESSAGE_STREAM": "elsewhere",
    "POSTMARK_USE_BULK_API": True,
    "RESEND_API_URL": "https://elsewhere.example",
    "IDNA_ENCODER": "no.such.encoder",
}


@pytest.mark.parametrize(
    "contract",
    [test_mailgun.TestMailgun, test_postmark.TestPostmark, test_resend.TestResend],
    ids=["mailgun", "postmark", "resend"],
)
def test_its_settings_change_nothing(
    contract: type[HttpMailContract], settings: LazySettings
) -> None:
    """Who uses anymail beside us has settings for it; our requests are not theirs."""
    payload = Email.model_validate(letters.letter())
    _, [before] = contract().play(payload)
    settings.ANYMAIL = OF_SOMEBODY_ELSE
    _, [after] = contract().play(payload)
    assert _without_host(after) == _without_host(before)


def _without_host(sent: Any) -> tuple[Any, ...]:
    headers = {name: value for name, value in sent.headers.items() if name != "host"}
    return sent.path, headers, sent.body
