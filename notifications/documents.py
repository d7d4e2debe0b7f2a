"""What an adapter is asked, made of a message and the recipients that a call is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from notifications.models import Message, Recipient
from notifications.placeholders import fill
from notifications.routing import BULK
from notifications.states import MessageKind, RecipientKind


def document_for(message: Message, recipients: Sequence[Recipient], operation: str) -> Any:
    """The payload of one call."""
    kind = MessageKind(message.kind)
    if kind == MessageKind.EMAIL:
        return {**message.content, **_by_kind(recipients)}
    if kind == MessageKind.BULK_EMAIL:
        if operation == BULK:
            return {**message.content, "recipients": [_with_words(each) for each in recipients]}
        (recipient,) = recipients
        return _filled(message.content, recipient)
    (recipient,) = recipients
    field = "to" if kind == MessageKind.SMS else "token"
    return {**message.content, field: recipient.address}


def _by_kind(recipients: Sequence[Recipient]) -> dict[str, list[dict[str, str]]]:
    return {
        str(kind): [_mailbox(each) for each in recipients if each.kind == kind]
        for kind in RecipientKind
    }


def _mailbox(recipient: Recipient) -> dict[str, str]:
    return {"address": recipient.address, "name": recipient.words.get("name", "")}


def _with_words(recipient: Recipient) -> dict[str, Any]:
    return {**_mailbox(recipient), "variables": recipient.words.get("variables", {})}


def _filled(content: dict[str, Any], recipient: Recipient) -> dict[str, Any]:
    """One recipient's own message, with their values in it."""
    variables = recipient.words.get("variables", {})
    subject = " ".join(fill(content["subject"], variables).split())
    return {
        **content,
        "subject": subject,
        "text": fill(content.get("text", ""), variables),
        "html": fill(content.get("html", ""), variables, html=True),
        "to": [_mailbox(recipient)],
    }
