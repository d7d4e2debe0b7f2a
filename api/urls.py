"""Addresses below /api/v1/."""

from __future__ import annotations

from django.urls import path

from api.front import build

front = build()
urlpatterns = [path("", front.urls)]
