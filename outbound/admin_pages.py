"""What the admin windows of all floors share: read-only pages, and actions that ask first.

A state change is a POST with confirmation and its own permission; it calls one service per row
and says what was done and what was skipped.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

SHOWN = 20  # rows named on a confirmation page
DASH = "\N{EN DASH}"  # where there is nothing


@dataclass(frozen=True, slots=True)
class RowAction:
    """Something a person can do to rows.

    name: also its permission (`<app>.<name>_<model>`). statuses: where it makes sense to offer
    it. apply: does it to one row, given (row, actor, reason), and returns what was done, in a
    word or two. Exceptions in `refusals` mean that the row was skipped, and say why.
    """

    name: str
    label: str
    question: str
    apply: Callable[[Any, str, str], str]
    refusals: tuple[type[Exception], ...]
    statuses: Collection[str]
    needs_reason: bool = False
    permission: str = ""  # where it is not the name's


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists and pages that show rows and change nothing, but for their row actions."""

    row_actions: tuple[RowAction, ...] = ()
    status_field = "status"  # what decides which row actions make sense
    actions_on_bottom = True
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each is a count over the whole table
    change_form_template = "outbound/change_form.html"
    list_per_page = 50

    class Media:
        css: ClassVar = {"all": ("outbound/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {
            action.name: (_entry_point(action), action.name, f"{action.label} …")
            for action in self.row_actions
            if self.may(request, action)
        }

    def may(self, request: HttpRequest, action: RowAction) -> bool:
        codename = get_permission_codename(action.permission or action.name, self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    def ask_or_apply(
        self, request: HttpRequest, action: RowAction, rows: QuerySet[Any]
    ) -> HttpResponse | None:
        """The confirmation page first; the deed when it comes back confirmed."""
        if not self.may(request, action):
            raise PermissionDenied
        reason = request.POST.get("reason", "").strip()
        complaint = ""
        if request.POST.get("confirmed"):
            if reason or not action.needs_reason:
                return self._apply(request, action, rows, reason)
            complaint = "Please say why."
        return TemplateResponse(
            request, "outbound/confirm.html", self._confirmation(request, action, rows, complaint)
        )

    def _confirmation(
        self, request: HttpRequest, action: RowAction, rows: QuerySet[Any], complaint: str
    ) -> dict[str, Any]:
        count = rows.count()
        fitting = rows.filter(**{f"{self.status_field}__in": action.statuses}).count()
        return {
            **self.admin_site.each_context(request),
            "title": action.label,
            "opts": self.opts,
            "row_action": action,
            "rows": rows[:SHOWN],
            "more": max(count - SHOWN, 0),
            "count": count,
            "fitting": fitting,
            "unfitting": count - fitting,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "complaint": complaint,
            "reason": request.POST.get("reason", ""),
            "media": self.media,
        }

    def _apply(
        self, request: HttpRequest, action: RowAction, rows: QuerySet[Any], reason: str
    ) -> HttpResponse | None:
        done: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        pks = list(rows.values_list("pk", flat=True))
        for pk in pks:
            try:
                done[action.apply(pk, request.user.get_username(), reason)] += 1
            except action.refusals as refusal:
                skipped[str(refusal)] += 1
        parts = [f"{count} {what}" for what, count in done.items()]
        parts += [f"{count} skipped: {why}" for why, count in skipped.items()]
        level = messages.SUCCESS if not skipped else messages.WARNING if done else messages.ERROR
        self.message_user(request, "; ".join(parts) or "nothing was selected", level)
        if len(pks) == 1:
            return HttpResponseRedirect(self._page_url(pks[0]))
        return None

    def _page_url(self, pk: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[pk])

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        context["row_actions"] = [
            action
            for action in self.row_actions
            if obj is not None
            and getattr(obj, self.status_field) in action.statuses
            and self.may(request, action)
        ]
        context["checkbox_name"] = ACTION_CHECKBOX_NAME
        return super().render_change_form(request, context, add, change, form_url, obj)


def _entry_point(action: RowAction) -> Callable[..., HttpResponse | None]:
    def entry(
        model_admin: ReadOnlyAdmin, request: HttpRequest, rows: QuerySet[Any]
    ) -> HttpResponse | None:
        return model_admin.ask_or_apply(request, action, rows)

    return entry


class ReadOnlyInline(admin.TabularInline):  # type: ignore[type-arg]
    """Rows that belong to a row, for reading."""

    extra = 0
    can_delete = False
    show_change_link = False
    template = "outbound/inline.html"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # who may see the row may see what belongs to it


def badge(value: str, label: str) -> SafeString:
    """A status as a coloured word."""
    return format_html('<span class="hf-badge hf-{}">{}</span>', value, label)


def moment(at: datetime | None) -> str:
    """A point in time, to the second, in UTC."""
    return DASH if at is None else date_format(at, "j M Y H:i:s")


def link_to(row: Model | None, text: str = "") -> SafeString | str:
    """A link to a row's admin page; a dash where there is no row."""
    if row is None:
        return DASH
    opts = row._meta  # noqa: SLF001 - Django documents it as public
    url = reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', url, text or str(row))


def as_uuid(text: str) -> str | None:
    """The canonical form of an id somebody typed or pasted; None when it is none."""
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        return None


def document(content: Any) -> SafeString:
    """A small JSON document, for reading."""
    if content is None:
        return format_html("{}", DASH)
    return format_html(
        '<pre class="hf-document">{}</pre>', json.dumps(content, indent=1, ensure_ascii=False)
    )
