"""The window on messages: why did this customer get no receipt? Find the address, read the
timeline, see what was sent."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications import services
from notifications.addresses import address_key_of
from notifications.errors import IllegalMove, UnknownMessage
from notifications.models import UNFINISHED, Dispatch, Message, Recipient, Suppression
from notifications.previews import preview_page
from notifications.states import (
    Channel,
    RecipientStatus,
    SuppressionReason,
)
from notifications.timelines import timeline_of
from outbound.admin_pages import (
    DASH,
    ReadOnlyAdmin,
    RowAction,
    as_uuid,
    badge,
    link_to,
    moment,
)

SHOWN = 25  # recipients on the page of their message
PREVIEW = "notifications_message_preview"


def _cancel(pk: object, actor: str, reason: str) -> str:
    message = services.find_message(pk)
    if message is None:
        raise UnknownMessage(f"there is no message {pk}")
    services.cancel_message(message=message, actor=actor, reason=reason)
    return "cancelled"


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = ("created", "status_badge", "kind", "subject", "to", "provider", "reference")
    list_display_links = ("created", "subject")
    list_filter = ("status", "kind", "created_at")
    search_fields = ("reference",)
    search_help_text = "An address, or any id, whole: ours, a call's, the provider's, the reference"
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("status_badge", "kind", "provider"),
                    ("subject", "sender"),
                    ("reference", "id"),
                    ("created_at", "created_by", "request_id"),
                    ("scheduled_at", "expires_at", "priority"),
                    "route_shown",
                )
            },
        ),
        ("Recipients", {"fields": ("recipients_shown",)}),
        ("What happened", {"fields": ("timeline_shown",)}),
        ("What was sent", {"fields": ("preview_shown", "attachments_shown")}),
    )
    row_actions = (
        RowAction(
            name="cancel",
            label="Cancel",
            question="Stop what of these messages has not been sent yet?",
            apply=_cancel,
            refusals=(IllegalMove, UnknownMessage),
            statuses=UNFINISHED,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).prefetch_related("dispatches")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Message], search_term: str
    ) -> tuple[QuerySet[Message], bool]:
        """Exact matches only: each is served by an index, also among millions of rows."""
        term = search_term.strip()
        if not term or "\x00" in term:
            return (queryset if not term else queryset.none()), False
        people = Recipient.objects.filter(
            Q(address_key=address_key_of(term)) | Q(provider_message_id=term)
        )
        found = Q(reference=term) | Q(pk__in=people.values("message"))
        if pk := as_uuid(term):
            calls = Dispatch.objects.filter(call__id=pk)
            found |= Q(pk=pk) | Q(pk__in=calls.values("message"))
        return queryset.filter(found), False

    @admin.display(description="status", ordering="status")
    def status_badge(self, message: Message) -> SafeString:
        return badge(message.status, message.get_status_display())

    @admin.display(description="created", ordering="created_at")
    def created(self, message: Message) -> str:
        return moment(message.created_at)

    @admin.display(description="subject")
    def subject(self, message: Message) -> str:
        content = message.content
        said = content.get("subject") or content.get("title") or content.get("body") or DASH
        return said if len(said) <= 80 else f"{said[:79]}…"

    @admin.display(description="from")
    def sender(self, message: Message) -> str:
        sender = message.content.get("sender") or DASH
        if isinstance(sender, str):
            return sender
        return f"{sender['name']} <{sender['address']}>" if sender["name"] else sender["address"]

    @admin.display(description="to")
    def to(self, message: Message) -> str:
        first = list(message.recipients.order_by("place").values_list("address", flat=True)[:3])
        if len(first) < 3:
            return ", ".join(address[:60] for address in first)
        more = message.recipients.count() - 1
        return f"{first[0][:60]} and {more} more"

    @admin.display(description="provider")
    def provider(self, message: Message) -> str:
        asked = [row.provider for row in message.dispatches.all()]
        return " → ".join(dict.fromkeys(asked)) or DASH

    @admin.display(description="route")
    def route_shown(self, message: Message) -> str:
        return ", then ".join(message.route)

    @admin.display(description="who")
    def recipients_shown(self, message: Message) -> SafeString:
        rows = message.recipients.select_related("dispatch__call").order_by("place")
        counts = message.recipients.order_by().values_list("status").annotate(n=Count("pk"))
        listed = reverse("admin:notifications_recipient_changelist")
        found = [(RecipientStatus(status).label, status, n) for status, n in counts]
        return SafeString(
            render_to_string(
                "notifications/recipients.html",
                {
                    "rows": rows[:SHOWN],
                    "counts": sorted(found),
                    "more": max(sum(n for *_, n in found) - SHOWN, 0),
                    "address": f"{listed}?message__id__exact={message.pk}",
                },
            )
        )

    @admin.display(description="in order")
    def timeline_shown(self, message: Message) -> SafeString:
        return _timeline(timeline_of(message))

    @admin.display(description="preview")
    def preview_shown(self, message: Message) -> SafeString:
        first = message.recipients.order_by("place").first()
        return _preview(message, first)

    @admin.display(description="attachments")
    def attachments_shown(self, message: Message) -> str:
        files = message.content.get("attachments", [])
        return ", ".join(f"{each['name']} ({each['size']} bytes)" for each in files) or DASH

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.preview)
        own = path("<uuid:message_id>/preview/<uuid:recipient_id>/", view, name=PREVIEW)
        return [own, *super().get_urls()]

    def preview(self, request: HttpRequest, message_id: Any, recipient_id: Any) -> HttpResponse:
        """The content of the frame on a message's page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        message = Message.objects.filter(pk=message_id).first()
        recipient = Recipient.objects.filter(pk=recipient_id, message=message_id).first()
        if message is None or recipient is None:
            raise Http404
        return preview_page(message, recipient)

    def changeform_view(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        return allow_frame(super().changeform_view(request, *args, **options))


def allow_frame(response: HttpResponse) -> HttpResponse:
    """A page that shows a preview may have a frame, of ours and no other."""
    response["Content-Security-Policy"] = f"{settings.CONTENT_SECURITY_POLICY}; frame-src 'self'"
    return response


def _timeline(entries: list[Any]) -> SafeString:
    return SafeString(render_to_string("notifications/timeline.html", {"entries": entries}))


def _preview(message: Message, recipient: Recipient | None) -> SafeString:
    if recipient is None:
        return format_html("{}", DASH)
    address = reverse(f"admin:{PREVIEW}", args=[message.pk, recipient.pk])
    return format_html(
        '<iframe class="hf-preview" sandbox title="The message as {} sees it" src="{}"></iframe>',
        recipient.address[:80],
        address,
    )


@admin.register(Recipient)
class RecipientAdmin(ReadOnlyAdmin):
    list_display = ("created", "status_badge", "address_shown", "message_link", "provider", "why")
    list_display_links = ("created", "address_shown")
    list_filter = ("status", "created_at")
    list_select_related = ("message", "dispatch")
    search_fields = ("address",)
    search_help_text = "An address, whole, or the provider's id of the message"
    ordering = ("-created_at", "place")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("status_badge", "address", "kind"),
                    ("message_link", "call_link", "provider"),
                    ("provider_message_id", "id"),
                    "why",
                    "suppression_link",
                )
            },
        ),
        ("What happened", {"fields": ("timeline_shown",)}),
        ("What was sent", {"fields": ("preview_shown",)}),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Recipient], search_term: str
    ) -> tuple[QuerySet[Recipient], bool]:
        term = search_term.strip()
        if not term or "\x00" in term:
            return (queryset if not term else queryset.none()), False
        return queryset.filter(
            Q(address_key=address_key_of(term)) | Q(provider_message_id=term)
        ), False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "message__id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def changeform_view(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        return allow_frame(super().changeform_view(request, *args, **options))

    @admin.display(description="created", ordering="created_at")
    def created(self, recipient: Recipient) -> str:
        return moment(recipient.created_at)

    @admin.display(description="status", ordering="status")
    def status_badge(self, recipient: Recipient) -> SafeString:
        return badge(recipient.status, recipient.get_status_display())

    @admin.display(description="address")
    def address_shown(self, recipient: Recipient) -> str:
        return recipient.address[:80]

    @admin.display(description="message")
    def message_link(self, recipient: Recipient) -> SafeString | str:
        return link_to(recipient.message, str(recipient.message))

    @admin.display(description="call")
    def call_link(self, recipient: Recipient) -> SafeString | str:
        call = recipient.dispatch.call if recipient.dispatch else None
        return link_to(call, call.get_status_display() if call else "")

    @admin.display(description="provider")
    def provider(self, recipient: Recipient) -> str:
        return recipient.dispatch.provider if recipient.dispatch else DASH

    @admin.display(description="why")
    def why(self, recipient: Recipient) -> str:
        return " ".join(filter(None, (recipient.code, recipient.reason))) or DASH

    @admin.display(description="suppressed")
    def suppression_link(self, recipient: Recipient) -> SafeString | str:
        rows = Suppression.objects.filter(address_key=recipient.address_key)
        row = rows.first()
        return link_to(row, row.get_reason_display() if row else "")

    @admin.display(description="in order")
    def timeline_shown(self, recipient: Recipient) -> SafeString:
        return _timeline(timeline_of(recipient.message, recipient=recipient))

    @admin.display(description="preview")
    def preview_shown(self, recipient: Recipient) -> SafeString:
        return _preview(recipient.message, recipient)


