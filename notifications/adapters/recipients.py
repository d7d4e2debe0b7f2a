"""Who an email goes to: each once, and without those whom a provider has refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from notifications.adapters.messages import BulkRecipient, Email, Mailbox
from notifications.adapters.replies import Receipt
from notifications.addresses import address_key_of
from outbound.errors import DeliveryError

ROUNDS = 3  # a provider that names one refused recipient at a time is asked so often

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class RecipientsNamed(Exception):
    """A provider has accepted nothing, because of recipients that it names. `error`: what to raise
    where it cannot be asked without them."""

    def __init__(self, receipts: Sequence[Receipt], error: DeliveryError) -> None:
        super().__init__()
        self.receipts = receipts
        self.error = error


def everybody(email: Email) -> list[Mailbox]:
    return [*email.to, *email.cc, *email.bcc]


def distinct(email: Email) -> Email:
    """The same with each address once: where it is seen first."""
    return _thinned(email, gone=set())


def without(email: Email, refused: Sequence[Receipt]) -> Email | None:
    """The same without these; None where nobody is left whom it could be addressed to, for a
    hidden recipient must not become a visible one."""
    rest = _thinned(email, gone=_keys(refused))
    return rest if rest.to else None


def others(
    recipients: Sequence[BulkRecipient], refused: Sequence[Receipt]
) -> Sequence[BulkRecipient] | None:
    """The recipients but these; None where nobody is left."""
    gone = _keys(refused)
    return [each for each in recipients if address_key_of(each.address) not in gone] or None


def drop_refused(
    asked: Asked,
    send: Callable[[Asked], Answer],
    rest_of: Callable[[Asked, Sequence[Receipt]], Asked | None],
) -> tuple[Asked, Answer, list[Receipt]]:
    """Send, and where a provider refuses all because of some whom it names, again without those.

    Returns what was sent in the end, its answer, and the receipts of those who were left out.
    """
    refused: list[Receipt] = []
    for _ in range(ROUNDS - 1):
        try:
            return asked, send(asked), refused
        except RecipientsNamed as named:
            rest = rest_of(asked, named.receipts)
            if rest is None:
                raise named.error from None
            asked, refused = rest, [*refused, *named.receipts]
    try:
        return asked, send(asked), refused
    except RecipientsNamed as named:
        raise named.error from None


def _keys(receipts: Iterable[Receipt]) -> set[str]:
    return {address_key_of(receipt.address) for receipt in receipts}


def _thinned(email: Email, *, gone: set[str]) -> Email:
    kept: dict[str, list[Mailbox]] = {"to": [], "cc": [], "bcc": []}
    for field, mailboxes in kept.items():
        for mailbox in getattr(email, field):
            key = address_key_of(mailbox.address)
            if key not in gone:
                mailboxes.append(mailbox)
                gone = {*gone, key}
    return email.model_copy(update=kept)
