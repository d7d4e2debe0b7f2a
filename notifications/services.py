"""The front door of notifications. Names are keyword-only.

What is to be sent is a message, its recipients, and calls in the outbound engine, all stored in the
caller's transaction; the provider is asked afterwards. All functions raise InvalidPayload (with a
pointer to each field) before anything is stored, NoProvider where the settings do not say who
sends, and KeyReused for an idempotency key that belongs to another message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress as ignoring
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

from django.db import transaction

from notifications.addresses import (
    address_key_of,
    device_token,
    email_address,
    phone_number,
)
from notifications.drafts import (
    Address,
    Attached,
    Draft,
    Refused,
    draft_bulk_email,
    draft_email,
    draft_push,
    draft_sms,
)
from notifications.errors import IllegalMove, NobodyToWriteTo, NoProvider, UnknownMessage
from notifications.models import Dispatch, Message, Recipient, Suppression
from notifications.routing import route_for, with_room
from notifications.states import (
    Channel,
    MessageKind,
    MessageStatus,
    RecipientStatus,
    SuppressionReason,
)
from notifications.suppressions import add_suppression
from notifications.sweep import send_to
from outbound import clock
from outbound.blobs import store_blob
from outbound.errors import FieldError, InvalidPayload, KeyReused
from outbound.errors import IllegalMove as CallMoved
from outbound.inserts import insert_new
from outbound.redaction import storable
from outbound.request_ids import current_request_id
from outbound.services import OutboundCall, cancel_call, check_key, check_text
from outbound.states import WAITING

__all__ = [
    "Attached",
    "Bulk",
    "Message",
    "NoProvider",
    "NobodyToWriteTo",
    "Recipient",
    "Refused",
    "Suppression",
    "calls_of",
    "cancel_message",
    "current_call",
    "find_message",
    "lift_suppression",
    "message_of",
    "refused_recipients",
    "send_bulk_email",
    "send_email",
    "send_push",
    "send_sms",
    "successor_of",
    "suppress",
]

KEEP = timedelta(days=30)  # attachments, after the message's time
ROWS = 500  # inserted by one statement
ADDRESSES = {
    Channel.EMAIL: email_address,
    Channel.SMS: phone_number,
    Channel.PUSH: device_token,
}


class Options(TypedDict, total=False):
    """What can be said of every message.

    route: the providers that may be asked, in this order; without it that of the settings.
    scheduled_at, expires_at: not before, not after; aware. priority: 0 to 9, lower first.
    idempotency_key: the caller's own (1 to 255 visible ASCII characters); the same key with the
    same content returns the message that is there. reference: the caller's own name for it.
    inline: the caller goes on to `outbound.services.deliver_now` with `current_call(message)` once
    its transaction has committed.
    """

    route: Sequence[str] | None
    scheduled_at: datetime | None
    expires_at: datetime | None
    priority: int
    idempotency_key: str | None
    reference: str
    request_id: str | None
    created_by: str
    inline: bool


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk message, and the recipients who were refused before it was stored."""

    message: Message
    refused: Sequence[Refused]


def send_email(
    *,
    to: Address | Iterable[Address],
    subject: str,
    text: str = "",
    html: str = "",
    sender: Address | None = None,
    cc: Address | Iterable[Address] = (),
    bcc: Address | Iterable[Address] = (),
    reply_to: Address | Iterable[Address] = (),
    headers: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    attachments: Sequence[Attached] = (),
    **options: Unpack[Options],
) -> Message:
    """One message, which all recipients see alike. sender: settings.DEFAULT_FROM_EMAIL without it.

    Recipients who are suppressed are left out, and it is said so on their row; where nobody is
    left in `to`, the message is FAILED and nothing is sent.
    """
    draft = draft_email(
        to=to,
        cc=cc,
        bcc=bcc,
        attachments=attachments,
        subject=subject,
        text=text,
        html=html,
        sender=sender,
        reply_to=reply_to,
        headers=_plain(headers),
        tags=list(tags),
        metadata=_plain(metadata),
    )
    return _store(draft, attachments, options)


