"""Addresses below /api/v1/."""

from __future__ import annotations

from django.urls import path

from api.front import front
from api.pages import docs, openapi

urlpatterns = [
    path("openapi.json", openapi, name="api-openapi"),
    path("docs", docs, name="api-docs"),
    path("", front.urls),
]
