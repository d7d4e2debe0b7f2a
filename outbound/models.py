"""The rows: a call, its attempts, and the lease of a periodic piece of work."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.db.models import F, Q

from outbound.errors import IllegalMove
from outbound.fields import EncryptedBinaryField, EncryptedJSONField
from outbound.ids import uuid7
from outbound.plain import moment_in, token_in
from outbound.statements import change_if, update_if
from outbound.states import (
    MOVES,
    SETTLED,
    WAITING,
    AttemptOutcome,
    AttemptTrigger,
    CallStatus,
    CircuitMode,
    CircuitState,
    sources_of,
)


def legal_sources(
    status: CallStatus, sources: Collection[CallStatus] | None = None
) -> frozenset[CallStatus]:
    """From where a call may come to a status. Raises IllegalMove when not from all of `sources`."""
    legal = sources_of(status)
    wanted = legal if sources is None else frozenset(sources)
    if not wanted or not wanted <= legal:
        wrong = ", ".join(sorted(wanted - legal)) or "nowhere"
        raise IllegalMove(f"a call cannot go from {wrong} to {status}")
    return wanted


class CallQuerySet(models.QuerySet["OutboundCall"]):
    """Words for sets of calls, and the only way to change a status, but for the attempt's own:
    `OutboundCall.take` and `leave`."""

    def move_to(
        self,
        status: CallStatus,
        *,
        now: datetime,
        sources: Collection[CallStatus] | None = None,
        **changes: Any,
    ) -> int:
        """Move the calls of this set that are in one of `sources` (default: every status from
        which `status` may be reached). Returns how many moved: 0 means that someone else won.
        Raises IllegalMove when no rule allows a move from one of `sources`."""
        sources = legal_sources(status, sources)
        return self.filter(status__in=sources).update(status=status, updated_at=now, **changes)

    def with_id(self, call_id: object) -> Self:
        """The call of that id; none when there is none, or when it is no id at all."""
        try:
            return self.filter(pk=uuid.UUID(str(call_id)))
        except ValueError:
            return self.none()

    def waiting(self) -> Self:
        """Calls that wait for an attempt."""
        return self.filter(status__in=WAITING)

    def ready(self, now: datetime) -> Self:
        """Calls that may be attempted now."""
        return self.waiting().filter(
            Q(key_expires_at=None) | Q(key_expires_at__gt=now),
            due_at__lte=now,
            deadline_at__gt=now,
        )

    def unannounced(self, now: datetime) -> Self:
        """Calls that are due and that no message speaks of any more, oldest first."""
        return self.waiting().filter(due_at__lte=now, hint_at__lte=now).order_by("hint_at")

    def expired_leases(self, now: datetime) -> Self:
        """Calls whose worker never reported back."""
        return self.filter(status=CallStatus.RUNNING, lease_expires_at__lte=now)

    def out_of_time(self, now: datetime) -> Self:
        """Waiting calls that may not be sent automatically any more."""
        return self.waiting().filter(Q(deadline_at__lte=now) | Q(key_expires_at__lte=now))

    def unknown(self) -> Self:
        return self.filter(status=CallStatus.UNKNOWN)

    def owing_hooks(self, now: datetime) -> Self:
        """Calls of which the tenant has not been told yet."""
        return self.filter(status__in=SETTLED, hook_due_at__lte=now)


# What `take` says, on either database: the ORM would take longer to build it than the database to
# execute it. READY is `CallQuerySet.ready`, UNBLOCKED is by `CircuitQuerySet.blocking`.
TAKE = """status = 'running', updated_at = %s, lease_token = %s, lease_expires_at = %s,
    attempts = attempts + 1, parked_by = '', key_expires_at = COALESCE(key_expires_at, %s)"""
READY = """status IN ('pending', 'retrying') AND due_at <= %s AND deadline_at > %s
    AND (key_expires_at IS NULL OR key_expires_at > %s)"""
UNBLOCKED = """NOT EXISTS (
        SELECT 1 FROM outbound_circuit WHERE name = outbound_outboundcall.circuit
        AND (mode = 'forced_open' OR mode = 'auto' AND NOT state = 'closed'))"""


class OutboundCall(models.Model):
    """One call to an outside service: asked for by a transaction, kept until it is explained."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    adapter = models.CharField(max_length=50)
    operation = models.CharField(max_length=80)
    account = models.CharField(max_length=100, blank=True)
    circuit = models.CharField(max_length=200, blank=True, help_text="The breaker it goes through.")
    payload = EncryptedJSONField()
    dedupe_key = models.CharField(  # noqa: DJ001 - NULL: no key, so no uniqueness
        max_length=255, null=True, editable=False, help_text="The caller's own idempotency key."
    )
    idempotency_key = models.CharField(
        max_length=255, help_text="Sent to the provider. Changes only by retry as new."
    )
    key_expires_at = models.DateTimeField(
        null=True, help_text="The provider may forget the key after this. Set by the first attempt."
    )

    status = models.CharField(max_length=20, choices=CallStatus.choices, default=CallStatus.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField()
    due_at = models.DateTimeField(help_text="When it may run next.")
    hint_at = models.DateTimeField(help_text="When it is announced again if nobody took it.")
    deadline_at = models.DateTimeField(help_text="No automatic attempt after this.")
    priority = models.PositiveSmallIntegerField(
        default=5, help_text="Lower goes first when parked calls are released."
    )
    parked_by = models.CharField(
        max_length=220, blank=True, help_text="The circuit or limit that it waits for."
    )
    lease_token = models.UUIDField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    lookups = models.PositiveIntegerField(default=0, help_text="Look-ups of an unknown outcome.")

    result = EncryptedJSONField(null=True)
    provider_reference = models.CharField(max_length=255, blank=True)
    rule = models.CharField(max_length=200, blank=True, help_text="Why it is where it is.")
    error_kind = models.CharField(max_length=40, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_param = models.CharField(max_length=100, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    error_http_status = models.PositiveSmallIntegerField(null=True)

    hook_due_at = models.DateTimeField(
        null=True, help_text="When the tenant is told again; empty once it knows."
    )
    hook_attempts = models.PositiveIntegerField(default=0)
    hook_error = models.CharField(max_length=500, blank=True)
    dead_letter_reason = models.CharField(
        max_length=200, blank=True, help_text="Why a message about this call was given up."
    )

    reference = models.CharField(max_length=255, blank=True, help_text="The tenant's own name.")
    request_id = models.CharField(max_length=128, blank=True)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    objects = CallQuerySet.as_manager()

    is_new = False  # set on what `enqueue_call` returns, when it was not there before

    class Meta:
        verbose_name = "call"
        ordering = ("-created_at",)
        permissions = (
            ("retry_outboundcall", "Can retry a call"),
            ("retry_as_new_outboundcall", "Can retry a call with a new key"),
            ("cancel_outboundcall", "Can cancel a call"),
            ("resolve_outboundcall", "Can say what became of a call"),
        )
        constraints = (
            models.CheckConstraint(
                name="call_status_known", condition=Q(status__in=CallStatus.values)
            ),
            models.CheckConstraint(
                name="call_running_has_lease",
                condition=Q(status=CallStatus.RUNNING, lease_token__isnull=False)
                | (~Q(status=CallStatus.RUNNING) & Q(lease_token__isnull=True)),
            ),
            models.UniqueConstraint(
                name="call_dedupe_key",
                fields=("adapter", "account", "dedupe_key"),
                condition=Q(dedupe_key__isnull=False),
            ),
            models.UniqueConstraint(
                name="call_idempotency_key", fields=("adapter", "account", "idempotency_key")
            ),
        )
        indexes = (
            models.Index(
                name="call_due", fields=("hint_at",), condition=Q(status__in=sorted(WAITING))
            ),
            models.Index(
                name="call_deadline",
                fields=("deadline_at",),
                condition=Q(status__in=sorted(WAITING)),
            ),
            models.Index(
                name="call_key_expiry",
                fields=("key_expires_at",),
                condition=Q(status__in=sorted(WAITING), key_expires_at__isnull=False),
            ),
            models.Index(
                name="call_lease",
                fields=("lease_expires_at",),
                condition=Q(status=CallStatus.RUNNING),
            ),
            models.Index(
                name="call_unknown", fields=("due_at",), condition=Q(status=CallStatus.UNKNOWN)
            ),
            models.Index(
                name="call_circuit",
                fields=("circuit", "priority", "created_at"),
                condition=Q(status__in=sorted(WAITING)),
            ),
            models.Index(
                name="call_parked",
                fields=("parked_by", "priority", "created_at"),
                condition=Q(status__in=sorted(WAITING)) & ~Q(parked_by=""),
            ),
            models.Index(
                name="call_hook_due",
                fields=("hook_due_at",),
                condition=Q(hook_due_at__isnull=False),
            ),
            models.Index(
                name="call_attention",
                fields=("-created_at",),
                condition=Q(status__in=(CallStatus.FAILED, CallStatus.UNKNOWN)),
            ),
            models.Index(name="call_created", fields=("-created_at",)),
            models.Index(name="call_status_created", fields=("status", "-created_at")),
            models.Index(name="call_adapter_created", fields=("adapter", "-created_at")),
            models.Index(
                name="call_creator_created",
                fields=("created_by", "-created_at"),
                condition=~Q(created_by=""),
            ),
            models.Index(name="call_reference", fields=("reference",), condition=~Q(reference="")),
            models.Index(
                name="call_provider_reference",
                fields=("provider_reference",),
                condition=~Q(provider_reference=""),
            ),
            models.Index(
                name="call_request_id", fields=("request_id",), condition=~Q(request_id="")
            ),
        )

    def __str__(self) -> str:
        return f"{self.adapter}.{self.operation} {self.id}"

    def take(
        self,
        *,
        now: datetime,
        latest: datetime,
        key_lives: timedelta | None,
        token: uuid.UUID,
        lease: timedelta,
        probe: bool,
    ) -> bool:
        """Begin an attempt, if the call is `ready` and, unless this is a probe, its circuit lets
        calls through: one statement decides, whoever else tries. Returns whether it is ours; then
        the row has what is stored.

        now: until when the lease lasts is counted from then. latest: the time, or later. key_lives:
        how long the provider remembers the idempotency key, from the first attempt on."""
        until = moment_in(now + key_lives) if key_lives else None
        given = [moment_in(now), token_in(token), moment_in(now + lease), until]
        due = moment_in(latest)
        condition = READY if probe else f"{READY} AND {UNBLOCKED}"
        return change_if(self, TAKE, condition, [*given, due, due, due])

    def leave(self, status: CallStatus, *, token: uuid.UUID, now: datetime, **changes: Any) -> bool:
        """End the attempt that holds this lease. Returns whether it was still ours; then the row
        has what is stored."""
        legal_sources(status, {CallStatus.RUNNING})
        ends = {"status": status, "updated_at": now, "lease_token": None, "lease_expires_at": None}
        held = {"status": CallStatus.RUNNING, "lease_token": token}
        return update_if(self, {**ends, **changes}, **held)

    @property
    def settled(self) -> bool:
        """Whether there is an outcome to tell, be it that the outcome is unknown."""
        return self.status in SETTLED

    def is_ready(self, now: datetime) -> bool:
        """Whether it is among those that are `ready`."""
        lives = self.key_expires_at is None or self.key_expires_at > now
        return self.status in WAITING and self.due_at <= now < self.deadline_at and lives

    def can_move_to(self, status: CallStatus) -> bool:
        return status in MOVES[CallStatus(self.status)]


class AttemptQuerySet(models.QuerySet["CallAttempt"]):
    """Words for sets of attempts."""

    def open(self) -> Self:
        """Attempts that have not reported back."""
        return self.filter(finished_at=None)

    def may_have_worked(self) -> Self:
        return self.filter(effect_possible=True)

    def finish(self, outcome: AttemptOutcome, *, now: datetime, **changes: Any) -> int:
        """Close the open attempts of this set. Returns how many were open."""
        return self.open().update(
            outcome=outcome, finished_at=now, duration=now - F("started_at"), **changes
        )


class CallAttempt(models.Model):
    """One try of a call. The row is there before the try, so that a crash leaves a trace."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    call = models.ForeignKey(OutboundCall, on_delete=models.CASCADE, related_name="tries")
    number = models.PositiveIntegerField()
    circuit = models.CharField(max_length=200, blank=True, help_text="What it is counted under.")
    trigger = models.CharField(max_length=10, choices=AttemptTrigger.choices)
    idempotency_key = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    duration = models.DurationField(null=True)
    outcome = models.CharField(
        max_length=20, choices=AttemptOutcome.choices, default=AttemptOutcome.RUNNING
    )
    effect_possible = models.BooleanField(
        default=True, help_text="Whether it may have changed something at the provider."
    )
    error_kind = models.CharField(max_length=40, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    provider_request_id = models.CharField(max_length=255, blank=True)
    request_summary = models.JSONField(default=dict)
    response_summary = models.JSONField(null=True)
    worker = models.CharField(max_length=100, blank=True)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        verbose_name = "attempt"
        ordering = ("call", "number")
        constraints = (
            models.UniqueConstraint(name="attempt_number", fields=("call", "number")),
            models.UniqueConstraint(
                name="attempt_one_at_a_time", fields=("call",), condition=Q(finished_at=None)
            ),
            models.CheckConstraint(
                name="attempt_outcome_known", condition=Q(outcome__in=AttemptOutcome.values)
            ),
        )
        indexes = (
            models.Index(name="attempt_circuit", fields=("circuit", "started_at")),
            models.Index(
                name="attempt_provider_request",
                fields=("provider_request_id",),
                condition=~Q(provider_request_id=""),
            ),
        )

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.call_id}"


class Blob(models.Model):
    """Something large that payloads speak of by its digest."""

    digest = models.CharField(primary_key=True, max_length=64, help_text="SHA-256, in hex.")
    content = EncryptedBinaryField()
    size = models.PositiveIntegerField(help_text="In bytes.")
    created_at = models.DateTimeField()
    keep_until = models.DateTimeField(help_text="Forgotten some time after this.")

    class Meta:
        indexes = (models.Index(name="blob_keep_until", fields=("keep_until",)),)

    def __str__(self) -> str:
        return self.digest[:12]


class CircuitQuerySet(models.QuerySet["Circuit"]):
    """Words for sets of circuits."""

    def blocking(self) -> Self:
        """Circuits through which no ordinary call may go."""
        return self.filter(
            Q(mode=CircuitMode.FORCED_OPEN)
            | Q(mode=CircuitMode.AUTO) & ~Q(state=CircuitState.CLOSED)
        )

    def change(self, *, version: int, **changes: Any) -> bool:
        """Compare and swap: True for the one process whose view of the row was current."""
        return self.filter(version=version).update(version=F("version") + 1, **changes) == 1


class Circuit(models.Model):
    """One breaker, shared by all processes. Changed by compare-and-swap on `version` only."""

    name = models.CharField(primary_key=True, max_length=200)
    adapter = models.CharField(max_length=50, blank=True)
    state = models.CharField(
        max_length=10, choices=CircuitState.choices, default=CircuitState.CLOSED
    )
    mode = models.CharField(max_length=15, choices=CircuitMode.choices, default=CircuitMode.AUTO)
    mode_reason = models.CharField(max_length=500, blank=True)
    mode_actor = models.CharField(max_length=150, blank=True)
    version = models.PositiveBigIntegerField(default=0)
    counting_from = models.DateTimeField(help_text="Nothing that ended earlier is counted.")
    opened_at = models.DateTimeField(null=True)
    open_until = models.DateTimeField(null=True, help_text="When the first probe may go.")
    openings = models.PositiveIntegerField(default=0, help_text="In this incident, so far.")
    incident = models.UUIDField(null=True, help_text="From the first opening to the recovery.")
    failures = models.PositiveIntegerField(
        default=0, help_text="In a row, where the circuit counts by itself."
    )
    successes = models.PositiveIntegerField(default=0, help_text="Of probes, since half-open.")
    closed_at = models.DateTimeField(null=True, help_text="When the last incident ended.")
    released = models.PositiveIntegerField(
        default=0, help_text="Parked calls let go since it closed: their place on the ramp."
    )
    updated_at = models.DateTimeField()

    objects = CircuitQuerySet.as_manager()

    class Meta:
        permissions = (("operate_circuit", "Can force a circuit open or closed"),)
        constraints = (
            models.CheckConstraint(
                name="circuit_state_known", condition=Q(state__in=CircuitState.values)
            ),
            models.CheckConstraint(
                name="circuit_mode_known", condition=Q(mode__in=CircuitMode.values)
            ),
        )

    def __str__(self) -> str:
        return self.name


class CircuitTransition(models.Model):
    """One change of a circuit's state or mode: written in the transaction that made it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    circuit = models.ForeignKey(Circuit, on_delete=models.CASCADE, related_name="transitions")
    at = models.DateTimeField()
    from_state = models.CharField(max_length=10, choices=CircuitState.choices)
    to_state = models.CharField(max_length=10, choices=CircuitState.choices)
    mode = models.CharField(max_length=15, choices=CircuitMode.choices)
    why = models.CharField(max_length=500)
    actor = models.CharField(max_length=150, blank=True, help_text="Empty: by itself.")
    incident = models.UUIDField(null=True)
    told_at = models.DateTimeField(null=True, help_text="When the signal was sent.")

    class Meta:
        verbose_name = "transition"
        ordering = ("-at",)
        indexes = (
            models.Index(name="transition_circuit", fields=("circuit", "-at")),
            models.Index(name="transition_untold", fields=("at",), condition=Q(told_at=None)),
        )

    def __str__(self) -> str:
        return f"{self.circuit_id}: {self.from_state} to {self.to_state}"


class CircuitTally(models.Model):
    """What one slice of a window has seen, for breakers around code that leaves no attempts."""

    circuit = models.ForeignKey(Circuit, on_delete=models.CASCADE, related_name="tallies")
    slice_at = models.DateTimeField()
    successes = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    slow = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = (models.UniqueConstraint(name="tally_slice", fields=("circuit", "slice_at")),)

    def __str__(self) -> str:
        return f"{self.circuit_id} at {self.slice_at:%H:%M:%S}"


class Permit(models.Model):
    """One of the places that `name` has: held by a token until it is given back or expires.
    The probes of a half-open circuit, and the calls of an adapter that may be in flight."""

    name = models.CharField(max_length=220)
    slot = models.PositiveIntegerField()
    token = models.UUIDField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(name="permit_slot", fields=("name", "slot")),)

    def __str__(self) -> str:
        return f"{self.name} {self.slot}"


class RateBucket(models.Model):
    """A token bucket, as the time at which it will be full again (GCRA)."""

    name = models.CharField(primary_key=True, max_length=220)
    full_at = models.FloatField(help_text="Unix time in seconds, on the database's clock.")

    def __str__(self) -> str:
        return self.name


class PeriodicLease(models.Model):
    """Who does a periodic piece of work just now, so that two schedulers do no harm."""

    name = models.CharField(primary_key=True, max_length=80)
    token = models.UUIDField(null=True)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class CallNote(models.Model):
    """What a person did to a call, and why. Written in the transaction that did it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    call = models.ForeignKey(OutboundCall, on_delete=models.CASCADE, related_name="notes")
    at = models.DateTimeField()
    actor = models.CharField(max_length=150, blank=True)
    action = models.CharField(max_length=40)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("at",)
        verbose_name = "note"

    def __str__(self) -> str:
        return f"{self.action} by {self.actor or 'unknown'}"
