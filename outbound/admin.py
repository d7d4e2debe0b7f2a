"""The window on outbound calls: find one, understand it, retry it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from outbound import registry, services
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
from outbound.errors import CallRefused
from outbound.models import CallAttempt, CallNote, Circuit, CircuitTransition, OutboundCall
from outbound.redaction import HIDDEN, visible
from outbound.states import WAITING, CallStatus, CircuitMode, CircuitState

MANY = 1000  # calls are counted no further
CIRCUIT_COLOURS = {"closed": "succeeded", "open": "failed", "half-open": "running"}


def _retry(pk: object, actor: str, reason: str) -> str:
    services.retry_call(call_id=pk, actor=actor, reason=reason)
    return "retried"


def _retry_as_new(pk: object, actor: str, reason: str) -> str:
    services.retry_call_as_new(call_id=pk, actor=actor, reason=reason)
    return "retried as new"


def _cancel(pk: object, actor: str, reason: str) -> str:
    call = services.cancel_call(call_id=pk, actor=actor, reason=reason)
    if call.status == CallStatus.UNKNOWN:
        return "stopped, outcome unknown as an earlier attempt may have worked"
    return "cancelled"


def _it_happened(pk: object, actor: str, reason: str) -> str:
    services.resolve_call(call_id=pk, succeeded=True, actor=actor, reason=reason)
    return "marked as succeeded"


def _it_did_not_happen(pk: object, actor: str, reason: str) -> str:
    services.resolve_call(call_id=pk, succeeded=False, actor=actor, reason=reason)
    return "marked as failed"


class AttemptInline(ReadOnlyInline):
    model = CallAttempt
    verbose_name_plural = "attempts"
    fields = (
        "number",
        "trigger",
        "started",
        "seconds",
        "outcome_badge",
        "http_status",
        "provider_request_id",
        "error",
        "answered",
        "worker",
    )
    readonly_fields = ("started", "seconds", "outcome_badge", "error", "answered")

    @admin.display(description="started")
    def started(self, attempt: CallAttempt) -> str:
        return moment(attempt.started_at)

    @admin.display(description="seconds")
    def seconds(self, attempt: CallAttempt) -> str:
        return DASH if attempt.duration is None else f"{attempt.duration.total_seconds():.3f}"

    @admin.display(description="outcome")
    def outcome_badge(self, attempt: CallAttempt) -> SafeString:
        return badge(attempt.outcome, attempt.get_outcome_display())

    @admin.display(description="error")
    def error(self, attempt: CallAttempt) -> str:
        words = (attempt.error_kind, attempt.error_code, attempt.error_message)
        return " · ".join(word for word in words if word) or DASH

    @admin.display(description="answer (redacted)")
    def answered(self, attempt: CallAttempt) -> SafeString:
        return document(attempt.response_summary)


class NoteInline(ReadOnlyInline):
    model = CallNote
    verbose_name_plural = "what people did"
    fields = ("at", "actor", "action", "reason")
    readonly_fields = fields


@admin.register(OutboundCall)
class OutboundCallAdmin(ReadOnlyAdmin):
    list_display = (
        "created",
        "operation_name",
        "status_badge",
        "tries",
        "next_try",
        "error_kind",
        "reference",
        "provider_reference",
    )
    list_display_links = ("created", "operation_name")
    list_filter = ("status", "adapter", "operation", "error_kind")
    search_fields = ("id",)
    search_help_text = (
        "Any id, whole: of the call, the reference, the provider's object or request, the "
        "request id, an idempotency key"
    )
    inlines = (AttemptInline, NoteInline)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("status_badge", "rule"),
                    ("adapter", "operation", "account"),
                    ("circuit", "parked_by", "priority"),
                    ("tries", "next_try", "deadline_at"),
                    ("reference", "provider_reference"),
                    "trouble",
                )
            },
        ),
        ("Content", {"classes": ("collapse",), "fields": ("payload_shown", "result_shown")}),
        (
            "Identity",
            {
                "classes": ("collapse",),
                "fields": (
                    ("id", "request_id", "created_by"),
                    ("idempotency_key", "key_expires_at"),
                    ("created_at", "updated_at", "finished_at"),
                ),
            },
        ),
        (
            "Engine room",
            {
                "classes": ("collapse",),
                "fields": (
                    ("lease_token", "lease_expires_at", "hint_at"),
                    ("lookups", "dead_letter_reason"),
                    ("hook_due_at", "hook_attempts", "hook_error"),
                ),
            },
        ),
    )
    row_actions = (
        RowAction(
            name="retry",
            label="Retry",
            question="Send again with the same idempotency key? What already worked at the "
            "provider will not happen a second time.",
            apply=_retry,
            refusals=(CallRefused,),
            statuses=(CallStatus.FAILED, CallStatus.UNKNOWN),
        ),
        RowAction(
            name="retry_as_new",
            label="Retry as new",
            question="Send again with a new idempotency key? To the provider this is another "
            "call: do it only when the cause of the failure is gone.",
            apply=_retry_as_new,
            refusals=(CallRefused,),
            statuses=(CallStatus.FAILED,),
            needs_reason=True,
        ),
        RowAction(
            name="cancel",
            label="Cancel",
            question="Stop these calls? Nothing more is sent. A call of which an earlier attempt "
            "may have worked becomes unknown, not cancelled.",
            apply=_cancel,
            refusals=(CallRefused,),
            statuses=(CallStatus.PENDING, CallStatus.RETRYING),
        ),
        RowAction(
            name="resolve",
            label="It happened",
            question="Mark as succeeded? Look it up at the provider first.",
            apply=_it_happened,
            refusals=(CallRefused,),
            statuses=(CallStatus.UNKNOWN,),
            needs_reason=True,
        ),
        RowAction(
            name="resolve_failed",
            permission="resolve",
            label="It did not happen",
            question="Mark as failed? Look it up at the provider first: after this it can be "
            "sent again with a new key.",
            apply=_it_did_not_happen,
            refusals=(CallRefused,),
            statuses=(CallStatus.UNKNOWN,),
            needs_reason=True,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboundCall]:
        calls: QuerySet[OutboundCall] = super().get_queryset(request)
        if request.resolver_match and (request.resolver_match.url_name or "").endswith(
            "_changelist"
        ):
            return calls.defer("payload", "result")
        return calls

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OutboundCall], search_term: str
    ) -> tuple[QuerySet[OutboundCall], bool]:
        """Exact matches only: each is served by an index, also among millions of rows."""
        term = search_term.strip()
        if not term or "\x00" in term:
            return (queryset if not term else queryset.none()), False
        found = (
            Q(reference=term)
            | Q(provider_reference=term)
            | Q(request_id=term)
            | Q(idempotency_key=term)
            | Q(pk__in=CallAttempt.objects.filter(provider_request_id=term).values("call"))
        )
        if pk := as_uuid(term):
            found |= Q(pk=pk)
        return queryset.filter(found), False

    @admin.display(description="status", ordering="status")
    def status_badge(self, call: OutboundCall) -> SafeString:
        return badge(call.status, call.get_status_display())

    @admin.display(description="operation", ordering="operation")
    def operation_name(self, call: OutboundCall) -> str:
        return f"{call.adapter}.{call.operation}"

    @admin.display(description="attempts", ordering="attempts")
    def tries(self, call: OutboundCall) -> str:
        return f"{call.attempts} of {call.max_attempts}"

    @admin.display(description="created", ordering="created_at")
    def created(self, call: OutboundCall) -> str:
        return moment(call.created_at)

    @admin.display(description="next try", ordering="due_at")
    def next_try(self, call: OutboundCall) -> str:
        return moment(call.due_at) if call.status in WAITING else DASH

    @admin.display(description="error")
    def trouble(self, call: OutboundCall) -> str:
        words = (call.error_kind, call.error_code, call.error_message)
        return " · ".join(word for word in words if word) or DASH

    @admin.display(description="payload (redacted)")
    def payload_shown(self, call: OutboundCall) -> SafeString:
        return document(_redacted(call, call.payload))

    @admin.display(description="result (redacted)")
    def result_shown(self, call: OutboundCall) -> SafeString:
        return document(_redacted(call, call.result))


def _force(mode: CircuitMode) -> Callable[[Any, str, str], str]:
    def apply(name: Any, actor: str, reason: str) -> str:
        services.operate_circuit(name=name, mode=mode, actor=actor, reason=reason)
        return mode.label.lower()

    return apply


def _operation(mode: CircuitMode, name: str, label: str, question: str) -> RowAction:
    return RowAction(
        name=name,
        permission="operate",
        label=label,
        question=question,
        apply=_force(mode),
        refusals=(CallRefused,),
        statuses=[other for other in CircuitMode.values if other != mode],
        needs_reason=mode != CircuitMode.AUTO,
    )


class TransitionInline(ReadOnlyInline):
    model = CircuitTransition
    verbose_name_plural = "changes"
    fields = ("when", "change", "mode", "why", "by", "incident")
    readonly_fields = ("when", "change", "by")
    ordering = ("-at",)

    @admin.display(description="when")
    def when(self, transition: CircuitTransition) -> str:
        return moment(transition.at)

    @admin.display(description="change")
    def change(self, transition: CircuitTransition) -> str:
        before, after = transition.get_from_state_display(), transition.get_to_state_display()
        return after if before == after else f"{before} to {after}"

    @admin.display(description="by")
    def by(self, transition: CircuitTransition) -> str:
        return transition.actor or "itself"


@admin.register(Circuit)
class CircuitAdmin(ReadOnlyAdmin):
    status_field = "mode"
    list_display = ("name", "state_badge", "mode", "since", "first_probe", "waiting")
    list_filter = ("state", "mode")
    inlines = (TransitionInline,)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("state_badge", "mode", "waiting"),
                    ("mode_reason", "mode_actor"),
                    ("since", "first_probe", "openings", "successes"),
                    "incident",
                )
            },
        ),
    )
    row_actions = (
        _operation(
            CircuitMode.FORCED_OPEN,
            "force_open",
            "Force open",
            "Let nothing through until somebody says otherwise? The calls wait, and cost no "
            "attempts.",
        ),
        _operation(
            CircuitMode.FORCED_CLOSED,
            "force_closed",
            "Force closed",
            "Let everything through, whatever the provider does?",
        ),
        _operation(
            CircuitMode.OBSERVE,
            "observe",
            "Observe only",
            "Count and show, and never hold a call back?",
        ),
        _operation(
            CircuitMode.AUTO, "automatic", "Automatic", "Let the counts decide again from now on?"
        ),
    )

    @admin.display(description="state", ordering="state")
    def state_badge(self, circuit: Circuit) -> SafeString:
        return badge(CIRCUIT_COLOURS[circuit.state], circuit.get_state_display())

    @admin.display(description="since", ordering="opened_at")
    def since(self, circuit: Circuit) -> str:
        closed = circuit.state == CircuitState.CLOSED
        return moment(circuit.closed_at if closed else circuit.opened_at)

    @admin.display(description="first probe")
    def first_probe(self, circuit: Circuit) -> str:
        return moment(circuit.open_until) if circuit.state == CircuitState.OPEN else DASH

    @admin.display(description="calls waiting")
    def waiting(self, circuit: Circuit) -> str:
        found = OutboundCall.objects.waiting().filter(circuit=circuit.name)
        count = len(found.values_list("pk")[: MANY + 1])
        return f"more than {MANY}" if count > MANY else str(count)


def _redacted(call: OutboundCall, content: Any) -> Any:
    try:
        allowed = registry.adapter_class(call.adapter).visible_fields
    except (CallRefused, ImproperlyConfigured):  # the adapter is gone; the page must still open
        return HIDDEN
    return None if content is None else visible(content, allowed)
