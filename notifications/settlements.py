"""What becomes of recipients when a call has an outcome, has to wait, or is tried again.

Hooks may run more than once, and after an event has said more: a recipient only goes up in rank,
and whose `dispatch` is another one by now is not concerned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from uuid import UUID

from notifications.adapters.replies import (
    OPTED_OUT,
    OUT_OF_QUOTA,
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    UNREGISTERED,
    Receipt,
    read_receipts,
)
from notifications.addresses import address_key_of
from notifications.dispatching import fail_over, hand_on, hand_over, point, sum_up
from notifications.models import Dispatch, Message, Recipient, RecipientQuerySet
from notifications.routing import BULK, OPERATIONS
from notifications.states import CHANNELS, MessageKind, RecipientStatus, SuppressionReason
from notifications.suppressions import add_suppression
from outbound import clock
from outbound.errors import RetryRefused
from outbound.redaction import sanitise
from outbound.services import OutboundCall, may_be_asked_elsewhere
from outbound.settlement import ANY, on_postponed, on_revived, on_settled
from outbound.states import CallStatus

BATCH = 1000
SUPPRESSING = {
    OPTED_OUT: SuppressionReason.OPTED_OUT,
    UNREGISTERED: SuppressionReason.UNREGISTERED,
}
REFUSED = {RECIPIENTS_REFUSED, *SUPPRESSING}
"""Codes by which a provider speaks of the recipient: to ask another one would bring the same."""


def settle_dispatch(call: OutboundCall) -> None:
    dispatch = _held(call)
    if dispatch is None:
        return
    theirs = Recipient.objects.filter(dispatch=dispatch)
    if call.status == CallStatus.SUCCEEDED:
        receipts = read_receipts(call.result or {})
        _ask_again(dispatch, receipts)
        record_receipts(dispatch, receipts)
    elif call.status == CallStatus.UNKNOWN:
        theirs.advance_to(RecipientStatus.UNKNOWN, now=clock.now())
    elif call.status == CallStatus.CANCELLED:
        theirs.advance_to(RecipientStatus.CANCELLED, now=clock.now(), reason=call.rule)
    else:
        _settle_failure(dispatch, call, theirs)
    sum_up(dispatch.message)


def _held(call: OutboundCall) -> Dispatch | None:
    """The dispatch of a call, its message locked."""
    dispatch = Dispatch.objects.filter(call=call).first()
    if dispatch is not None:
        dispatch.message = Message.objects.select_for_update().get(pk=dispatch.message_id)
    return dispatch


def _settle_failure(dispatch: Dispatch, call: OutboundCall, theirs: RecipientQuerySet) -> None:
    why = {"code": call.error_code, "reason": (call.error_message or call.rule)[:500]}
    if call.error_code in REFUSED:
        theirs.advance_to(RecipientStatus.REFUSED, now=clock.now(), **why)
        if call.error_code in SUPPRESSING:
            _suppress(theirs, SUPPRESSING[call.error_code], dispatch)
        return
    refused = f"{dispatch.provider} did not take it: {call.error_message or call.rule}"
    if may_be_asked_elsewhere(call) and hand_on(dispatch, why=refused, in_order=False):
        return
    theirs.advance_to(RecipientStatus.FAILED, now=clock.now(), **why)


def _suppress(recipients: RecipientQuerySet, reason: SuppressionReason, dispatch: Dispatch) -> None:
    channel = CHANNELS[MessageKind(dispatch.message.kind)]
    for recipient in recipients:
        add_suppression(
            channel, recipient.address, reason, provider=dispatch.provider, recipient=recipient
        )


def _ask_again(dispatch: Dispatch, receipts: Collection[Receipt]) -> None:
    """A call of their own for those whom the provider could not take yet. It ends: with each call
    somebody was taken, or there would be no receipts."""
    keys = {address_key_of(receipt.address) for receipt in receipts if receipt.code == TRY_AGAIN}
    waiting = Recipient.objects.filter(dispatch=dispatch, status=RecipientStatus.REQUESTED)
    recipients = [each for each in waiting.order_by("place") if each.address_key in keys]
    if recipients:
        why = f"{dispatch.provider} has taken others first"
        hand_over(dispatch.message, recipients, place=dispatch.place, why=why)
        point(recipients)


def record_receipts(dispatch: Dispatch, receipts: Collection[Receipt]) -> None:
    """Write down whom the provider has accepted. Without receipts, as where a person says that it
    worked, it is all of them; with some, nothing is known of the others."""
    now = clock.now()
    theirs = Recipient.objects.filter(dispatch=dispatch)
    if not receipts:
        theirs.advance_to(RecipientStatus.QUEUED, now=now)
        return
    rows = dict(theirs.values_list("address_key", "pk"))
    named: dict[UUID, str] = {}
    verdicts: dict[tuple[bool, str, str], list[UUID]] = defaultdict(list)
    for receipt in receipts:
        pk = rows.get(address_key_of(receipt.address))
        if pk is not None:
            named[pk] = receipt.message_id[:255]
            verdicts[receipt.accepted, receipt.code, receipt.reason].append(pk)
    name_messages(named)
    for (accepted, code, reason), pks in verdicts.items():
        status = RecipientStatus.QUEUED if accepted else RecipientStatus.REFUSED
        said = {} if accepted else {"code": code[:100], "reason": sanitise(reason)}
        for start in range(0, len(pks), BATCH):
            part = Recipient.objects.filter(pk__in=pks[start : start + BATCH])
            part.advance_to(status, now=now, **said)
    if dispatch.message.kind == MessageKind.BULK_EMAIL:
        theirs.advance_to(RecipientStatus.UNKNOWN, now=now)
    else:
        theirs.advance_to(RecipientStatus.QUEUED, now=now)


def name_messages(named: Mapping[UUID, str]) -> None:
    """Write down the provider's ids of messages, by recipient, in few statements."""
    rows = [Recipient(pk=pk, provider_message_id=name) for pk, name in named.items() if name]
    if len({row.provider_message_id for row in rows}) == 1:
        Recipient.objects.filter(pk__in=[row.pk for row in rows]).update(
            provider_message_id=rows[0].provider_message_id
        )
    elif rows:
        Recipient.objects.bulk_update(rows, ["provider_message_id"], batch_size=BATCH)


def postpone_dispatch(call: OutboundCall) -> None:
    """Somebody else is asked when the provider is out of order, or out of quota."""
    if call.parked_by and call.parked_by == call.circuit:
        fail_over(call.pk, why=f"the circuit of {call.adapter} is open")
    elif call.error_code == OUT_OF_QUOTA:
        fail_over(call.pk, why=f"{call.adapter} is out of quota")


def revive_dispatch(call: OutboundCall) -> None:
    dispatch = _held(call)
    if dispatch is None:
        return
    theirs = Recipient.objects.filter(dispatch=dispatch)
    if not theirs.exists():
        raise RetryRefused("another provider was asked by now")
    waiting = theirs.filter(status__in=(RecipientStatus.REQUESTED, RecipientStatus.UNKNOWN))
    if not theirs.ask_again(now=clock.now()) and not waiting.exists():
        raise RetryRefused("its recipients have the message by now")
    sum_up(dispatch.message)


for _operation in (*OPERATIONS.values(), BULK):
    on_settled(ANY, _operation)(settle_dispatch)
    on_postponed(ANY, _operation)(postpone_dispatch)
    on_revived(ANY, _operation)(revive_dispatch)
