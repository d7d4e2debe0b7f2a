"""A lease on periodic work: two schedulers do it once."""

from __future__ import annotations

import threading

import pytest
from django.db import connections

from outbound.leases import periodic_lease
from outbound.models import PeriodicLease
from tests.outbound.conftest import VirtualTime
from tests.outbound.threads import at_once

pytestmark = pytest.mark.both_databases


@pytest.mark.django_db
class TestLease:
    def test_two_holders(self, time: VirtualTime) -> None:
        """While one holds it, another does not get it; nor does it get it twice itself."""
        with periodic_lease("sweep", seconds=30) as first:
            assert first
            time.passes(seconds=29)
            with periodic_lease("sweep", seconds=30) as second:
                assert not second
            with periodic_lease("sweep", seconds=30) as third:
                assert not third

    def test_different_work(self, time: VirtualTime) -> None:
        """A lease is on one kind of work."""
        with (
            periodic_lease("sweep", seconds=30) as one,
            periodic_lease("drain", seconds=30) as other,
        ):
            assert one
            assert other

    def test_given_back(self, time: VirtualTime) -> None:
        """When the block has ended the next one need not wait."""
        for _ in range(3):
            with periodic_lease("sweep", seconds=30) as ours:
                assert ours
        assert PeriodicLease.objects.get().token is None

    def test_given_back_after_trouble(self, time: VirtualTime) -> None:
        """Also when the block failed."""
        with pytest.raises(ValueError, match="no"), periodic_lease("sweep", seconds=30):
            raise ValueError("no")
        with periodic_lease("sweep", seconds=30) as ours:
            assert ours

    def test_a_dead_holder(self, time: VirtualTime) -> None:
        """A holder that died loses it, and cannot give back its successor's when it wakes up."""
        with periodic_lease("sweep", seconds=30) as dead:
            assert dead
            time.passes(seconds=30)
            successor = periodic_lease("sweep", seconds=30)
            assert successor.__enter__()
        with periodic_lease("sweep", seconds=30) as third:
            assert not third
        successor.__exit__(None, None, None)
        with periodic_lease("sweep", seconds=30) as fourth:
            assert fourth


@pytest.mark.django_db(transaction=True)
def test_race() -> None:
    """Of many that ask at once for work nobody ever did, one gets it."""
    asked = threading.Semaphore(0)

    def take() -> bool:
        with periodic_lease("sweep", seconds=300) as ours:
            connections["default"].close()
            asked.release()
            if ours:
                for _ in range(8):
                    assert asked.acquire(timeout=30)
            return ours

    assert sorted(map(str, at_once(8, take))) == ["False"] * 7 + ["True"]
