"""The window on customers, payments and refunds. What is done about a failed one is done on its
call, one click away."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from outbound.admin_pages import (
    DASH,
    ReadOnlyAdmin,
    ReadOnlyInline,
    as_uuid,
    badge,
    link_to,
    moment,
)
from payments.currencies import decimals
from payments.models import Customer, Payment, Refund


class MoneyAdmin(ReadOnlyAdmin):
    """What the three have in common: a status, a call, and search by any id."""

    search_fields = ("provider_id",)
    search_help_text = "Any id, whole: ours, the provider's, or the reference"
    list_select_related: ClassVar[tuple[str, ...]] = ("call",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Exact matches only: each is served by an index, also among millions of rows."""
        term = search_term.strip()
        if not term or "\x00" in term:
            return (queryset if not term else queryset.none()), False
        found = self.named(term)
        if pk := as_uuid(term):
            found |= Q(pk=pk) | Q(call=pk)
        return queryset.filter(found), False

    def named(self, term: str) -> Q:
        return Q(provider_id=term) | Q(reference=term)

    @admin.display(description="status", ordering="status")
    def status_badge(self, row: Customer | Payment | Refund) -> SafeString:
        return badge(row.status, row.get_status_display())

    @admin.display(description="created", ordering="created_at")
    def created(self, row: Customer | Payment | Refund) -> str:
        return moment(row.created_at)

    @admin.display(description="call")
    def call_link(self, row: Customer | Payment | Refund) -> SafeString | str:
        return link_to(row.call, row.call.get_status_display() if row.call else "")


def money(amount: int | None, currency: str) -> str:
    """An amount in minor units as people write it: 2000 usd is 20.00 USD."""
    if amount is None:
        return DASH
    places = decimals(currency)
    return f"{amount / 10**places:,.{places}f} {currency.upper()}"


@admin.register(Customer)
class CustomerAdmin(MoneyAdmin):
    list_display = ("created", "status_badge", "provider_id", "reference", "call_link", "id")
    list_display_links = ("created", "provider_id", "id")
    list_filter = ("status",)
    fields = (
        ("status_badge", "call_link"),
        ("provider_id", "reference", "id"),
        ("created_at", "updated_at"),
    )


class RefundInline(ReadOnlyInline):
    model = Refund
    verbose_name_plural = "refunds"
    fields = ("created", "status_badge", "amount_shown", "reason", "provider_id", "call_link")
    readonly_fields = ("created", "status_badge", "amount_shown", "call_link")

    @admin.display(description="created")
    def created(self, refund: Refund) -> str:
        return moment(refund.created_at)

    @admin.display(description="status")
    def status_badge(self, refund: Refund) -> SafeString:
        return badge(refund.status, refund.get_status_display())

    @admin.display(description="amount")
    def amount_shown(self, refund: Refund) -> str:
        return money(refund.amount, refund.payment.currency if refund.payment else "usd")

    @admin.display(description="call")
    def call_link(self, refund: Refund) -> SafeString | str:
        return link_to(refund.call, refund.call.get_status_display() if refund.call else "")


@admin.register(Payment)
class PaymentAdmin(MoneyAdmin):
    list_display = (
        "created",
        "amount_shown",
        "status_badge",
        "refunded_shown",
        "reference",
        "provider_id",
        "call_link",
    )
    list_display_links = ("created", "amount_shown", "provider_id")
    list_filter = ("status", "currency")
    inlines = (RefundInline,)
    fields = (
        ("status_badge", "call_link"),
        ("amount_shown", "captured_shown", "refunded_shown", "reserved_shown"),
        ("customer_link", "reference"),
        ("provider_id", "id"),
        ("created_at", "updated_at"),
    )

    @admin.display(description="amount", ordering="amount")
    def amount_shown(self, payment: Payment) -> str:
        return money(payment.amount, payment.currency)

    @admin.display(description="captured")
    def captured_shown(self, payment: Payment) -> str:
        return money(payment.amount_captured, payment.currency)

    @admin.display(description="refunded")
    def refunded_shown(self, payment: Payment) -> str:
        return money(payment.amount_refunded or None, payment.currency)

    @admin.display(description="set aside for refunds")
    def reserved_shown(self, payment: Payment) -> str:
        return money(payment.amount_reserved or None, payment.currency)

    @admin.display(description="customer")
    def customer_link(self, payment: Payment) -> SafeString | str:
        return link_to(payment.customer)


@admin.register(Refund)
class RefundAdmin(MoneyAdmin):
    list_display = (
        "created",
        "amount_shown",
        "status_badge",
        "payment_link",
        "reason",
        "reference",
        "provider_id",
        "call_link",
    )
    list_display_links = ("created", "amount_shown", "provider_id")
    list_filter = ("status", "reason")
    list_select_related = ("call", "payment")
    fields = (
        ("status_badge", "call_link"),
        ("amount_shown", "reason"),
        ("payment_link", "payment_intent"),
        ("provider_id", "reference", "id"),
        ("created_at", "updated_at"),
    )

    def named(self, term: str) -> Q:
        return super().named(term) | Q(payment_intent=term)

    @admin.display(description="amount", ordering="amount")
    def amount_shown(self, refund: Refund) -> str:
        return money(refund.amount, refund.payment.currency if refund.payment else "usd")

    @admin.display(description="payment")
    def payment_link(self, refund: Refund) -> SafeString | str:
        return link_to(refund.payment)
