"""What a call must pass before it is claimed: circuit, concurrency, rate, retry budget.

A refusal costs no attempt. What was taken on the way in is given back on the way out.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from outbound import clock, limits, parking, permits, registry
from outbound.breaker import Admission, CircuitRefused
from outbound.errors import CircuitOpen, DeliveryError, RateLimited, TransientError
from outbound.limits import Limits
from outbound.models import CircuitTransition, OutboundCall
from outbound.states import CallStatus

logger = structlog.get_logger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not go now. `waits_for`: the circuit or limit, as the row remembers it.
    `exact`: it may go at `retry_at` and not much later, so a message should speak of it then."""

    waits_for: str
    retry_at: datetime
    error: TransientError
    exact: bool = False


@dataclass(slots=True)
class Passage:
    """What a call holds while it is made."""

    call: OutboundCall
    limits: Limits
    admission: Admission
    permit: uuid.UUID | None = None

    @property
    def probe(self) -> bool:
        return self.admission.probe is not None

    def leave(self, verdict: DeliveryError | bool | None = None, *, seconds: float = 0.0) -> None:
        """Give back what was taken, and let others go in its place. `verdict`: True after a
        success, the error after a failure, None when nothing can be said about the provider.
        While the database is away nothing can be given back: it expires by itself."""
        try:
            self._report(verdict, seconds)
            self._return_permit()
        except DATABASE_AWAY as error:
            if connection.in_atomic_block:
                raise
            logger.warning(
                "passage_left_open", call_id=str(self.call.pk), error=type(error).__name__
            )

    def _report(self, verdict: DeliveryError | bool | None, seconds: float) -> None:
        breaker = registry.breaker_for(self.call.circuit, self.call.adapter)
        change: CircuitTransition | None = None
        if verdict is True:
            change = breaker.succeeded(self.admission, seconds=seconds)
        elif isinstance(verdict, DeliveryError):
            change = breaker.failed(self.admission, verdict, seconds=seconds)
        else:
            breaker.forgo(self.admission)
        if self.probe or change is not None:
            parking.follow(self.call.circuit)

    def _return_permit(self) -> None:
        if self.permit is None:
            return
        name = limits.bulkhead_name(self.call.adapter, self.call.account)
        permits.return_permit(name, self.permit)
        self.permit = None
        parking.wake(name, limit=1)


def enter(call: OutboundCall, *, fresh: bool = False, inline: bool = False) -> Passage | Refusal:
    """Everything that a call needs before its claim, or why it may not go. `fresh`: do not trust
    what was known of the circuit a moment ago. `inline`: somebody waits for it."""
    breaker = registry.breaker_for(call.circuit, call.adapter)
    try:
        admission = breaker.admit(fresh=fresh)
    except CircuitRefused as refused:
        return _circuit_refusal(call, refused)
    passage = Passage(call, registry.limits_for(call.adapter), admission)
    refusal = _hold_permit(passage) or _take_token(call, passage.limits)
    if refusal is None and not inline:
        refusal = _spend_retry(passage)
        if refusal is not None and passage.limits.rate is not None:
            name = limits.bucket_name(call.adapter, call.account)
            limits.return_token(name, rate=passage.limits.rate)
    if refusal is not None:
        passage.leave(None)
        return refusal
    if passage.probe:
        parking.follow(call.circuit)  # where several may be out at once, the others too
    return passage


def _circuit_refusal(call: OutboundCall, refused: CircuitRefused) -> Refusal:
    wait = max((refused.retry_at - clock.now()).total_seconds(), 0.0)
    error = CircuitOpen(
        f"{call.adapter}: {refused.why}", retry_after=wait, http_status=503, code=call.circuit
    )
    return Refusal(call.circuit, refused.retry_at, error)


def _hold_permit(passage: Passage) -> Refusal | None:
    slots = passage.limits.concurrency
    if slots is None:
        return None
    name = limits.bulkhead_name(passage.call.adapter, passage.call.account)
    lease = float(settings.OUTBOUND_LEASE_SECONDS)
    passage.permit = permits.take_permit(name, slots=slots, seconds=lease)
    if passage.permit is not None:
        return None
    retry_at = permits.next_permit_at(name, slots=slots)
    message = f"{passage.call.adapter}: {slots} calls are in flight, and no more may be"
    return Refusal(name, retry_at, _rate_limited(message, retry_at))


def _take_token(call: OutboundCall, bounds: Limits) -> Refusal | None:
    """A token, after those who have been waiting for one. Who has to wait is given the next turn,
    so that parked calls come back one by one, in order, and not all at once."""
    if bounds.rate is None:
        return None
    name = limits.bucket_name(call.adapter, call.account)
    turns = f"turns:{name}@{bounds.rate:g}"  # turns at another rate say nothing about this one
    had_turn = call.parked_by == name
    wait = 0.0 if had_turn else limits.turns_ahead(turns)
    if wait <= 0:
        wait = limits.take_token(name, rate=bounds.rate, burst=bounds.burst)
        if wait <= 0:
            return None
    turn = limits.take_turn(turns, rate=bounds.rate)
    retry_at = clock.now() + timedelta(seconds=max(wait, turn))
    message = f"{call.adapter}: more than {bounds.rate:g} calls a second"
    return Refusal(name, retry_at, _rate_limited(message, retry_at), exact=True)


def _spend_retry(passage: Passage) -> Refusal | None:
    """Retries are held back while there are many of them. First attempts never are, nor probes,
    nor what goes on after a crash of ours: that says nothing about the provider. Nor is what a
    person sends again: a call that has failed is PENDING then."""
    call = passage.call
    if call.status == CallStatus.PENDING or passage.probe or call.error_kind == "crashed":
        return None
    wait = limits.take_retry(call.adapter, passage.limits)
    if wait <= 0:
        return None
    retry_at = clock.now() + timedelta(seconds=wait)
    message = f"{call.adapter}: the retry budget is spent"
    return Refusal(limits.retries_name(call.adapter), retry_at, _rate_limited(message, retry_at))


def _rate_limited(message: str, retry_at: datetime) -> RateLimited:
    wait = max((retry_at - clock.now()).total_seconds(), 0.0)
    return RateLimited(message, retry_after=wait, http_status=429)
