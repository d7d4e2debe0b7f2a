"""Reading Twilio's list of messages, in search of one.
https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from notifications.adapters.messages import Sms
from notifications.adapters.refusals import text_in

SHOWN = 100  # messages of a page
BEFORE = timedelta(minutes=5)  # the clocks may differ
AFTER = timedelta(minutes=10)  # no request takes longer
OUTBOUND = "outbound"  # `direction`: outbound-api and others, beside inbound
HIDDEN_DIGIT = "X"  # https://www.twilio.com/docs/usage/monitor-alert/message-redaction


@dataclass(frozen=True, slots=True)
class Window:
    """When a message was made, if the attempt that began at `asked_at` made it."""

    asked_at: datetime

    @property
    def since(self) -> str:
        """Nothing that it made was sent earlier. As Twilio's own client writes a time."""
        return (self.asked_at - BEFORE).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def holds(self, message: Mapping[str, object]) -> bool:
        made_at = _moment(message.get("date_created"))
        return made_at is None or self.asked_at - BEFORE <= made_at <= self.asked_at + AFTER

    def now_of(self, date_header: str | None) -> datetime:
        """Twilio's time of day; without one, it is as if no time had passed."""
        return _moment(date_header) or self.asked_at


def accepted_like(
    page: Mapping[str, object], payload: Sms, sender: Mapping[str, str], window: Window
) -> tuple[list[str], list[Mapping[str, object]]]:
    """Of the messages to the number that were made then: the ids of those that say the same, from
    the same sender, and all of them."""
    near = [
        message
        for message in _messages(page)
        if message.get("to") == payload.to
        and text_in(message.get("direction")).startswith(OUTBOUND)
        and window.holds(message)
    ]
    alike = [
        sid
        for message in near
        if message.get("body") == payload.body
        and _is_from(message, sender)
        and (sid := text_in(message.get("sid")))
    ]
    return alike, near


def shows_numbers(page: Mapping[str, object]) -> bool:
    """Whether the account's newest messages are there, with the numbers they went to."""
    numbers = [text_in(message.get("to")) for message in _messages(page)]
    return bool(numbers) and not any(HIDDEN_DIGIT in number for number in numbers)


def _messages(page: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    listed = page.get("messages")
    for message in listed if isinstance(listed, list) else ():
        if isinstance(message, Mapping):
            yield message


def _is_from(message: Mapping[str, object], sender: Mapping[str, str]) -> bool:
    if "From" in sender:
        return message.get("from") == sender["From"]
    return message.get("messaging_service_sid") == sender["MessagingServiceSid"]


def _moment(written: object) -> datetime | None:
    """Tue, 24 Nov 2026 12:00:00 +0000"""
    try:
        found = parsedate_to_datetime(written if isinstance(written, str) else "")
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
