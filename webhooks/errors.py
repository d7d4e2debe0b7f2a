"""What can go wrong with a word from outside, told apart by who is told what.

Three trees. `DeliveryRefused`: the sender gets a 4xx, and nothing is stored. `NotYet`: a handler
says that it came too early. `EventRefused`: a caller of ours asked for something that cannot be
done.
"""

from __future__ import annotations

from typing import ClassVar


class DeliveryRefused(Exception):
    """A delivery that is not accepted. The message is shown to the sender: it never quotes what
    was sent, and no secret."""

    http_status: ClassVar[int] = 400
    kind: ClassVar[str] = "refused"
    retry_after: int | None = None  # seconds


class UnknownSource(DeliveryRefused):
    """No such source, or one that has no secret and so is not enabled."""

    http_status = 404
    kind = "unknown_source"


class BodyTooLarge(DeliveryRefused):
    """More bytes than WEBHOOK_MAX_BYTES."""

    http_status = 413
    kind = "too_large"


class UnreadableBody(DeliveryRefused):
    """The connection did not bring the body whole."""

    kind = "unreadable"


class MissingSignature(DeliveryRefused):
    """No signature, or one that is not put together as the provider does it."""

    kind = "no_signature"


class InvalidSignature(DeliveryRefused):
    """Signed with none of our secrets, or at a time that is not now."""

    http_status = 401
    kind = "wrong_signature"


class MalformedBody(DeliveryRefused):
    """Authentic, but not what the provider says it sends."""

    kind = "malformed"


class Throttled(DeliveryRefused):
    """The sender has failed to prove itself too often: come again in `retry_after` seconds."""

    http_status = 429
    kind = "throttled"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = max(retry_after, 1)


class WrongMode(DeliveryRefused):
    """A test event for a live source, or the other way round."""

    kind = "wrong_mode"


class CannotVerify(Exception):
    """Whether it is authentic cannot be found out just now. The sender is asked to come again."""


class NotYet(Exception):
    """Raised by a handler: the event speaks of something that is not known here yet.

    No order of events is promised, so it is tried a few times more within two minutes. Then the
    event is IGNORED with the message as a note; it never becomes FAILED by this.
    """


class NotOurs(NotYet):
    """Raised by a handler: the event speaks of something that will never be known here. It is
    IGNORED at once, with the message as a note."""


class CannotCatchUp(Exception):
    """The provider's list of events cannot be read to its end now. What was read is stored, and
    the next time goes on from there."""


class EventRefused(ValueError):
    """The caller asked for something that cannot be done."""


class UnknownEvent(EventRefused):
    """There is no event of that id."""


class IllegalMove(EventRefused):
    """The event is not in a status from which this can be done."""


class BodyGone(EventRefused):
    """The body is past its retention, so that nothing is left to replay."""


class ReasonRequired(EventRefused):
    """It is kept with what was done, so somebody has to say why."""


class WrongFilter(EventRefused):
    """It says nothing, or something that holds for no event."""


class UnknownReplay(EventRefused):
    """There is no replay of that id, or none that is under way."""
