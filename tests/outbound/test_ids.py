"""Ids that are unique and grow with time."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from outbound.ids import uuid7


def test_shape() -> None:
    """Version 7, variant RFC 9562, the time in the first 48 bits."""
    before = time.time_ns() // 1_000_000
    made = [uuid7() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    for value in made:
        assert (value.version, value.variant) == (7, uuid.RFC_4122)
        assert before <= value.int >> 80 <= after
        assert uuid.UUID(str(value)) == value


def test_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of later milliseconds sort later, as numbers, as text and as bytes."""
    moments = iter(range(1_700_000_000_000, 1_700_000_100_000, 1000))
    monkeypatch.setattr("outbound.ids.time.time_ns", lambda: next(moments) * 1_000_000)
    made = [uuid7() for _ in range(100)]
    assert sorted(made) == sorted(made, key=str) == sorted(made, key=lambda u: u.bytes) == made


def test_no_two_alike() -> None:
    """Many threads in the same milliseconds make different ids."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: uuid7(), range(5_000)))
    assert len(set(made)) == len(made)
    assert len({value.int & (1 << 62) - 1 for value in made}) == len(made)