def send_bulk_email(
    *,
    recipients: Sequence[Mapping[str, Any]],
    subject: str,
    text: str = "",
    html: str = "",
    variables: Mapping[str, str] | None = None,
    sender: Address | None = None,
    reply_to: Address | Iterable[Address] = (),
    headers: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    attachments: Sequence[Attached] = (),
    **options: Unpack[Options],
) -> Bulk:
    """A message of their own to each of up to 10,000 recipients, by as few calls as the provider's
    batches allow.

    recipients: `{"address", "name"?, "variables"?}` each. Subject and bodies hold placeholders,
    `{{first_name}}`, which the recipient's variables fill, else the shared `variables`. Who cannot
    be written to is in `refused` of what is returned; where that is everybody, raises
    InvalidPayload.
    """
    draft = draft_bulk_email(
        recipients=recipients,
        variables=variables or {},
        attachments=attachments,
        subject=subject,
        text=text,
        html=html,
        sender=sender,
        reply_to=reply_to,
        headers=_plain(headers),
        tags=list(tags),
        metadata=_plain(metadata),
    )
    return Bulk(_store(draft, attachments, options), draft.refused)


def send_sms(
    *, to: str | Iterable[str], body: str, sender: str = "", **options: Unpack[Options]
) -> Message:
    """A text message to one or more numbers in E.164, a call each. sender: a number, or a name of
    up to 11 characters; the provider's own setting without it."""
    return _store(draft_sms(to=to, body=body, sender=sender), (), options)


def send_push(
    *,
    tokens: str | Iterable[str],
    title: str = "",
    body: str = "",
    data: Mapping[str, str] | None = None,
    image_url: str = "",
    collapse_key: str = "",
    ttl_seconds: int | None = None,
    urgent: bool = False,
    **options: Unpack[Options],
) -> Message:
    """A notification to one or more devices, a call each."""
    draft = draft_push(
        tokens=tokens,
        title=title,
        body=body,
        data=_plain(data),
        image_url=image_url,
        collapse_key=collapse_key,
        ttl_seconds=ttl_seconds,
        urgent=urgent,
    )
    return _store(draft, (), options)


@transaction.atomic
def _store(draft: Draft, attachments: Sequence[Attached], options: Options) -> Message:
    _check_options(options)
    route = route_for(draft.kind, options.get("route"))
    if draft.kind in (MessageKind.EMAIL, MessageKind.BULK_EMAIL):
        route = with_room(route, draft.content)
    now = clock.now()
    scheduled_at, expires_at = options.get("scheduled_at"), options.get("expires_at")
    waits = scheduled_at is not None and scheduled_at > now
    key, reference = options.get("idempotency_key"), options.get("reference", "")
    request_id = options.get("request_id")
    message = Message(
        kind=draft.kind,
        status=MessageStatus.SCHEDULED if waits else MessageStatus.SENDING,
        content=draft.content,
        route=route,
        priority=options.get("priority", 5),
        scheduled_at=scheduled_at,
        expires_at=expires_at,
        dedupe_key=key,
        fingerprint=draft.fingerprint(
            reference=reference,
            scheduled_at=scheduled_at and scheduled_at.isoformat(),
            expires_at=expires_at and expires_at.isoformat(),
        ),
        reference=reference,
        request_id=current_request_id() if request_id is None else request_id,
        created_by=options.get("created_by", ""),
        created_at=now,
        updated_at=now,
    )
    if not insert_new([message]):
        return _same_message(message)
    message.is_new = True
    for each in attachments:
        store_blob(each.content, keep=max(scheduled_at or now, now) - now + KEEP)
    recipients = _recipients_of(message, draft)
    if not waits:
        send_to(message, recipients, inline=options.get("inline", False))
        message.refresh_from_db()
    return message


def _recipients_of(message: Message, draft: Draft) -> list[Recipient]:
    rows = [
        Recipient(
            message=message,
            place=place,
            kind=person.kind,
            address=person.address,
            address_key=address_key_of(person.address),
            words=person.words(),
            created_at=message.created_at,
            updated_at=message.created_at,
        )
        for place, person in enumerate(draft.people)
    ]
    return Recipient.objects.bulk_create(rows, batch_size=ROWS)


def _same_message(wanted: Message) -> Message:
    """The message that is there under this key. Raises KeyReused when it is another one."""
    found = Message.objects.filter(dedupe_key=wanted.dedupe_key).first()
    if found is None or found.fingerprint != wanted.fingerprint:
        raise KeyReused("this idempotency key was used with another message")
    return found


def _check_options(options: Options) -> None:
    errors = []
    now, expires_at = clock.now(), options.get("expires_at")
    for name in ("scheduled_at", "expires_at"):
        moment = options.get(name)
        if moment is not None and not (isinstance(moment, datetime) and moment.tzinfo):
            raise InvalidPayload([FieldError(f"/{name}", "must be a time with its zone")])
    if expires_at is not None and expires_at <= max(options.get("scheduled_at") or now, now):
        errors.append(FieldError("/expires_at", "must be later than the time of sending"))
    priority: object = options.get("priority", 5)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in range(10):
        errors.append(FieldError("/priority", "must be a whole number, 0 to 9"))
    if errors:
        raise InvalidPayload(errors)
    check_key(options.get("idempotency_key"))
    check_text(
        reference=(options.get("reference", ""), 255),
        request_id=(options.get("request_id") or "", 128),
        created_by=(options.get("created_by", ""), 150),
    )


