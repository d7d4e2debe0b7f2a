"""A provider that goes down, and a fleet that shares its breaker. Invariant 6: an open circuit
costs nothing, and no more probes go out than there are places."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from sandbox.control import Sandbox
from tests.faults.harness import SHORT_WAITS, System
from tests.faults.rows import Attempt, Transition
from tests.faults.test_faults import all_paid, come_to_rest, pay

pytestmark = pytest.mark.faults
services = pytest.mark.services

LEASE = float(SHORT_WAITS["LEASE_SECONDS"])
SWEEP = float(SHORT_WAITS["SWEEP_SECONDS"])
DOWN = [{"kind": "status", "status": 503}]
# Slow to fail: every probe has begun before the first has failed.
SILENT = [{"kind": "hang", "seconds": 1.5}]
EPISODES, PAYMENTS = 3, 24


def openings(system: System) -> int:
    return sum(change.to_state == "open" for change in system.rows.transitions())


def opened_again(system: System, times: int) -> bool:
    return openings(system) >= times


def go_down_and_come_back(
    system: System, *, episodes: int = EPISODES, faults: list[dict[str, Any]] = DOWN
) -> None:
    """The provider is down until probes have failed, then everything is delivered; repeatedly."""
    system.provider.change_settings(latency=0.3)
    for episode in range(episodes):
        before = openings(system)
        system.provider.set_mix(rate=1.0, kinds=faults, method="POST")
        first = PAYMENTS * episode
        pay(system, range(first, first + PAYMENTS))
        system.wait_until(partial(opened_again, system, before + 3), what="two probes have failed")
        system.provider.clear_faults()
        system.wait_for_rest()
    come_to_rest(system)


def within(attempts: list[Attempt], begin: Transition, end: Transition) -> list[Attempt]:
    return [attempt for attempt in attempts if begin.at < attempt.started_at < end.at]


def check_the_circuit(
    system: System, *, probes: int, threads: int, episodes: int = EPISODES
) -> None:
    """What was sent while it was open, and while it was half-open.

    A claim looks at the circuit in its own statement, without a lock: one that had begun when the
    circuit opened may still win. There can be no more of these than threads, and they are over
    when the open time has hardly begun."""
    changes, attempts = system.rows.transitions(), system.rows.attempts()
    failed_probes = 0
    for change, then in pairwise(changes):
        assert change.to_state == then.from_state, "a change is missing"
        sent = within(attempts, change, then)
        if change.to_state == "open":
            assert len(sent) <= threads
            moment = change.at + (then.at - change.at) / 10
            assert [a for a in sent if a.started_at > moment] == [], "sent through an open circuit"
        elif change.to_state == "half-open" and then.to_state == "open":
            failed_probes += 1
            assert len(sent) == probes, f"{len(sent)} probes went out, not {probes}"
            assert {a.trigger for a in sent} == {"probe"}
    assert failed_probes >= 2 * episodes
    incidents = [c.incident for c in changes if (c.from_state, c.to_state) == ("closed", "open")]
    assert len(set(incidents)) == len(incidents) == episodes


def said(system: System, names: list[str], words: bytes) -> int:
    return sum(system.process(name).log.read_bytes().count(words) for name in names)


@services
@pytest.mark.parametrize("probes,episodes,faults", [(1, EPISODES, DOWN), (2, 1, SILENT)])
def test_eight_workers_and_a_provider_that_is_down(
    system: System, probes: int, episodes: int, faults: list[dict[str, Any]]
) -> None:
    """2, 4, 6: outages; N probes each time, nothing else sent, everything delivered."""
    system.environment["BREAKER_PROBES"] = str(probes)
    system.start_web()
    workers = [f"worker{number}" for number in range(8)]
    for name in workers:
        system.start_worker(name, concurrency=2)
    system.start_beat()
    go_down_and_come_back(system, episodes=episodes, faults=faults)
    check_the_circuit(system, probes=probes, threads=16, episodes=episodes)
    all_paid(system, episodes * PAYMENTS)
    opened = said(system, workers, b"circuit_opened")
    assert opened == openings(system), "each change is told once, whoever sees it"


def test_four_embedded_workers_and_a_provider_that_is_down(embedded_system: System) -> None:
    """2, 4, 6: the same over one SQLite file."""
    system = embedded_system
    system.start_web()
    for number in range(4):
        system.start_worker(f"worker{number}", concurrency=2)
    go_down_and_come_back(system)
    check_the_circuit(system, probes=1, threads=8)
    all_paid(system, EPISODES * PAYMENTS)


@services
def test_a_prober_that_is_killed(system: System) -> None:
    """2, 6: its place is free again after one lease, and its call is delivered once."""
    system.start_web()
    for name in ("first", "second"):
        system.start_worker(name, concurrency=2)
    system.start_beat()
    system.provider.set_mix(rate=1.0, kinds=DOWN, method="POST")
    pay(system, range(PAYMENTS))
    system.wait_until(lambda: openings(system), what="the circuit is open")
    system.provider.clear_faults()
    system.provider.change_settings(latency=2.5)

    def probe() -> list[Attempt]:
        return [a for a in system.rows.attempts() if a.trigger == "probe" and not a.finished_at]

    system.wait_until(probe, what="a probe is out")
    (killed,) = probe()
    for name in ("first", "second"):  # whichever has it
        system.kill(name)
    system.provider.change_settings(latency=0.0)
    for name in ("first", "second"):
        system.start(name)
    come_to_rest(system)
    probes = sorted(a.started_at for a in system.rows.attempts() if a.trigger == "probe")
    following = next(at for at in probes if at > killed.started_at)
    assert following - killed.started_at <= timedelta(seconds=LEASE + 3 * SWEEP)
    all_paid(system, PAYMENTS)


@services
def test_limits_hold_over_the_fleet(system: System) -> None:
    """2, 4: eight workers and more calls than may go: neither more at once, nor more a second."""
    rate, places = 20, 3
    system.environment |= {"STRIPE_RATE_LIMIT": str(rate), "STRIPE_CONCURRENCY": str(places)}
    system.provider.change_settings(latency=0.1)
    system.start_web()
    for number in range(8):
        system.start_worker(f"worker{number}", concurrency=2)
    system.start_beat()
    pay(system, range(90))
    come_to_rest(system)
    all_paid(system, 90)
    attempts = sorted(system.rows.attempts(), key=lambda attempt: attempt.started_at)
    starts = [attempt.started_at for attempt in attempts]
    for start in starts:
        second = [at for at in starts if start <= at < start + timedelta(seconds=1)]
        assert len(second) <= 2 * rate, "burst and rate together"
    for one in attempts:
        others = [
            a for a in attempts if a.started_at <= one.started_at < (a.finished_at or a.started_at)
        ]
        assert len(others) <= places, f"{len(others)} in flight at once"


@services
def test_a_slow_provider_takes_only_its_places(system: System) -> None:
    """With a bulkhead the others' calls pass the slow ones; without it they stand behind them."""
    with_bulkhead = slow_calls_done_before_the_others(system, places=1)
    without = slow_calls_done_before_the_others(system, places=0)
    assert with_bulkhead < without


