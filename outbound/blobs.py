"""Large contents that payloads speak of by their digest: stored once, encrypted, and kept for as
long as something may be sent with them."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from django.db.models import F
from django.db.models.functions import Greatest

from outbound import clock
from outbound.errors import NotSentHere
from outbound.inserts import insert_new
from outbound.models import Blob

BATCH = 500


def store_blob(content: bytes, *, keep: timedelta) -> str:
    """Keep `content` for at least so long, and return the digest that stands for it."""
    digest, now = hashlib.sha256(content).hexdigest(), clock.now()
    keep_until = now + keep
    row = Blob(
        digest=digest, content=content, size=len(content), created_at=now, keep_until=keep_until
    )
    if not insert_new([row]):
        Blob.objects.filter(pk=digest).update(keep_until=Greatest(F("keep_until"), keep_until))
    return digest


def read_blob(digest: str) -> bytes:
    """The content. Raises NotSentHere where it is gone: its call waited for longer than it was
    to be kept."""
    row = Blob.objects.filter(pk=digest).only("content").first()
    if row is None:
        raise NotSentHere(f"the stored content {digest[:12]} is gone", http_status=500)
    return bytes(row.content)


def count_old_blobs() -> int:
    """How many nobody needs any more."""
    return Blob.objects.filter(keep_until__lte=clock.now()).count()


def prune_blobs(*, limit: int = BATCH) -> int:
    """Forget what nobody needs any more, at most `limit`. Returns how many."""
    old = Blob.objects.filter(keep_until__lte=clock.now()).order_by("keep_until")
    gone, _ = Blob.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()
    return gone
