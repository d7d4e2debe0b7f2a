"""Who comes in: the key, its scopes, its rate, and the shape of what it brings, in this order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from django.http import HttpRequest

from api.bodies import load_body
from api.errors import Problem
from api.models import ApiClient
from api.problems import come_again
from api.scopes import Scope
from api.services import identify
from outbound import clock
from outbound.services import OutboundCall
from outbound.token_leases import take_token

KEY_SHAPE = re.compile(r"[!-~]{1,255}")


class Access:
    """In front of an operation: lets a client in that has all of `scopes`. `writes`: with an
    Idempotency-Key."""

    openapi_security_schema: ClassVar[Mapping[str, str]] = {
        "type": "http",
        "scheme": "bearer",
        "description": "A key as `manage.py create_api_client` prints it: `prefix.secret`.",
    }

    def __init__(self, *scopes: Scope, writes: bool = False) -> None:
        self.scopes = scopes
        self.writes = writes

    def __call__(self, request: HttpRequest) -> ApiClient:
        with clock.one_reading():
            client = authenticate(request)
            for scope in self.scopes:
                demand(client, scope)
            _take_token(client)
        if self.writes:
            idempotency_key(request)
        load_body(request)
        return client


def authenticate(request: HttpRequest) -> ApiClient:
    """The client. All refusals are alike. Raises Problem."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    client = identify(key.strip(" ")) if scheme.lower() == "bearer" else None
    if client is None:
        raise Problem(
            401,
            "send a live key as Authorization: Bearer prefix.secret",
            code="unauthenticated",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return client


def demand(client: ApiClient, scope: Scope) -> None:
    """Raises Problem when the client has not that right."""
    if scope not in client.scopes:
        raise Problem(403, f"this key lacks the scope {scope}", code="wrong_scope")


def _take_token(client: ApiClient) -> None:
    wait = take_token(f"api:{client.pk}", rate=client.rate / 60, burst=client.rate)
    if wait > 0:
        detail = f"more than {client.rate} requests a minute"
        raise come_again(detail, code="rate_limited", status=429, after=wait)


def idempotency_key(request: HttpRequest) -> str:
    """Raises Problem when it is missing, or none."""
    key = request.headers.get("Idempotency-Key", "")
    if not KEY_SHAPE.fullmatch(key):
        raise Problem(
            400,
            "send an Idempotency-Key of 1 to 255 visible ASCII characters",
            code="idempotency_key_missing" if not key else "idempotency_key_malformed",
        )
    return key


def author(client: ApiClient) -> str:
    """What calls and notes name it by."""
    return f"api:{client.name}"


def owns(client: ApiClient, call: OutboundCall) -> bool:
    return call.created_by == author(client)


def client_of(request: HttpRequest) -> ApiClient:
    """The client that Access let in."""
    client: ApiClient = request.auth  # type: ignore[attr-defined]
    return client
