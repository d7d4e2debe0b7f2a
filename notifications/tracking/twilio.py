"""What Twilio says of a text message.
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status"""

from __future__ import annotations

from notifications.addresses import phone_number
from notifications.states import RecipientStatus, SuppressionReason
from notifications.tracking import Meaning, Track
from notifications.tracking.reading import marks, part, text, word
from webhooks.handlers import Event

FAILED = Meaning(RecipientStatus.FAILED)
NOBODY = Meaning(RecipientStatus.BOUNCED, SuppressionReason.HARD_BOUNCE)
AWAY = Meaning(RecipientStatus.SOFT_BOUNCED)
NOT_WANTED = Meaning(RecipientStatus.REFUSED, SuppressionReason.OPTED_OUT)
STOPPED = Meaning(RecipientStatus.UNSUBSCRIBED, SuppressionReason.OPTED_OUT)

# https://www.twilio.com/docs/messaging/api/message-resource#message-status-values
MEANINGS = {
    "message.accepted": Meaning(RecipientStatus.QUEUED),
    "message.scheduled": Meaning(RecipientStatus.QUEUED),
    "message.queued": Meaning(RecipientStatus.QUEUED),
    "message.sending": Meaning(RecipientStatus.QUEUED),
    "message.sent": Meaning(RecipientStatus.SENT),
    "message.delivered": Meaning(RecipientStatus.DELIVERED),
    "message.read": Meaning(RecipientStatus.OPENED),
    "message.undelivered": FAILED,  # see ERRORS
    "message.failed": FAILED,
    "message.canceled": FAILED,
}
# `ErrorCode`, with what it says in words. Others are no fault of the recipient's.
# https://www.twilio.com/docs/api/errors
ERRORS = {
    "21610": (NOT_WANTED, "opted out of messages from this sender"),
    "21614": (NOBODY, "the number is no mobile number"),
    "30001": (FAILED, "the queue overflowed"),
    "30002": (FAILED, "the account is suspended"),
    "30003": (AWAY, "the handset cannot be reached"),
    "30004": (AWAY, "the message was blocked"),
    "30005": (NOBODY, "the handset is unknown, or the number is not in use"),
    "30006": (NOBODY, "a landline, or a carrier that cannot be reached"),
    "30007": (FAILED, "filtered by the carrier"),
    "30008": (FAILED, "not delivered, the carrier does not say why"),
    "30009": (FAILED, "a part of the message is missing"),
    "30010": (FAILED, "dearer than the price that was set"),
    "30034": (FAILED, "the sender is not registered"),
    "30410": (AWAY, "the carrier did not answer in time"),
}
RECEIVED = "message.received"  # a message to us
STOP = "STOP"  # `OptOutType`. https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out
EVENTS = (*MEANINGS, RECEIVED)


def read(event: Event) -> list[Track]:
    """Our marks are in the query of the address to which Twilio sent it."""
    said, meaning = event.payload, MEANINGS.get(event.event_type)
    if event.event_type == RECEIVED and text(said, "OptOutType") == STOP:
        sender = _number(text(said, "From"))
        return [Track(STOPPED.status, sender, suppress=STOPPED.suppress)] if sender else []
    if meaning is None:
        return []
    code, why = word(said, "ErrorCode"), ""
    if meaning is FAILED:
        meaning, why = ERRORS.get(code, (meaning, ""))
    mark = marks(part(said, "query"))
    return [
        Track(
            status=meaning.status,
            address=_number(text(said, "To")),
            message_id=text(said, "MessageSid"),
            call_id=mark.call_id,
            key=mark.key,
            code=code,
            reason=why,
            suppress=meaning.suppress,
        )
    ]


def _number(written: str) -> str:
    """'' for what is no telephone number: other channels have names before it."""
    try:
        return phone_number(written)
    except ValueError:
        return ""
