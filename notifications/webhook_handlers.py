"""Which events are followed: those of every source whose provider sends messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from notifications.following import follow
from notifications.tracking import Track, mailgun, postmark, resend, sendgrid, ses, twilio
from webhooks.errors import NotOurs, NotYet
from webhooks.handlers import Event, Handler, handles


@dataclass(frozen=True, slots=True)
class Reader:
    """What a provider is called here, how its events are read, and which of them."""

    provider: str
    read: Callable[[Event], list[Track]]
    events: tuple[str, ...]


READERS = {
    "webhooks.providers.mailgun.MailgunSource": Reader("mailgun", mailgun.read, mailgun.EVENTS),
    "webhooks.providers.postmark.PostmarkSource": Reader(
        "postmark", postmark.read, postmark.EVENTS
    ),
    "webhooks.providers.resend.ResendSource": Reader("resend", resend.read, resend.EVENTS),
    "webhooks.providers.sendgrid.SendGridSource": Reader(
        "sendgrid", sendgrid.read, sendgrid.EVENTS
    ),
    "webhooks.providers.sns.SnsSource": Reader("ses", ses.read, ses.EVENTS),
    "webhooks.providers.twilio.TwilioSource": Reader("twilio", twilio.read, twilio.EVENTS),
}


def register(sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Follow the events of these sources, whatever they are called."""
    for name, entry in sources.items():
        reader = READERS.get(str(entry.get("SOURCE")))
        if reader is not None:
            handler = handler_for(reader)
            for event_type in reader.events:
                handles(name, event_type)(handler)


def handler_for(reader: Reader) -> Handler:
    def take(event: Event) -> None:
        """An event about several recipients is for those whom we know."""
        tracks, strangers = reader.read(event), list[NotYet]()
        for track in tracks:
            try:
                follow(track=track, provider=reader.provider, event=event)
            except NotYet as early:
                strangers.append(early)
        if len(strangers) == len(tracks):
            raise strangers[0] if strangers else NotOurs("it says nothing of a message")

    return take


register(settings.WEBHOOK_SOURCES)
