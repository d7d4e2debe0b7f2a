"""Places that are held for a while: never more at once than there are."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outbound import clock
from outbound.models import Permit
from outbound.permits import held, next_permit_at, return_permit, take_permit
from tests.emptying import rolled_back
from tests.outbound.conftest import VirtualTime
from tests.outbound.threads import at_once
from tests.services.environment import ROOT

pytestmark = pytest.mark.both_databases


def take(slots: int, *, seconds: float = 30, name: str = "desk") -> uuid.UUID | None:
    return take_permit(name, slots=slots, seconds=seconds)


def taken(slots: int, *, seconds: float = 30) -> uuid.UUID:
    token = take(slots, seconds=seconds)
    assert token is not None
    return token


@pytest.mark.django_db
class TestPermits:
    def test_as_many_as_there_are(self, time: VirtualTime) -> None:
        """Each holder has a place of its own; then there is none."""
        assert len({taken(3) for _ in range(3)}) == 3
        assert take(3) is None
        assert held("desk") == 3

    def test_names(self, time: VirtualTime) -> None:
        """Places of one name are no places of another."""
        assert take(1)
        assert take(1, name="other")
        assert take(1) is None

    def test_given_back(self, time: VirtualTime) -> None:
        """A place that was given back is free at once."""
        token = taken(1)
        assert return_permit("desk", token)
        assert held("desk") == 0
        assert take(1)

    def test_expired(self, time: VirtualTime) -> None:
        """One whose holder died is free when it expires, and no microsecond earlier."""
        taken(1, seconds=30)
        time.passes(seconds=29.999999)
        assert take(1) is None
        time.passes(seconds=0.000001)
        assert held("desk") == 0
        assert take(1)

    def test_given_back_by_a_stranger(self, time: VirtualTime) -> None:
        """A token opens its own place only, under its own name, and once."""
        token = taken(2)
        taken(2)
        assert not return_permit("desk", uuid.uuid4())
        assert not return_permit("other", token)
        assert held("desk") == 2
        assert return_permit("desk", token)
        assert not return_permit("desk", token)
        assert held("desk") == 1

    def test_a_late_holder(self, time: VirtualTime) -> None:
        """A holder that comes back too late cannot give away its successor's place."""
        late = taken(1, seconds=30)
        time.passes(seconds=30)
        successor = taken(1, seconds=30)
        assert not return_permit("desk", late)
        assert held("desk") == 1
        assert return_permit("desk", successor)

    def test_more_places(self, time: VirtualTime) -> None:
        """New places can be taken at once."""
        taken(1)
        assert take(1) is None
        assert take(2) is not None
        assert take(2) is None

    def test_fewer_places(self, time: VirtualTime) -> None:
        """Nobody loses a place, and the next one gets his when fewer are held than there are."""
        tokens = [taken(5) for _ in range(5)]
        random.shuffle(tokens)
        for token in tokens[:4]:
            assert take(2) is None
            assert return_permit("desk", token)
        assert take(2) is not None
        assert take(2) is None

    def test_when_there_will_be_one(self, time: VirtualTime) -> None:
        """Now while there is one; then when the first expires."""
        assert next_permit_at("desk", slots=2) == time.now
        taken(2, seconds=50)
        assert next_permit_at("desk", slots=2) == time.now
        taken(2, seconds=20)
        assert next_permit_at("desk", slots=2) == time.now + timedelta(seconds=20)
        assert next_permit_at("desk", slots=1) == time.now + timedelta(seconds=50)

    def test_statements(self, time: VirtualTime) -> None:
        """Two to take a place, one of them a write, and one to give it back."""
        return_permit("desk", taken(3))
        with CaptureQueriesContext(connection) as took:
            token = taken(3)
        assert [query["sql"].split()[0] for query in took] == ["SELECT", "UPDATE"]
        with CaptureQueriesContext(connection) as returned:
            return_permit("desk", token)
        assert [query["sql"].split()[0] for query in returned] == ["UPDATE"]

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        steps=st.lists(
            st.one_of(
                st.tuples(st.just("take"), st.integers(1, 5)),
                st.tuples(st.just("return"), st.integers(0, 9)),
                st.tuples(st.just("wait"), st.integers(1, 9)),
            ),
            max_size=40,
        )
    )
    @rolled_back()
    def test_as_a_list_of_holders(self, steps: list[tuple[str, int]], time: VirtualTime) -> None:
        """However the number of places changes: one is given if and only if fewer are held, and
        where none is given, there is one at the time that was said."""
        holders: dict[uuid.UUID, float] = {}
        for step, number in steps:
            if step == "take":
                token = take(number, seconds=10)
                assert (token is not None) == (len(holders) < number)
                if token is not None:
                    holders[token] = 10.0
                    continue
                wait = (next_permit_at("desk", slots=number) - time.now).total_seconds()
                assert sum(left > wait for left in holders.values()) < number
                assert sum(left >= wait for left in holders.values()) >= number
            elif step == "return" and holders:
                token = list(holders)[number % len(holders)]
                assert return_permit("desk", token)
                del holders[token]
            elif step == "wait":
                time.passes(seconds=number)
                holders = {t: left - number for t, left in holders.items() if left > number}
            assert held("desk") == len(holders)


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_first_use(self) -> None:
        """Of many that ask at once for places nobody ever had, as many get one as there are."""
        tokens = at_once(16, lambda: take(5))
        assert not [answer for answer in tokens if isinstance(answer, Exception)]
        assert sum(token is not None for token in tokens) == 5
        assert held("desk") == 5

    def test_fewer_places(self) -> None:
        """Nor do many at once get more where some hold places that there are no more."""
        for _ in range(5):
            Permit.objects.all().delete()
            tokens = [taken(8) for _ in range(8)]
            beyond = Permit.objects.filter(slot__in=(7, 8)).values_list("token", flat=True)
            for token in set(tokens).difference(beyond):
                return_permit("desk", token)
            answers = at_once(8, lambda: take(5))
            assert sum(answer is not None for answer in answers) == 3
            assert held("desk") == 5

    @pytest.mark.parametrize("before", [3, 6])
    def test_again_and_again(self, before: int) -> None:
        """While threads take and give back, no more are in than there are places; nor where
        there were more places a moment ago, and some of those are still held."""
        there = [taken(before) for _ in range(before)]
        counting, inside, counts = threading.Lock(), before, [0]

        def come() -> uuid.UUID | None:
            nonlocal inside
            with counting:
                if there:
                    return there.pop()
            token = take(3)
            with counting:
                if token is not None:
                    inside += 1
                    counts.append(inside)
            return token

        def come_and_go() -> None:
            nonlocal inside
            while len(counts) < 100:
                token = come()
                if token is not None:
                    with counting:
                        inside -= 1
                    assert return_permit("desk", token)

        assert at_once(8, come_and_go) == [None] * 8
        assert max(counts) <= 3
        assert held("desk") == inside == 0

    @pytest.mark.faults
    def test_processes(self, tmp_path: Path) -> None:
        """Nor do processes that know nothing of each other ever hold more."""
        log = tmp_path / "log"
        log.touch()
        command = [sys.executable, "-m", "tests.outbound.holders", "desk", "2", "25", str(log)]
        holders = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
        try:
            assert [holder.wait(120) for holder in holders] == [0] * 4
        finally:
            for holder in holders:
                holder.kill()
                holder.wait()
        steps = [1 if step == "+" else -1 for step in log.read_text()]
        sums = list(itertools.accumulate(steps))
        assert (len(steps), sums[-1]) == (200, 0)
        assert max(sums) <= 2
        assert held("desk") == 0

    def test_the_clock_is_the_databases(self) -> None:
        """Without virtual time a place is held until the database's clock says otherwise."""
        taken(1, seconds=30)
        place = Permit.objects.get()
        assert timedelta(0) < place.expires_at - clock.now() <= timedelta(seconds=30)
