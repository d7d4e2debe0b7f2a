"""How many recipients one call takes."""

from __future__ import annotations

import pytest

from notifications.adapters import ENVELOPE_BYTES, MessageAdapter
from tests.notifications.scripted import ScriptedMail


class Copying(ScriptedMail):
    batch_limit = 100
    batch_bytes = 10 * (1000 + ENVELOPE_BYTES)


@pytest.mark.parametrize(
    "adapter, size, recipients",
    [(ScriptedMail, 9_000_000, 3), (Copying, 10, 12), (Copying, 1000, 10), (Copying, 10**9, 1)],
)
def test_recipients_per_call(adapter: type[MessageAdapter], size: int, recipients: int) -> None:
    """The limit; fewer where each has a copy of the message in there, but always somebody."""
    assert adapter.recipients_per_call(size) == recipients
