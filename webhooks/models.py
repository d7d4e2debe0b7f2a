"""The rows: an event, and what people did to it; a replay of many; how far a list was read; what
was refused."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q

from outbound.fields import EncryptedBinaryField
from outbound.ids import uuid7
from webhooks.errors import IllegalMove
from webhooks.states import (
    FINISHED,
    MOVES,
    REPLAY_MOVES,
    UNDER_WAY,
    WAITING,
    EventStatus,
    ReplayStatus,
    sources_of,
)


class EventQuerySet(models.QuerySet["WebhookEvent"]):
    """Words for sets of events, and the only way to change a status."""

    def move_to(
        self,
        status: EventStatus,
        *,
        now: datetime,
        sources: Collection[EventStatus] | None = None,
        **changes: Any,
    ) -> int:
        """Move the events of this set that are in one of `sources` (default: every status from
        which `status` may be reached). Returns how many moved: 0 means that someone else won.
        Raises IllegalMove when no rule allows a move from one of `sources`."""
        legal = sources_of(status)
        sources = legal if sources is None else frozenset(sources)
        if not sources or not sources <= legal:
            wrong = ", ".join(sorted(sources - legal)) or "nowhere"
            raise IllegalMove(f"an event cannot go from {wrong} to {status}")
        return self.filter(status__in=sources).update(status=status, updated_at=now, **changes)

    def arm(self, *, now: datetime, hint_at: datetime, **changes: Any) -> int:
        """Let finished events be handled anew, with all their tries. Returns how many moved."""
        return self.move_to(
            EventStatus.RECEIVED,
            now=now,
            due_at=now,
            hint_at=hint_at,
            failures=0,
            misses=0,
            crashes=0,
            processed_at=None,
            **changes,
        )

    def with_id(self, value: object) -> Self:
        """The event of that id of ours; none when there is none, or when it is no id at all."""
        try:
            return self.filter(pk=uuid.UUID(str(value)))
        except ValueError:
            return self.none()

    def waiting(self) -> Self:
        """Events that wait for their handlers."""
        return self.filter(status__in=WAITING)

    def ready(self, now: datetime) -> Self:
        """Events that may be handled now."""
        return self.waiting().filter(due_at__lte=now)

    def unannounced(self, now: datetime) -> Self:
        """Events that are due and that no message speaks of any more, oldest first."""
        return self.ready(now).filter(hint_at__lte=now).order_by("hint_at", "pk")

    def beside(self, event: WebhookEvent) -> Self:
        """Events that are not handled while this one is; none without an ordering key."""
        if not event.ordering_key:
            return self.none()
        return self.filter(
            source=event.source, account=event.account, ordering_key=event.ordering_key
        ).exclude(pk=event.pk)

    def leased(self, token: object) -> Self:
        """The event that is being handled under this lease, if it still is."""
        return self.filter(status=EventStatus.PROCESSING, lease_token=token)

    def expired_leases(self, now: datetime) -> Self:
        """Events whose worker never reported back."""
        return self.filter(status=EventStatus.PROCESSING, lease_expires_at__lte=now)

    def finished(self) -> Self:
        """Events to which nothing happens any more by itself."""
        return self.filter(status__in=FINISHED)

    def failed(self) -> Self:
        return self.filter(status=EventStatus.FAILED)


class WebhookEvent(models.Model):
    """One word from outside: verified, stored before it was acknowledged, handled once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    source = models.CharField(max_length=50)
    account = models.CharField(max_length=255, blank=True)
    event_id = models.CharField(max_length=255, help_text="The provider's id.")
    event_type = models.CharField(max_length=255)
    livemode = models.BooleanField(null=True)
    occurred_at = models.DateTimeField(null=True, help_text="By the provider's clock.")
    received_at = models.DateTimeField()
    body = EncryptedBinaryField(null=True, help_text="The bytes as they came; empty when pruned.")
    headers = models.JSONField(default=dict, help_text="The few headers that are kept.")
    ordering_key = models.CharField(
        max_length=255,
        blank=True,
        help_text="Of the events with the same one, one is handled at a time.",
    )
    nonce = models.CharField(  # noqa: DJ001 - NULL: the scheme has none, so no uniqueness
        max_length=255, null=True, editable=False, help_text="What a proof may use once."
    )
    matched_secret = models.CharField(
        max_length=50, blank=True, help_text="Place and fingerprint of the secret that matched."
    )

    status = models.CharField(
        max_length=20, choices=EventStatus.choices, default=EventStatus.RECEIVED
    )
    attempts = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0, help_text="Failed tries since it was armed.")
    misses = models.PositiveIntegerField(
        default=0, help_text="Tries since it was armed that came too early."
    )
    crashes = models.PositiveIntegerField(
        default=0, help_text="Tries since it was armed that never reported back."
    )
    due_at = models.DateTimeField(help_text="When it may be handled next.")
    hint_at = models.DateTimeField(help_text="When it is announced again if nobody took it.")
    lease_token = models.UUIDField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    rule = models.CharField(max_length=200, blank=True, help_text="Why it is where it is.")
    error = models.CharField(max_length=500, blank=True)
    dead_letter_reason = models.CharField(
        max_length=200, blank=True, help_text="Why a message about this event was given up."
    )
    deliveries_seen = models.PositiveIntegerField(default=1, help_text="Best effort.")
    processed_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = "event"
        ordering = ("-received_at",)
        permissions = (("replay_webhookevent", "Can replay an event"),)
        constraints = (
            models.CheckConstraint(
                name="event_status_known", condition=Q(status__in=EventStatus.values)
            ),
            models.CheckConstraint(
                name="event_processing_has_lease",
                condition=Q(status=EventStatus.PROCESSING, lease_token__isnull=False)
                | (~Q(status=EventStatus.PROCESSING) & Q(lease_token__isnull=True)),
            ),
            models.UniqueConstraint(
                name="event_nonce_once",
                fields=("nonce", "source"),
                condition=Q(nonce__isnull=False),
            ),
            # It is what makes them wait for each other: the second claim violates it.
            models.UniqueConstraint(
                name="event_one_at_a_time",
                fields=("ordering_key", "source", "account"),
                condition=Q(status=EventStatus.PROCESSING) & ~Q(ordering_key=""),
            ),
            # The event id comes first: the same index then serves the search by it.
            models.UniqueConstraint(name="event_once", fields=("event_id", "source", "account")),
        )
        indexes = (
            models.Index(
                name="event_due", fields=("hint_at",), condition=Q(status__in=sorted(WAITING))
            ),
            models.Index(
                name="event_order",
                fields=("ordering_key", "received_at"),
                condition=Q(status__in=sorted(WAITING)) & ~Q(ordering_key=""),
            ),
            models.Index(
                name="event_lease",
                fields=("lease_expires_at",),
                condition=Q(status=EventStatus.PROCESSING),
            ),
            models.Index(
                name="event_attention",
                fields=("-received_at",),
                condition=Q(status=EventStatus.FAILED),
            ),
            models.Index(
                name="event_body",
                fields=("received_at",),
                condition=Q(status__in=sorted(FINISHED), body__isnull=False),
            ),
            models.Index(name="event_source_received", fields=("source", "-received_at")),
            models.Index(name="event_received", fields=("-received_at",)),
            models.Index(name="event_status_received", fields=("status", "-received_at")),
        )

    def __str__(self) -> str:
        return f"{self.source} {self.event_type} {self.event_id}"

    @property
    def finished(self) -> bool:
        """Whether nothing happens to it any more by itself."""
        return self.status in FINISHED

    def can_move_to(self, status: EventStatus) -> bool:
        return status in MOVES[EventStatus(self.status)]


