"""The window on replays of many events: ask for one out of the filtered list, watch it, stop it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from outbound.admin_pages import ReadOnlyAdmin, RowAction, badge, moment
from webhooks import services
from webhooks.errors import EventRefused, WrongFilter
from webhooks.models import Replay
from webhooks.replaying import MAX_PACE, PACE, filter_of
from webhooks.services import EventFilter, ReplayCount
from webhooks.states import UNDER_WAY

LIST = "admin:webhooks_webhookevent_changelist"
MATCHING = "webhooks_webhookevent_replay_matching"
# What the list of events puts into its address, and what that means here.
TEXTS = {"source": "source", "event_type": "event_type", "status__exact": "status"}
TIMES = {"received_at__gte": "since", "received_at__lt": "until"}
PRESENTATION = frozenset({"o", "p", "all"})


class ReplaysMatching(ReadOnlyAdmin):
    """The list of events with a way to replay all that it shows, page by page or not."""

    change_list_template = "webhooks/event_list.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.replay_matching)
        return [path("replay-matching/", view, name=MATCHING), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        address = ""
        if request.user.has_perm("webhooks.add_replay"):
            address = f"{reverse(f'admin:{MATCHING}')}?{request.GET.urlencode()}"
        context = {"replay_address": address, **(extra_context or {})}
        return super().changelist_view(request, context)

    def replay_matching(self, request: HttpRequest) -> HttpResponse:
        """The count first; the deed when it comes back with a reason."""
        if not request.user.has_perm("webhooks.add_replay"):
            raise PermissionDenied
        events, count, complaint = EventFilter(), None, ""
        try:
            events = read_filter(request.GET)
            count = services.count_replay(events=events)
            if request.method == "POST":
                return self._start(request, events)
        except EventRefused as refusal:
            complaint = str(refusal)
        return TemplateResponse(
            request,
            "webhooks/replay_matching.html",
            self._context(request, events, count, complaint),
        )

    def _start(self, request: HttpRequest, events: EventFilter) -> HttpResponse:
        row = services.start_replay(
            events=events,
            reason=request.POST.get("reason", ""),
            actor=request.user.get_username(),
            pace=_read_pace(request.POST.get("pace", "")),
        )
        self.message_user(request, f"{row.total} events will be replayed", messages.SUCCESS)
        if request.user.has_perm("webhooks.view_replay"):
            return HttpResponseRedirect(reverse("admin:webhooks_replay_change", args=[row.pk]))
        return HttpResponseRedirect(reverse(LIST))

    def _context(
        self, request: HttpRequest, events: EventFilter, count: ReplayCount | None, complaint: str
    ) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": "Replay all that match",
            "opts": self.opts,
            "wanted": wanted(events),
            "count": count,
            "unfitting": count.found - count.ready if count else 0,
            "complaint": complaint or ("" if count and count.found else "There is no such event."),
            "reason": request.POST.get("reason", ""),
            "pace": request.POST.get("pace", PACE),
            "max_pace": MAX_PACE,
            "list_address": f"{reverse(LIST)}?{request.GET.urlencode()}",
            "media": self.media,
        }


def read_filter(query: QueryDict) -> EventFilter:
    """The list's address as a filter. Raises WrongFilter for what it cannot say: a replay of other
    events than the list shows would be worse than none."""
    said: dict[str, Any] = {}
    for name, values in query.lists():
        value = str(values[0]).strip() if len(values) == 1 else ""
        if name in PRESENTATION or (name == "q" and not value):
            continue
        if not value:
            raise WrongFilter(f"{name[:50]!r} must be one value")
        if name in TEXTS:
            said[TEXTS[name]] = value
        elif name in TIMES:
            said[TIMES[name]] = _read_time(value)
        elif name == "q":
            said["event_ids"] = (value,)
        else:
            raise WrongFilter(f"a replay cannot be chosen by {name[:50]!r}")
    return EventFilter(**said)


def _read_time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise WrongFilter(f"{text[:40]!r} is no time")
    return found


def _read_pace(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def wanted(events: EventFilter) -> list[tuple[str, str]]:
    """The filter in words, for reading."""
    said = {
        "source": events.source,
        "type": events.event_type,
        "status": events.status,
        "received from": moment(events.since) if events.since else "",
        "received before": moment(events.until) if events.until else "",
        "ids": ", ".join(events.event_ids[:5]) + (" …" if len(events.event_ids) > 5 else ""),
    }
    return [(name, value) for name, value in said.items() if value]


def _cancel(pk: object, actor: str, reason: str) -> str:
    row = services.cancel_replay(replay_id=pk, actor=actor, reason=reason)
    return f"cancelled after {row.done} of {row.total} events"


@admin.register(Replay)
class ReplayAdmin(ReadOnlyAdmin):
    list_display = ("started", "status_badge", "progress", "events_wanted", "created_by", "reason")
    list_display_links = ("started",)
    list_filter = ("status",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("status_badge", "progress", "pace"),
                    "events_wanted",
                    ("total", "done", "skipped"),
                    "reason",
                    ("created_by", "created_at", "finished_at", "cancelled_by"),
                )
            },
        ),
        (
            "Engine room",
            {
                "classes": ("collapse",),
                "fields": (("id", "reached"), ("lease_token", "lease_expires_at"),
                           ("due_at", "hint_at")),
            },
        ),
    )  # fmt: skip
    row_actions = (
        RowAction(
            name="cancel",
            label="Cancel",
            question="Stop these replays? What was handed to the handlers stays with them.",
            apply=_cancel,
            refusals=(EventRefused,),
            statuses=tuple(UNDER_WAY),
        ),
    )

    @admin.display(description="started", ordering="created_at")
    def started(self, row: Replay) -> str:
        return moment(row.created_at)

    @admin.display(description="status", ordering="status")
    def status_badge(self, row: Replay) -> SafeString:
        return badge(row.status, row.get_status_display())

    @admin.display(description="progress")
    def progress(self, row: Replay) -> SafeString:
        seen = row.done + row.skipped
        return format_html(
            '<progress max="{}" value="{}" aria-label="progress"></progress> {} of {}',
            row.total, min(seen, row.total), seen, row.total,
        )  # fmt: skip

    @admin.display(description="events")
    def events_wanted(self, row: Replay) -> str:
        return ", ".join(f"{name} {value}" for name, value in wanted(filter_of(row)))