def _lift(pk: object, actor: str, reason: str) -> str:
    row = Suppression.objects.filter(pk=str(pk)).first()
    if row is None or not services.lift_suppression(
        channel=Channel(row.channel), address=row.address
    ):
        raise IllegalMove("it is not suppressed any more")
    return "lifted"


class SuppressionForm(forms.ModelForm):  # type: ignore[type-arg]
    """An address that shall get nothing any more."""

    class Meta:
        model = Suppression
        fields = ("channel", "address", "note")

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        if given.get("channel") and given.get("address"):
            try:
                given["address"] = services.ADDRESSES[given["channel"]](given["address"].strip())
            except ValueError as error:
                self.add_error("address", str(error))
        return given


@admin.register(Suppression)
class SuppressionAdmin(ReadOnlyAdmin):
    form = SuppressionForm
    status_field = "reason"
    list_display = ("created", "address_shown", "channel", "reason", "provider", "created_by")
    list_display_links = ("created", "address_shown")
    list_filter = ("channel", "reason", "created_at")
    search_fields = ("address",)
    search_help_text = "An address, whole"
    fields = (
        ("address", "channel"),
        ("reason", "note"),
        ("provider", "recipient_link"),
        ("created_at", "created_by"),
    )
    row_actions = (
        RowAction(
            name="lift",
            label="Lift",
            question="Let these addresses get messages again?",
            apply=_lift,
            refusals=(IllegalMove,),
            statuses=tuple(SuppressionReason.values),
            needs_reason=True,
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications.add_suppression")

    def get_fields(self, request: HttpRequest, obj: Suppression | None = None) -> Any:
        return self.fields if obj else SuppressionForm.Meta.fields

    def save_model(self, request: HttpRequest, obj: Suppression, form: Any, change: bool) -> None:
        services.suppress(
            channel=Channel(obj.channel),
            address=obj.address,
            note=obj.note,
            actor=request.user.get_username(),
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Suppression], search_term: str
    ) -> tuple[QuerySet[Suppression], bool]:
        term = search_term.strip()
        if not term or "\x00" in term:
            return (queryset if not term else queryset.none()), False
        return queryset.filter(address_key=address_key_of(term)), False

    @admin.display(description="created", ordering="created_at")
    def created(self, row: Suppression) -> str:
        return moment(row.created_at)

    @admin.display(description="address")
    def address_shown(self, row: Suppression) -> str:
        return row.address[:80]

    @admin.display(description="learned by")
    def recipient_link(self, row: Suppression) -> SafeString | str:
        return link_to(row.recipient, "this message")
