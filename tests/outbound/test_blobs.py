"""Large contents: stored once, unreadable in the database, forgotten when nobody needs them."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from django.db import connection

from outbound.adapters import Reply
from outbound.blobs import prune_blobs, read_blob, store_blob
from outbound.client import CallContext
from outbound.errors import NotSentHere
from outbound.models import Blob
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, enqueue
from tests.outbound.scripted import Script

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db]

DAY = timedelta(days=1)
CONTENT = b"%PDF-1.7 an invoice \x00\xff"


def test_stored_once(time: VirtualTime) -> None:
    """The same content is one row, under its SHA-256."""
    first, second = store_blob(CONTENT, keep=DAY), store_blob(CONTENT, keep=DAY)
    assert first == second == hashlib.sha256(CONTENT).hexdigest()
    assert Blob.objects.count() == 1
    assert read_blob(first) == CONTENT


def test_encrypted(time: VirtualTime) -> None:
    """The database does not hold it in the clear."""
    store_blob(CONTENT, keep=DAY)
    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM outbound_blob")
        assert b"invoice" not in bytes(cursor.fetchone()[0])


def test_kept_for_the_longest_that_was_asked(time: VirtualTime) -> None:
    """Who stores it again for longer, or for less, takes nothing from anybody."""
    digest = store_blob(CONTENT, keep=2 * DAY)
    store_blob(CONTENT, keep=DAY)
    other = store_blob(b"other", keep=DAY)
    time.passes(hours=25)
    assert prune_blobs() == 1
    assert read_blob(digest) == CONTENT
    with pytest.raises(NotSentHere, match="is gone"):
        read_blob(other)


def test_an_adapter_reads_it(time: VirtualTime, script: Script) -> None:
    """The engine hands it to the adapter, which touches no model."""
    digest = store_blob(CONTENT, keep=DAY)

    def answer(context: CallContext) -> Reply:
        assert context.read_blob(digest) == CONTENT
        return Reply({"id": "obj-1"})

    script.then(answer)
    assert attempt(enqueue()).status == "succeeded"
