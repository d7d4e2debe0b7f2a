"""Idempotency-Key: a write is done once, and asked again it tells how that stands.
https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/

The key's row is inserted first, in the transaction that stores the call: who comes at the same
time waits for that commit, and finds the call; nothing of what was made meanwhile is kept. A row
without an answer belongs to an HTTP request that still waits for the provider, or whose process
died: `answer_due_at` tells the two apart.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from api.bodies import document_of
from api.errors import Problem
from api.gate import client_of, idempotency_key
from api.models import IdempotentRequest
from api.problems import retry_after
from outbound import clock
from outbound.fields import canonical_json
from outbound.ids import uuid7
from outbound.services import OutboundCall
from outbound.statements import insert_or_raise, update
from outbound.transactions import whole

logger = structlog.get_logger(__name__)

LIFETIME = timedelta(hours=24)
ANSWER_GRACE = timedelta(seconds=10)  # beyond the wait, until a process counts as dead
ACCEPTED = 202


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under a key, and its call. `again`: it had been asked before."""

    row: IdempotentRequest
    call: OutboundCall
    again: bool


class _Taken(Exception):
    """There is a row of this key."""


def ask_once(request: HttpRequest, make: Callable[[], OutboundCall], *, wait: int) -> Asked:
    """Make the call, unless it has been made under this key. wait: the seconds for which its
    answer will be waited for. Raises Problem, and whatever `make` raises: then nothing is kept."""
    while True:
        with clock.one_reading():
            wanted = _row_for(request, wait=wait)
            try:
                return Asked(wanted, _asked_first(wanted, make), again=False)
            except Exception as error:  # whatever it is, a key that was used before goes first
                row = _used_before(wanted)
                if row is not None:
                    return _asked_again(row, wanted)
                if not isinstance(error, _Taken):
                    raise


def _asked_first(wanted: IdempotentRequest, make: Callable[[], OutboundCall]) -> OutboundCall:
    """Insert the key's row first, make the call after, in one transaction. Raises _Taken when the
    unique constraint speaks against it: then nothing is kept of what was made."""
    with whole():
        insert_or_raise(wanted, _Taken())
        call = make()
        if call.pk != wanted.call_id:
            wanted.call_id = call.pk
            update(wanted, "call_id")
    return call


def _used_before(wanted: IdempotentRequest) -> IdempotentRequest | None:
    """The row of this key. One whose time is over makes way."""
    same = IdempotentRequest.objects.filter(client=wanted.client, key=wanted.key)
    row = same.select_related("call").first()
    if row is not None and row.expires_at <= wanted.created_at:
        same.expired(wanted.created_at).delete()
        return None
    return row


def _asked_again(row: IdempotentRequest, wanted: IdempotentRequest) -> Asked:
    if row.fingerprint != wanted.fingerprint:
        detail = "this Idempotency-Key was used for another request"
        raise Problem(422, detail, code="idempotency_key_reused")
    if row.being_answered(wanted.created_at):
        raise Problem(
            409,
            "the first request with this Idempotency-Key is still being answered",
            code="idempotency_key_in_use",
            headers=retry_after(1),
        )
    if row.call is None:
        raise RuntimeError("a request was committed without its call")
    return Asked(row, row.call, again=True)


def answered(asked: Asked, status: int) -> None:
    """Remember the first answer's status. When the database is away just now the answer is given
    all the same; asked again, the call itself tells."""
    try:
        IdempotentRequest.objects.filter(pk=asked.row.pk).answered(status)
    except (OperationalError, InterfaceError) as error:
        logger.warning("answer_not_noted", error=type(error).__name__)


def free(asked: Asked) -> None:
    """Nothing was sent and nothing will be: the key may be used again."""
    IdempotentRequest.objects.filter(pk=asked.row.pk).delete()


def _row_for(request: HttpRequest, *, wait: int) -> IdempotentRequest:
    now = clock.now()
    return IdempotentRequest(
        client=client_of(request),
        key=idempotency_key(request),
        call_id=reserved_id(request),
        fingerprint=fingerprint(request),
        first_status=None if wait else ACCEPTED,
        answer_due_at=now + timedelta(seconds=wait) + ANSWER_GRACE,
        created_at=now,
        expires_at=now + LIFETIME,
    )


def reserved_id(request: HttpRequest) -> uuid.UUID:
    """The id that the call of this request shall have: so its key's row is written once, though it
    is there before the call. (The constraint between the two is looked at with the commit.) A call
    that has another id is written to the row later."""
    found: uuid.UUID | None = getattr(request, "reserved_id", None)
    if found is None:
        found = request.reserved_id = uuid7()  # type: ignore[attr-defined]
    return found


def fingerprint(request: HttpRequest) -> str:
    """Method, path and canonical JSON: how a body is spelled does not matter."""
    document: Any = document_of(request) if request.body else None
    said = canonical_json([request.method, request.path, document])
    return hashlib.sha256(said).hexdigest()