def _plain(given: Mapping[str, str] | None) -> dict[str, str]:
    return {} if given is None else dict(given)


def find_message(message_id: object) -> Message | None:
    """The message of that id; None when there is none, or when it is no id at all."""
    return Message.objects.with_id(message_id).first()


def current_call(message: Message) -> OutboundCall | None:
    """The latest call that carries the message, or a part of it; None where nothing is sent."""
    rows = Dispatch.objects.filter(message=message, call__isnull=False).select_related("call")
    row = rows.order_by("-created_at", "-pk").first()
    return row.call if row else None


def successor_of(call: OutboundCall) -> OutboundCall:
    """The call to another provider that has taken this one's place; itself where none has."""
    row = Dispatch.objects.filter(call=call).first()
    if row is None:
        return call
    later = Dispatch.objects.filter(message=row.message_id, created_at__gte=row.created_at)
    latest = later.filter(place__gt=row.place, call__isnull=False).order_by("-place").first()
    return latest.call if latest and latest.call else call


def message_of(call: OutboundCall) -> Message:
    """The message that a call carries. Raises UnknownMessage."""
    row = Dispatch.objects.filter(call=call).select_related("message").first()
    if row is None:
        raise UnknownMessage(f"call {call.pk} carries no message")
    return row.message


def calls_of(message: Message) -> list[OutboundCall]:
    """All calls that carry a message, or a part of it, in order."""
    rows = Dispatch.objects.filter(message=message, call__isnull=False).select_related("call")
    ordered = rows.order_by("created_at", "pk").defer("call__payload")
    return [row.call for row in ordered if row.call is not None]


def refused_recipients(
    *,
    recipients: Sequence[Mapping[str, Any]],
    subject: str,
    text: str | None = None,
    html: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Sequence[Refused]:
    """Whom `send_bulk_email` would refuse, or has refused. Stores nothing."""
    draft = draft_bulk_email(
        recipients=recipients,
        variables=variables or {},
        attachments=(),
        subject=subject,
        text=text or "-",
        html=html,
        sender=None,
        reply_to=(),
    )
    return draft.refused


@transaction.atomic
def cancel_message(*, message: Message, reason: str = "", actor: str = "") -> Message:
    """Stop what has not been sent. What a provider may have stays as it is. Raises UnknownMessage,
    IllegalMove (nothing of it waits any more)."""
    rows = Message.objects.filter(pk=message.pk)
    if not rows.exists():
        raise UnknownMessage(f"there is no message {str(message.pk)[:60]!r}")
    now, stopped = clock.now(), 0
    if rows.move_to(MessageStatus.CANCELLED, now=now, sources={MessageStatus.SCHEDULED}):
        waiting = Recipient.objects.filter(message=message)
        why = f"cancelled by {actor or 'the application'}"
        stopped = waiting.advance_to(
            RecipientStatus.CANCELLED, now=now, reason=storable(why, limit=500)
        )
    for call_id in _waiting_calls(message):
        with ignoring(CallMoved):  # a worker took it just now
            cancel_call(call_id=call_id, reason=reason, actor=actor)
            stopped += 1
    message.refresh_from_db()
    if not stopped:
        raise IllegalMove(f"a message that is {message.status} cannot be cancelled")
    return message


def _waiting_calls(message: Message) -> list[Any]:
    waiting = Dispatch.objects.filter(message=message, call__status__in=WAITING)
    return list(waiting.order_by("call_id").values_list("call_id", flat=True))


def suppress(*, channel: Channel, address: str, note: str = "", actor: str = "") -> bool:
    """Let an address get nothing any more. Returns whether that is new. Raises InvalidPayload for
    what is no address of the channel."""
    try:
        address = ADDRESSES[channel](address.strip())
    except ValueError as error:
        raise InvalidPayload([FieldError("/address", str(error))]) from None
    return add_suppression(channel, address, SuppressionReason.MANUAL, note=note, created_by=actor)


def lift_suppression(*, channel: Channel, address: str) -> bool:
    """Let an address get messages again. Returns whether it was suppressed."""
    gone, _ = Suppression.objects.of(channel, [address]).delete()
    return bool(gone)
