"""The window on clients: who they are and when they were here. No secret is stored to show."""

from __future__ import annotations

from django.contrib import admin

from api.models import ApiClient, ApiKey
from outbound.admin_pages import DASH, ReadOnlyAdmin, ReadOnlyInline, moment


class KeyInline(ReadOnlyInline):
    model = ApiKey
    verbose_name_plural = "keys"
    fields = ("prefix", "created", "last_used", "revoked")
    readonly_fields = fields

    @admin.display(description="created")
    def created(self, key: ApiKey) -> str:
        return moment(key.created_at)

    @admin.display(description="last used")
    def last_used(self, key: ApiKey) -> str:
        return moment(key.last_used_at)

    @admin.display(description="revoked")
    def revoked(self, key: ApiKey) -> str:
        return moment(key.revoked_at)


@admin.register(ApiClient)
class ApiClientAdmin(ReadOnlyAdmin):
    list_display = ("name", "may_do", "rate", "created", "disabled")
    search_fields = ("name",)
    inlines = (KeyInline,)
    fields = ("name", "may_do", "rate", "created", "disabled")
    readonly_fields = fields

    @admin.display(description="scopes")
    def may_do(self, client: ApiClient) -> str:
        return ", ".join(client.scopes) or DASH

    @admin.display(description="created", ordering="created_at")
    def created(self, client: ApiClient) -> str:
        return moment(client.created_at)

    @admin.display(description="disabled", ordering="disabled_at")
    def disabled(self, client: ApiClient) -> str:
        return moment(client.disabled_at)
