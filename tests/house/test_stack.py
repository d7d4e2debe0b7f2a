"""The supervisor under `./dev run` and the demo, with small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import stack as stack_module
from devtools.stack import ROOT, Stack
from tests.house.polling import wait_until
from tests.house.processes import in_session, is_running, with_marker

SLEEPS = "import time\nprint('up', flush=True)\ntime.sleep(600)"
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPS}"
POLITE = f"""\
import signal, sys
def end(*_):
    print('finished', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
{SLEEPS}"""
PARENT = f"""\
import subprocess, sys
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
{SLEEPS}"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Printed:
    """What each process printed."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = defaultdict(list)
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        with self._lock:
            self._lines[name].append(line)

    def __getitem__(self, name: str) -> list[str]:
        with self._lock:
            return list(self._lines[name])


@pytest.fixture
def printed() -> Printed:
    return Printed()


@pytest.fixture
def marker() -> str:
    return f"HOLDFAST_TEST={uuid.uuid4()}"


@pytest.fixture
def stack(printed: Printed, marker: str) -> Iterator[Stack]:
    name, _, value = marker.partition("=")
    stack = Stack(environment={**os.environ, name: value}, write=printed)
    yield stack
    stack.stop(grace=0)
    assert with_marker(marker) == []


def add(stack: Stack, name: str, program: str) -> None:
    stack.add(name=name, command=[sys.executable, "-c", program])


def started(stack: Stack, printed: Printed, name: str) -> int:
    """The process's id, once it has printed its first line."""
    wait_until(lambda: "up" in printed[name])
    pid = stack.pid(name)
    assert pid
    return pid


def test_a_process_runs_and_stops(stack: Stack, printed: Printed) -> None:
    """Start, see it run, stop: it is gone, and so is its id."""
    add(stack, "one", SLEEPS)
    assert stack.pid("one") is None
    stack.start()
    pid = started(stack, printed, "one")
    assert is_running(pid)
    stack.stop()
    assert not is_running(pid)
    assert stack.pid("one") is None


def test_it_may_finish_its_work(stack: Stack, printed: Printed) -> None:
    """Stopping is SIGTERM first: a process that takes its leave is not killed."""
    add(stack, "one", POLITE)
    stack.start()
    started(stack, printed, "one")
    stack.stop()
    assert printed["one"] == ["up", "finished"]


def test_one_that_does_not_stop_is_killed(stack: Stack, printed: Printed) -> None:
    """After the grace a process that ignores SIGTERM is killed, and said to be."""
    add(stack, "one", STUBBORN)
    stack.start()
    pid = started(stack, printed, "one")
    stack.stop(grace=0.3)
    assert not is_running(pid)
    assert printed["one"][-1] == "did not stop in time; killed"


def test_hurry_cuts_the_grace_short(stack: Stack, printed: Printed) -> None:
    """A second Ctrl-C does not wait for the end of the grace."""
    add(stack, "one", STUBBORN)
    stack.start()
    pid = started(stack, printed, "one")
    stack.hurry()
    stack.stop(grace=3600)
    assert not is_running(pid)


def test_a_killed_process_comes_back(stack: Stack, printed: Printed) -> None:
    """SIGKILL from outside: another process takes its place, under a new id."""
    add(stack, "one", SLEEPS)
    stack.start()
    first = started(stack, printed, "one")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: stack.restarts("one") == 1 and stack.pid("one"))
    assert stack.pid("one") != first
    assert "ended (killed by SIGKILL); starting again in 0.5 s" in printed["one"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What dies comes back without much of a pause."""
    monkeypatch.setattr(stack_module, "FIRST_DELAY_SECONDS", 0.01)


@pytest.mark.usefixtures("at_once")
def test_kill_is_sigkill(stack: Stack, printed: Printed) -> None:
    """The demo's kill gives no chance to clean up, and the process comes back."""
    add(stack, "one", POLITE)
    stack.start()
    started(stack, printed, "one")
    stack.kill("one")
    wait_until(lambda: stack.restarts("one") == 1)
    assert "finished" not in printed["one"]


@pytest.mark.usefixtures("at_once")
def test_children_of_a_killed_process_die_with_it(stack: Stack, printed: Printed) -> None:
    """A dead parent's children hold ports and files: they go before it comes back."""
    add(stack, "one", PARENT)
    stack.start()
    first = started(stack, printed, "one")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: stack.restarts("one") == 1)
    assert in_session(first) == []


def test_the_back_off_grows(
    stack: Stack, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot run is tried again ever more slowly, up to a bound."""
    monkeypatch.setattr(stack_module, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(stack_module, "LONGEST_DELAY_SECONDS", 0.05)
    add(stack, "one", "import sys; sys.exit(3)")
    stack.start()
    wait_until(lambda: len(printed["one"]) >= 5)
    delays = ["0.01", "0.02", "0.04", "0.05", "0.05"]
    assert printed["one"][:5] == [
        f"ended (exit status 3); starting again in {delay} s" for delay in delays
    ]


def test_a_program_that_does_not_exist(stack: Stack, printed: Printed) -> None:
    """A wrong command is told, not raised in a thread nobody sees."""
    stack.add(name="one", command=["/nowhere/program"])
    stack.start()
    wait_until(lambda: len(printed["one"]) >= 2)
    assert printed["one"][0] == "cannot start /nowhere/program: No such file or directory"
    assert "exit status 127" in printed["one"][1]


def test_one_can_be_stopped_and_started_alone(stack: Stack, printed: Printed) -> None:
    """The others go on; a stopped one stays down until it is started."""
    add(stack, "one", SLEEPS)
    add(stack, "two", SLEEPS)
    stack.start()
    one, two = started(stack, printed, "one"), started(stack, printed, "two")
    stack.stop("one")
    assert (is_running(one), is_running(two)) == (False, True)
    assert stack.restarts("one") == 0
    stack.start("one")
    again = stack.pid("one")
    assert again is not None
    assert is_running(again)
    assert stack.pid("two") == two


def test_a_second_start_does_nothing(stack: Stack, printed: Printed) -> None:
    """Starting what runs starts no second copy."""
    add(stack, "one", SLEEPS)
    stack.start()
    pid = started(stack, printed, "one")
    stack.start()
    assert stack.pid("one") == pid


SUPERVISOR = f"""\
import os, sys
from devtools.stack import Stack
stack = Stack(environment=os.environ)
stack.add(name="one", command=[sys.executable, "-c", {SLEEPS!r}])
stack.add(name="two", command=[sys.executable, "-c", {STUBBORN!r}])
stack.start()
sys.stdin.read()
"""


def test_nothing_outlives_a_killed_supervisor(marker: str, tmp_path: Path) -> None:
    """SIGKILL of the supervisor itself: the kernel takes its processes along."""
    name, _, value = marker.partition("=")
    with (tmp_path / "output").open("w") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR],
            cwd=ROOT,
            env={**os.environ, name: value},
            stdin=subprocess.PIPE,
            stdout=output,
        )
    wait_until(lambda: (tmp_path / "output").read_text().count("| up") == 2)
    assert len(with_marker(marker)) == 3
    supervisor.kill()
    supervisor.communicate()
    wait_until(lambda: with_marker(marker) == [])
