"""The states of our rows, and the words for why somebody gets nothing. Events come in any order,
so a recipient only ever goes up in rank."""

from __future__ import annotations

from django.db.models import TextChoices


class MessageKind(TextChoices):
    """What is sent, and so which route it takes."""

    EMAIL = "email", "Email"  # one message, which all its recipients see alike
    BULK_EMAIL = "bulk_email", "Bulk email"  # one to each recipient, with their own words in it
    SMS = "sms", "SMS"
    PUSH = "push", "Push"


class MessageStatus(TextChoices):
    """How far a message is. Its recipients tell the rest."""

    SCHEDULED = "scheduled", "Scheduled"  # waits for its time
    SENDING = "sending", "Sending"  # calls are under way, or wait
    SENT = "sent", "Sent"  # every call has an outcome, and some recipient was accepted
    FAILED = "failed", "Failed"  # nobody will get it
    CANCELLED = "cancelled", "Cancelled"  # stopped by us before it was sent
    UNKNOWN = "unknown", "Unknown"  # a provider may have it: nothing is sent again by itself


class RecipientKind(TextChoices):
    """Where somebody stands on a message."""

    TO = "to", "To"
    CC = "cc", "Cc"
    BCC = "bcc", "Bcc"


class RecipientStatus(TextChoices):
    """What became of a message to somebody, by rising rank."""

    REQUESTED = "requested", "Requested"  # not sent yet: the call tells how far that is
    UNKNOWN = "unknown", "Unknown"  # the provider may have it
    QUEUED = "queued", "Queued"  # the provider has accepted it
    SENT = "sent", "Sent"  # it has left the provider
    DEFERRED = "deferred", "Deferred"  # the other side wants it later; they go on trying
    CANCELLED = "cancelled", "Cancelled"  # stopped by us before it was sent
    SUPPRESSED = "suppressed", "Suppressed"  # not sent: see Suppression
    REFUSED = "refused", "Refused"  # the provider does not take this recipient
    FAILED = "failed", "Failed"  # no provider took the message, or it could not be delivered
    SOFT_BOUNCED = "soft_bounced", "Bounced (soft)"  # given up for now: mailbox full, say
    DELIVERED = "delivered", "Delivered"
    BOUNCED = "bounced", "Bounced (hard)"  # there is nobody: never again
    OPENED = "opened", "Opened"
    CLICKED = "clicked", "Clicked"
    UNSUBSCRIBED = "unsubscribed", "Unsubscribed"
    COMPLAINED = "complained", "Complained"  # says that it is spam: never again


class SuppressionReason(TextChoices):
    """Why somebody gets nothing any more."""

    HARD_BOUNCE = "hard_bounce", "Hard bounce"
    COMPLAINT = "complaint", "Complaint"
    UNSUBSCRIBED = "unsubscribed", "Unsubscribed"
    OPTED_OUT = "opted_out", "Opted out of SMS"
    UNREGISTERED = "unregistered", "Push token unregistered"
    MANUAL = "manual", "By a person"


class Channel(TextChoices):
    """What an address is one of."""

    EMAIL = "email", "Email"
    SMS = "sms", "SMS"
    PUSH = "push", "Push"


CHANNELS = {
    MessageKind.EMAIL: Channel.EMAIL,
    MessageKind.BULK_EMAIL: Channel.EMAIL,
    MessageKind.SMS: Channel.SMS,
    MessageKind.PUSH: Channel.PUSH,
}


def below(status: RecipientStatus) -> list[RecipientStatus]:
    """The statuses of lower rank."""
    ranked = list(RecipientStatus)
    return ranked[: ranked.index(status)]
