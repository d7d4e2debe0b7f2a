"""Answers as JSON, in ASCII: what a provider has sent may hold what no encoding has."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from ninja.renderers import BaseRenderer


class Renderer(BaseRenderer):
    """The same spelling wherever an answer is made."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> str:
        return json_of(data)


def json_of(data: Any) -> str:
    return json.dumps(data, default=_plain, separators=(",", ":"))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
