"""Addresses. The probes are in front of them: see integrations_project/probes.py."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

admin.site.site_title = admin.site.site_header = "Holdfast"
admin.site.site_url = None  # there is no other site to view
admin.site.index_title = "Calls, events and payments"

urlpatterns = [
    path("webhooks/", include("webhooks.urls")),
    path("api/", include("api.urls")),
    path("admin/", admin.site.urls),
]
