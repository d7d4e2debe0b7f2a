"""Attachments are kept for as long as something may be sent with them, and no longer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications.services import Attached, send_email
from notifications.sweep import overdue, sweep
from outbound.models import Blob
from tests.notifications.conftest import Providers
from tests.outbound.conftest import VirtualTime

pytestmark = pytest.mark.django_db


def test_kept_until_thirty_days_after_its_time(providers: Providers, time: VirtualTime) -> None:
    """Counted from when the message is to be sent, not from when it was asked for."""
    send_email(
        to="ann@example.com",
        subject="x",
        text="x",
        attachments=[Attached("a.bin", b"a")],
        scheduled_at=time.now + timedelta(days=60),
    )
    time.passes(hours=24 * 89)
    assert sweep()["contents_forgotten"] == 0
    time.passes(hours=25)
    assert overdue()["contents_forgotten"] == 1
    assert sweep()["contents_forgotten"] == 1
    assert not Blob.objects.exists()
