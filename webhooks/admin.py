"""The window on inbound events: find one, see what its handlers made of it, replay it."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from outbound.admin_pages import (
    DASH,
    ReadOnlyAdmin,
    ReadOnlyInline,
    RowAction,
    as_uuid,
    badge,
    document,
    moment,
)
from outbound.redaction import visible
from webhooks import services
from webhooks.admin_replays import ReplayAdmin, ReplaysMatching
from webhooks.errors import EventRefused
from webhooks.models import EventNote, Reject, RejectWatch, WebhookEvent
from webhooks.states import FINISHED

__all__ = ["ReplayAdmin", "WebhookEventAdmin"]  # found here by the admin site

SHOWN_FIELDS = frozenset(
    {
        *("id", "object", "type", "status", "livemode", "created", "api_version"),
        *("amount", "amount_received", "amount_refunded", "currency", "customer"),
        *("payment_intent", "holdfast_call", "cancellation_reason", "reason", "code"),
    }
)


def _replay(pk: object, actor: str, reason: str) -> str:
    services.replay_event(event_id=pk, actor=actor, reason=reason)
    return "replayed"


class NoteInline(ReadOnlyInline):
    model = EventNote
    verbose_name_plural = "what was done by hand"
    fields = ("at", "actor", "action", "reason")
    readonly_fields = fields


@admin.register(WebhookEvent)
class WebhookEventAdmin(ReplaysMatching):
    list_display = (
        "received",
        "event_type",
        "status_badge",
        "attempts",
        "deliveries_seen",
        "error",
        "source",
        "event_id",
    )
    list_display_links = ("received", "event_type", "event_id")
    list_filter = ("status", "source", "event_type", "received_at")
    search_fields = ("event_id",)
    search_help_text = "The provider's event id, or ours, whole"
    inlines = (NoteInline,)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("status_badge", "rule"),
                    ("source", "account", "event_type"),
                    ("event_id", "id", "livemode"),
                    ("received_at", "occurred_at", "processed_at"),
                    ("attempts", "due_at", "deliveries_seen"),
                    "error",
                )
            },
        ),
        ("Content", {"classes": ("collapse",), "fields": ("body_shown",)}),
        (
            "Engine room",
            {
                "classes": ("collapse",),
                "fields": (
                    ("matched_secret", "headers_shown"),
                    ("failures", "misses", "crashes"),
                    ("lease_token", "lease_expires_at", "hint_at"),
                    "dead_letter_reason",
                ),
            },
        ),
    )
    row_actions = (
        RowAction(
            name="replay",
            label="Replay",
            question="Hand these events to their handlers once more?",
            apply=_replay,
            refusals=(EventRefused,),
            statuses=tuple(FINISHED),
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEvent]:
        events: QuerySet[WebhookEvent] = super().get_queryset(request)
        if request.resolver_match and (request.resolver_match.url_name or "").endswith("_change"):
            return events
        return events.defer("body")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent], search_term: str
    ) -> tuple[QuerySet[WebhookEvent], bool]:
        """Exact matches only: each is served by an index, also among millions of rows."""
        term = search_term.strip()
        if not term or "\x00" in term:
            return (queryset if not term else queryset.none()), False
        found = Q(event_id=term)
        if pk := as_uuid(term):
            found |= Q(pk=pk)
        return queryset.filter(found), False

    @admin.display(description="status", ordering="status")
    def status_badge(self, event: WebhookEvent) -> SafeString:
        return badge(event.status, event.get_status_display())

    @admin.display(description="received", ordering="received_at")
    def received(self, event: WebhookEvent) -> str:
        return moment(event.received_at)

    @admin.display(description="headers")
    def headers_shown(self, event: WebhookEvent) -> SafeString:
        return document(event.headers)

    @admin.display(description="body (redacted)")
    def body_shown(self, event: WebhookEvent) -> SafeString:
        if event.body is None:
            return document(None)
        try:
            content = json.loads(bytes(event.body))
        except (ValueError, RecursionError):
            content = None
        return document(visible(content, SHOWN_FIELDS, depth=5))


@admin.register(Reject)
class RejectAdmin(ReadOnlyAdmin):
    list_display = ("received", "source_name", "kind", "status", "network", "user_agent", "length")
    list_display_links = None
    list_filter = ("source", "kind")

    @admin.display(description="received", ordering="id")
    def received(self, reject: Reject) -> str:
        return moment(reject.received_at)

    @admin.display(description="source", ordering="source")
    def source_name(self, reject: Reject) -> str:
        return reject.source or "unknown"


@admin.register(RejectWatch)
class RejectWatchAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "state_badge", "began", "ended", "refused", "incident")
    list_display_links = None

    @admin.display(description="state")
    def state_badge(self, watch: RejectWatch) -> SafeString:
        return badge("failed", "Too many") if watch.incident else badge("finished", "Quiet")

    @admin.display(description="began")
    def began(self, watch: RejectWatch) -> str:
        return moment(watch.began_at)

    @admin.display(description="over")
    def ended(self, watch: RejectWatch) -> str:
        return DASH if watch.incident else moment(watch.ended_at)
