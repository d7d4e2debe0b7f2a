"""What keeps a long run small, and a ledger honest."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.journal import Journal
from sandbox.recent import Recent
from sandbox.stripe import keys
from sandbox.stripe.errors import Refusal
from sandbox.stripe.keys import Keys, Scope, Slot
from sandbox.stripe.store import Shelf
from sandbox.wire import Answer

SCOPE = Scope("", False)


@dataclass
class Record:
    """Something numbered."""

    seq: int


@dataclass
class Made:
    """Something kept."""

    id: str
    scope: Scope = SCOPE


def test_records_are_bounded() -> None:
    """The oldest go; the count goes on."""
    records: Recent[Record] = Recent(kept=3)
    for _ in range(5):
        records.add(Record)
    assert [record.seq for record in records] == [3, 4, 5]
    assert records.total == 5
    assert [record.seq for record in records.page(after=3, limit=1)] == [4]


def test_objects_are_bounded() -> None:
    """The oldest are forgotten."""
    shelf: Shelf[Made] = Shelf("thing", kept=2)
    for name in "abc":
        shelf.add(Made(name))
    assert [made.id for made in shelf.newest(scope=SCOPE)] == ["c", "b"]
    with pytest.raises(Refusal, match="No such thing: 'a'"):
        shelf.find("a", scope=SCOPE, param="id")


def test_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answered ones are forgotten; a running one never is."""
    monkeypatch.setattr(keys, "KEPT_KEYS", 2)
    known = Keys()

    def claim(key: str) -> Slot:
        return known.claim(
            scope=SCOPE, key=key, path="/", form="", request_id="", at=0.0, lifetime=9.0
        )

    for key in "ab":
        known.store(claim(key), Answer(200, b""))
    running = claim("c")
    assert claim("b").answer is not None
    assert claim("a").answer is None
    for key in "def":
        claim(key)
    with pytest.raises(Refusal, match="in-progress"):
        claim("c")
    known.release(running)
    assert claim("c").answer is None


def test_durable_means_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`durable()` ends after an fsync that began after the line was written; who waits together
    shares one."""
    file = tmp_path / "ledger"
    on_disk: list[bytes] = []
    fsync = os.fsync

    def watched(number: int) -> None:
        fsync(number)
        on_disk.append(file.read_bytes())

    monkeypatch.setattr(os, "fsync", watched)

    async def write() -> None:
        journal = Journal(file)

        async def append(line: bytes) -> None:
            journal.append(line)
            await journal.durable()
            assert any(line in content.splitlines() for content in on_disk)

        await asyncio.gather(*(append(b"%d" % number) for number in range(50)))
        journal.close()

    asyncio.run(write())
    assert len(file.read_bytes().splitlines()) == 50
    assert len(on_disk) < 10
