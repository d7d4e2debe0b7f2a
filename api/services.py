"""Clients and their keys. Names are keyword-only."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from api.errors import ClientRefused
from api.keys import Key, mint, read
from api.models import ApiClient, ApiKey
from api.scopes import Scope
from outbound import clock

__all__ = [
    "ApiClient",
    "create_client",
    "disable_client",
    "end_rotation",
    "identify",
    "rotate_client",
]

RATE = 600  # requests a minute
MAX_RATE = 1_000_000
LIVE_KEYS = 2
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
USE_NOTED_EVERY = timedelta(minutes=1)
KEPT_SECONDS = 1.0  # for so long a process goes by what it has read of a key and its client
MOST_KEPT = 10_000


@transaction.atomic
def create_client(*, name: str, scopes: Collection[str], rate: int = RATE) -> Key:
    """A new client with one key, which nobody can read again. Raises ClientRefused."""
    if not NAME.fullmatch(name):
        raise ClientRefused(
            "a name is 1 to 100 letters, digits, dots, hyphens and underscores, and starts with "
            "a letter or digit"
        )
    unknown = sorted(set(scopes) - set(Scope.values))
    if unknown:
        known = ", ".join(Scope.values)
        raise ClientRefused(f"there is no scope {unknown[0]!r} (known: {known})")
    if not 1 <= rate <= MAX_RATE:
        raise ClientRefused(f"a rate is 1 to {MAX_RATE} requests a minute")
    wanted = [scope for scope in Scope.values if scope in set(scopes)]
    try:
        with transaction.atomic():
            client = ApiClient.objects.create(
                name=name, scopes=wanted, rate=rate, created_at=clock.now()
            )
    except IntegrityError:
        raise ClientRefused(f"there is a client {name!r} already") from None
    return _add_key(client)


@transaction.atomic
def rotate_client(*, name: str) -> Key:
    """Another key for a client; the one that it has goes on working until the rotation is ended.
    Raises ClientRefused when there is no such client, or two keys are live already."""
    client = _locked(name)
    if client.disabled_at is not None:
        raise ClientRefused(f"the client {name!r} is disabled")
    if client.keys.filter(revoked_at=None).count() >= LIVE_KEYS:
        raise ClientRefused(f"{name!r} has {LIVE_KEYS} live keys: end the last rotation first")
    return _add_key(client)


@transaction.atomic
def end_rotation(*, name: str) -> str:
    """Revoke the older one of a client's two keys. Returns its prefix. Raises ClientRefused."""
    live = list(ApiKey.objects.live().filter(client=_locked(name)).order_by("created_at", "prefix"))
    if len(live) < LIVE_KEYS:
        raise ClientRefused(f"{name!r} has no second key")
    ApiKey.objects.filter(pk=live[0].pk).update(revoked_at=clock.now())
    transaction.on_commit(_kept.clear)
    return live[0].prefix


@transaction.atomic
def disable_client(*, name: str) -> None:
    """Let a client in no more, in other processes from KEPT_SECONDS on. Raises ClientRefused."""
    client = _locked(name)
    if client.disabled_at is not None:
        raise ClientRefused(f"the client {name!r} is disabled already")
    ApiClient.objects.filter(pk=client.pk).update(disabled_at=clock.now())
    transaction.on_commit(_kept.clear)


def identify(text: str) -> ApiClient | None:
    """The client whose key that is, and that may come in; None otherwise."""
    key = read(text)
    if key is None:
        return None
    row = _live_key(key.prefix)
    known = key.matches(row.digest if row else mint().digest)
    if row is None or not known:
        return None
    _note_use(row)
    return row.client


_kept: dict[str, tuple[float, ApiKey]] = {}


def _live_key(prefix: str) -> ApiKey | None:
    """The key that is live, with its client that is not disabled, as they were KEPT_SECONDS ago
    at the most. What is not known is looked up each time: a new key works at once."""
    read_at, row = _kept.get(prefix, (0.0, None))
    now = time.monotonic()
    if row is not None and now - read_at < KEPT_SECONDS:
        return row
    row = ApiKey.objects.open().select_related("client").filter(pk=prefix).first()
    if row is None:
        _kept.pop(prefix, None)
        return None
    if len(_kept) >= MOST_KEPT:
        _kept.clear()
    _kept[prefix] = now, row
    return row


def _note_use(row: ApiKey) -> None:
    """At most once a minute, and once among processes."""
    now = clock.now()
    before = now - USE_NOTED_EVERY
    if row.last_used_at is None or row.last_used_at <= before:
        unnoted = Q(last_used_at=None) | Q(last_used_at__lte=before)
        ApiKey.objects.filter(unnoted, pk=row.pk).update(last_used_at=now)
        row.last_used_at = now


def _add_key(client: ApiClient) -> Key:
    key = mint()
    ApiKey.objects.create(
        prefix=key.prefix, client=client, digest=key.digest, created_at=clock.now()
    )
    return key


def _locked(name: str) -> ApiClient:
    rows = ApiClient.objects.select_for_update().filter(name=name)
    client = rows.first() if NAME.fullmatch(name) else None  # what is no name no database may see
    if client is None:
        raise ClientRefused(f"there is no client {name[:100]!r}")
    return client
