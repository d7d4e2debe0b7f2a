"""What Amazon SES says of a message, by Amazon SNS. Both of its forms: event publishing
(`eventType`) and feedback notifications (`notificationType`).
https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from notifications.states import RecipientStatus, SuppressionReason
from notifications.tracking import Meaning, Track
from notifications.tracking.reading import (
    Marks,
    address,
    items,
    marks,
    moment,
    part,
    reason,
    text,
    word,
)
from webhooks.handlers import Event


class Kind(NamedTuple):
    """A type of event: the member that has its details, and the list in there of those whom it is
    about ('': everybody who was written to; None: one of them, it is not said who)."""

    meaning: Meaning
    member: str
    recipients: str | None


KINDS = {
    "Send": Kind(Meaning(RecipientStatus.QUEUED), "send", ""),
    "Reject": Kind(Meaning(RecipientStatus.FAILED), "reject", ""),
    "Rendering Failure": Kind(Meaning(RecipientStatus.FAILED), "failure", ""),
    "Delivery": Kind(Meaning(RecipientStatus.DELIVERED), "delivery", "recipients"),
    "DeliveryDelay": Kind(Meaning(RecipientStatus.DEFERRED), "deliveryDelay", "delayedRecipients"),
    "Bounce": Kind(Meaning(RecipientStatus.SOFT_BOUNCED), "bounce", "bouncedRecipients"),
    "Complaint": Kind(
        Meaning(RecipientStatus.COMPLAINED, SuppressionReason.COMPLAINT),
        "complaint",
        "complainedRecipients",
    ),
    "Open": Kind(Meaning(RecipientStatus.OPENED), "open", None),
    "Click": Kind(Meaning(RecipientStatus.CLICKED), "click", None),
    "Subscription": Kind(
        Meaning(RecipientStatus.UNSUBSCRIBED, SuppressionReason.UNSUBSCRIBED),
        "subscription",
        None,
    ),
}
# `bounceType`. Transient and Undetermined ones are soft.
BOUNCES = {"Permanent": Meaning(RecipientStatus.BOUNCED, SuppressionReason.HARD_BOUNCE)}
# `complaintSubType`: SES has not sent it, for the account has a complaint from before.
COMPLAINTS = {
    "OnAccountSuppressionList": Meaning(RecipientStatus.REFUSED, SuppressionReason.COMPLAINT)
}
NO_COMPLAINT = "not-spam"  # `complaintFeedbackType`: moved out of the spam folder
EVENTS = tuple(f"ses.{kind.lower()}" for kind in KINDS)  # as SnsSource names them


def read(event: Event) -> list[Track]:
    """One event may be about several recipients. Our marks are among the tags, each a list.

    Where many were written to, some providers hide who complained: SES names all who may have, and
    all of them are taken at their word.
    """
    said = part(event.payload, "message")
    kind = KINDS.get(text(said, "eventType") or text(said, "notificationType"))
    if kind is None or not _counts(part(said, kind.member)):
        return []
    mail, details = part(said, "mail"), part(said, kind.member)
    meaning = _nearer(details) or kind.meaning
    mark = _marks(part(mail, "tags"))
    return [
        Track(
            status=meaning.status,
            address=to,
            message_id=text(mail, "messageId"),
            call_id=mark.call_id,
            key=mark.key,
            code=_code(details),
            reason=reason(why, *_reasons(details), about=to),
            suppress=meaning.suppress,
            at=moment(details.get("timestamp")) or event.occurred_at,
        )
        for to, why in _recipients(kind, mail, details)
    ]


def _counts(details: Mapping[str, Any]) -> bool:
    """Not so what undoes a complaint, and who stays subscribed to all that they were."""
    if text(details, "complaintFeedbackType") == NO_COMPLAINT:
        return False
    return "newTopicPreferences" not in details or _has_left(details)


def _has_left(details: Mapping[str, Any]) -> bool:
    """All, or a topic. https://docs.aws.amazon.com/ses/latest/dg/sending-email-subscription-management.html"""
    new, old = part(details, "newTopicPreferences"), part(details, "oldTopicPreferences")
    return new.get("unsubscribeAll") is True or bool(_left_topics(new) - _left_topics(old))


def _left_topics(preferences: Mapping[str, Any]) -> set[str]:
    return {
        text(topic, "topicName")
        for topic in items(preferences, "topicSubscriptionStatus")
        if text(topic, "subscriptionStatus") == "OptOut"
    }


def _nearer(details: Mapping[str, Any]) -> Meaning | None:
    return BOUNCES.get(text(details, "bounceType")) or COMPLAINTS.get(
        text(details, "complaintSubType")
    )


def _recipients(
    kind: Kind, mail: Mapping[str, Any], details: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Whom it is about, with what the other server said."""
    everybody = [found for each in items(mail, "destination") if (found := address(each))]
    if kind.recipients is None:
        yield everybody[0] if len(everybody) == 1 else "", ""
        return
    for each in items(details, kind.recipients) if kind.recipients else everybody:
        to = address(each) or address(part(each).get("emailAddress"))
        if to:
            yield to, text(each, "diagnosticCode")


def _marks(tags: Mapping[str, Any]) -> Marks:
    return marks({name: values[0] for name in tags if (values := items(tags, name))})


def _code(details: Mapping[str, Any]) -> str:
    names = ("bounceType", "bounceSubType", "complaintFeedbackType", "delayType")
    return ".".join(filter(None, (word(details, name) for name in names)))[:100]


def _reasons(details: Mapping[str, Any]) -> Iterator[str]:
    for name in ("smtpResponse", "reason", "errorMessage"):
        yield text(details, name)
