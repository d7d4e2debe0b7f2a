"""Addresses below /api/."""

from __future__ import annotations

from django.urls import path

from api.front import front
from api.pages import docs, nothing, openapi

urlpatterns = [
    path("v1", nothing),
    path("v1/openapi.json", openapi, name="api-openapi"),
    path("v1/docs", docs, name="api-docs"),
    path("v1/", front.urls),
]