class EventNote(models.Model):
    """What was done to an event outside the ordinary, by whom, and why."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="notes")
    at = models.DateTimeField()
    actor = models.CharField(max_length=150, blank=True)
    action = models.CharField(max_length=40)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("at",)
        verbose_name = "note"

    def __str__(self) -> str:
        return f"{self.action} by {self.actor or 'the application'}"


class CatchUp(models.Model):
    """How far a provider's list of events has been read. It begins with the newest: so `since` and
    `after` stand for the part that is still to come while one pass is not at its end."""

    source = models.CharField(primary_key=True, max_length=50)
    seen_until = models.DateTimeField(help_text="Everything that happened before then is here.")
    began_at = models.DateTimeField(null=True, help_text="When the pass began; empty at its end.")
    since = models.DateTimeField(null=True)
    after = models.CharField(max_length=255, blank=True)
    listed = models.PositiveIntegerField(default=0, help_text="Of this pass, or of the last one.")
    missing = models.PositiveIntegerField(default=0, help_text="Of these, never delivered.")
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = "catch-up"

    def __str__(self) -> str:
        return self.source


class ReplayQuerySet(models.QuerySet["Replay"]):
    """Words for sets of replays, and the only way to change a status."""

    def move_to(self, status: ReplayStatus, *, now: datetime, **changes: Any) -> int:
        """Move those that may get there. Returns how many moved: 0 means that someone else won."""
        sources = [source for source, targets in REPLAY_MOVES.items() if status in targets]
        return self.filter(status__in=sources).update(status=status, updated_at=now, **changes)

    def with_id(self, value: object) -> Self:
        """The replay of that id; none when there is none, or when it is no id at all."""
        try:
            return self.filter(pk=uuid.UUID(str(value)))
        except ValueError:
            return self.none()

    def under_way(self) -> Self:
        return self.filter(status__in=UNDER_WAY)

    def ready(self, now: datetime) -> Self:
        """Those whose pace allows another step, and that nobody is at, or whose worker is lost."""
        free = Q(lease_expires_at=None) | Q(lease_expires_at__lte=now)
        return self.under_way().filter(free, due_at__lte=now)

    def unannounced(self, now: datetime) -> Self:
        """Those that could go on and that no message speaks of any more."""
        return self.ready(now).filter(hint_at__lte=now).order_by("hint_at", "pk")

    def leased(self, token: object) -> Self:
        """The replay that goes on under this lease, if it still does."""
        return self.filter(status=ReplayStatus.RUNNING, lease_token=token)


class Replay(models.Model):
    """Many events handed to their handlers once more: all that a filter finds, in the order of
    their rows, and none twice, however often it is broken off."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    source = models.CharField(max_length=50, blank=True)
    event_type = models.CharField(max_length=255, blank=True)
    event_status = models.CharField(max_length=20, choices=EventStatus.choices, blank=True)
    since = models.DateTimeField(null=True, help_text="Received then or later.")
    until = models.DateTimeField(
        help_text="Received before then; what comes after the replay began is not part of it."
    )
    event_ids = models.JSONField(default=list, help_text="The only events; empty: all others too.")

    total = models.PositiveIntegerField(help_text="Events found when it was asked for.")
    done = models.PositiveIntegerField(default=0, help_text="Events handed to their handlers.")
    skipped = models.PositiveIntegerField(
        default=0, help_text="Without a body, or not finished, or changed since they were counted."
    )
    reached = models.UUIDField(null=True, help_text="The last row that was looked at.")
    pace = models.PositiveIntegerField(help_text="Events a second, at the most.")
    status = models.CharField(
        max_length=20, choices=ReplayStatus.choices, default=ReplayStatus.PENDING
    )
    due_at = models.DateTimeField(help_text="When the pace allows the next step.")
    hint_at = models.DateTimeField(help_text="When it is announced again if nobody took it.")
    lease_token = models.UUIDField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=500)
    cancelled_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    objects = ReplayQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        permissions = (("cancel_replay", "Can cancel a replay"),)
        constraints = (
            models.CheckConstraint(
                name="replay_status_known", condition=Q(status__in=ReplayStatus.values)
            ),
        )
        indexes = (
            models.Index(
                name="replay_due", fields=("hint_at",), condition=Q(status__in=sorted(UNDER_WAY))
            ),
        )

    def __str__(self) -> str:
        return f"replay of {self.total} events"


