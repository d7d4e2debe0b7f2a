"""Functions are called at their time, by one thread."""

from __future__ import annotations

import os
import threading
import time
from queue import Queue

import pytest
import structlog

from outbound.alarms import Alarms, set_alarm

WAIT = 30.0


@pytest.fixture
def alarms() -> Alarms:
    return Alarms()


@pytest.fixture
def rung() -> Queue[str]:
    return Queue()


def soon(seconds: float = 0.0) -> float:
    return time.monotonic() + seconds


def test_at_their_time(alarms: Alarms, rung: Queue[str]) -> None:
    """In the order of their times, and not before; also one that is earlier than what is waited
    for already, and one whose time has passed."""
    at = soon(0.3)
    alarms.set(soon(3600), lambda: rung.put("never"))
    alarms.set(at, lambda: rung.put("last"))
    alarms.set(soon(0.1), lambda: rung.put("second"))
    alarms.set(soon(-5), lambda: rung.put("first"))
    assert [rung.get(timeout=WAIT) for _ in range(3)] == ["first", "second", "last"]
    assert time.monotonic() >= at
    assert rung.empty()


def test_called_off(alarms: Alarms, rung: Queue[str]) -> None:
    """It does not ring, and keeps nothing alive."""
    called_off = alarms.set(soon(0.05), lambda: rung.put("called off"))
    called_off.cancel()
    called_off.cancel()
    assert called_off.ring is None
    alarms.set(soon(0.1), lambda: rung.put("another"))
    assert rung.get(timeout=WAIT) == "another"
    assert rung.empty()


def test_one_that_fails(alarms: Alarms, rung: Queue[str]) -> None:
    """It is logged; the others ring all the same."""
    with structlog.testing.capture_logs() as lines:
        alarms.set(soon(), lambda: 1 // 0)
        alarms.set(soon(0.05), lambda: rung.put("another"))
        assert rung.get(timeout=WAIT) == "another"
    assert [line["event"] for line in lines] == ["alarm_failed"]


def test_one_thread(alarms: Alarms) -> None:
    """However many are set, and by whom."""
    rung: Queue[int] = Queue()

    def set_some() -> None:
        for _ in range(50):
            alarms.set(soon(), lambda: rung.put(threading.get_ident()))

    setters = [threading.Thread(target=set_some) for _ in range(8)]
    for setter in setters:
        setter.start()
    for setter in setters:
        setter.join()
    threads = {rung.get(timeout=WAIT) for _ in range(8 * 50)}
    assert len(threads) == 1
    assert threads.isdisjoint(setter.ident for setter in setters)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_child_process() -> None:
    """It has a thread of its own, also where the parent's was waiting."""
    set_alarm(soon(3600), lambda: None)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        set_alarm(soon(), lambda: os.write(write, b"rung"))
        time.sleep(WAIT)
        os._exit(1)
    os.close(write)  # or we would not notice that it ends
    try:
        assert os.read(read, 4) == b"rung"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(read)