def slow_calls_done_before_the_others(system: System, *, places: int) -> int:
    """How many of twelve slow calls had ended when twelve fast ones, asked for later, had. The
    worker has four threads. `places`: of the slow ones in flight; 0: any number."""
    system.provider.hold_webhooks()
    with Sandbox.start() as slow:
        slow.change_settings(latency=1.5)
        system.environment |= {"SLOW_API_BASE": slow.url, "SLOW_CONCURRENCY": str(places)}
        for name in system.running():
            system.kill(name)
        system.start_desk()
        for adapter in ("slow", "stripe"):
            for number in range(12):
                order = {
                    "adapter": adapter,
                    "operation": "create_customer",
                    "payload": {"email": f"c{number}@example.com"},
                    "reference": f"{adapter}-{places}-{number}",
                }
                system.call("outbound.services.enqueue_call", order)
        system.start_worker(concurrency=4)
        system.start_beat()
        system.wait_for_rest()
    ended = {
        adapter: [
            call.finished_at
            for call in system.rows.calls()
            if call.reference.startswith(f"{adapter}-{places}-") and call.finished_at
        ]
        for adapter in ("slow", "stripe")
    }
    assert {name: len(times) for name, times in ended.items()} == {"slow": 12, "stripe": 12}
    last = max(ended["stripe"])
    return sum(at <= last for at in ended["slow"])