class Reject(models.Model):
    """A sample of what was refused: who, about, and why; nothing of what was sent."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    source = models.CharField(max_length=50, blank=True, help_text="Empty: none of ours.")
    kind = models.CharField(max_length=40)
    status = models.PositiveSmallIntegerField(help_text="What was answered.")
    network = models.CharField(
        max_length=50, blank=True, help_text="The /24 or /48 of the sender's address."
    )
    user_agent = models.CharField(max_length=120, blank=True)
    length = models.PositiveIntegerField(null=True, help_text="Bytes, as declared.")
    received_at = models.DateTimeField()

    class Meta:
        verbose_name = "refused delivery"
        verbose_name_plural = "refused deliveries"
        ordering = ("-id",)
        indexes = (
            models.Index(name="reject_source", fields=("source", "-id")),
            models.Index(name="reject_received", fields=("received_at",)),
        )

    def __str__(self) -> str:
        return f"{self.source or 'unknown source'}: {self.kind}"


class RejectWatch(models.Model):
    """How many deliveries of a source are refused, over all processes, and whether that is an
    incident just now."""

    source = models.CharField(max_length=50, blank=True, unique=True)
    refused = models.PositiveIntegerField(default=0, help_text="In the window.")
    window_ends_at = models.DateTimeField()
    burst_at = models.DateTimeField(null=True, help_text="When there were last too many.")
    incident = models.UUIDField(null=True)
    began_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True, help_text="When the alert was raised.")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "burst of refusals"
        verbose_name_plural = "bursts of refusals"
        ordering = ("source",)

    def __str__(self) -> str:
        return self.source or "unknown source"
