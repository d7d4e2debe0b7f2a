"""A process of a test does what a real one does, and never outlives the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house.polling import wait_until
from tests.house.processes import is_running
from tests.services.environment import ROOT
from tests.services.process import Process

# Starts a child that leaves the session, as daemons do, prints both ids, and waits.
FAMILY = """
import os, signal, subprocess, sys
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
signal.pause()
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); "

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start(program: str, folder: Path | None = None) -> Process:
        process = Process(
            name="program",
            command=[sys.executable, "-c", program],
            environment=os.environ,
            log=tmp_path / "log",
            cwd=tmp_path,
            folder=folder,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def family(process: Process) -> tuple[int, int]:
    """The ids of the program and of its child, as it printed them."""
    wait_until(lambda: len(process.tail().split()) == 2, what="the program started its child")
    program, child = map(int, process.tail().split())
    return program, child


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_knows_the_program_not_its_guard(start: Start) -> None:
    """`pid` is the id of the program."""
    process = start(FAMILY)
    assert family(process)[0] == process.pid
    assert process.running


def test_kill_reaches_everything_it_started(start: Start) -> None:
    """SIGKILL also for a child that left the session; nothing is left when `kill` returns."""
    process = start(FAMILY)
    program, child = family(process)
    process.kill()
    assert not process.running
    assert not is_running(program)
    assert not is_running(child)


def test_a_program_that_ends_leaves_nothing(start: Start) -> None:
    """A child that outlives the program is killed, and the program's status is kept."""
    process = start(FAMILY.replace("signal.pause()", "sys.exit(3)"))
    child = family(process)[1]
    assert process.wait() == 3
    assert not is_running(child)


def test_frozen_stands_still_and_goes_on(start: Start) -> None:
    """A frozen program and its child are stopped, and run again when thawed."""
    process = start(FAMILY)
    pids = family(process)
    process.freeze()
    assert [state(pid) for pid in pids] == ["T", "T"]
    assert process.running
    process.thaw()
    wait_until(lambda: "T" not in [state(pid) for pid in pids], what="both run again")


def test_frozen_can_be_killed(start: Start) -> None:
    """SIGKILL needs no thaw."""
    process = start(FAMILY)
    pids = family(process)
    process.freeze()
    process.kill()
    assert not any(map(is_running, pids))


def test_stop_is_a_request(start: Start) -> None:
    """SIGTERM, and the status tells that it was that."""
    process = start(FAMILY)
    family(process)
    assert process.stop() == 128 + signal.SIGTERM


def test_not_stopping_is_an_error(start: Start) -> None:
    """A program that ignores the request is killed, and the test fails."""
    process = start(DEAF + "signal.pause()")
    wait_until(lambda: process.tail() == "up", what="the program ignores SIGTERM")
    with pytest.raises(AssertionError, match="did not end within"):
        process.stop(within=0.2)
    assert not process.running


def test_orders_to_the_dead_do_nothing(start: Start) -> None:
    """A process that has ended can be stopped, frozen and killed without an error."""
    process = start("pass")
    process.wait()
    process.freeze()
    process.thaw()
    process.kill()
    assert process.status == 0


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """The reason is in the error."""
    with pytest.raises(RuntimeError, match="No such file"):
        Process(
            name="nothing",
            command=[str(tmp_path / "nothing")],
            environment={},
            log=tmp_path / "log",
            cwd=tmp_path,
        )


OWNER = """
import os, pathlib, signal, sys
from tests.services.process import Process
here = pathlib.Path(sys.argv[1])
Process(name="program", command=[sys.executable, "-c", sys.argv[2]], environment=os.environ,
        log=here / "log", cwd=here, folder=here / "data")
signal.pause()
"""


def test_nothing_outlives_its_owner(tmp_path: Path) -> None:
    """The owner is killed with SIGKILL: program, child and data are gone soon."""
    (tmp_path / "data").mkdir()
    log = tmp_path / "log"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), FAMILY], cwd=ROOT)
    try:
        wait_until(lambda: log.exists() and len(log.read_text().split()) == 2, what="both run")
    finally:
        owner.kill()
        owner.wait()
    pids = [int(pid) for pid in log.read_text().split()]
    wait_until(lambda: not any(map(is_running, pids)), what="the program and its child are gone")
    wait_until(lambda: not (tmp_path / "data").exists(), what="the data is gone")
