"""Start a set of processes, keep them running, stop them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

ROOT = Path(__file__).resolve().parent.parent
LEASH = Path(__file__).with_name("leash.py")

GRACE_SECONDS = 25.0  # above a worker's soft shutdown and a call's total deadline
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 15.0
RELAY_SECONDS = 2.0  # for the last lines of a process that has ended
POLL_SECONDS = 0.1
STEADY_SECONDS = 20.0  # having run this long, a process starts its back-off afresh

Write = Callable[[str, str], None]


class Stack:
    """Named processes, each in its own session and restarted when it dies.

    Nothing outlives the stack: on Linux the kernel kills every process when this one ends, also by
    SIGKILL. `write` takes a process's name and one line of what it printed.
    """

    def __init__(
        self, *, environment: Mapping[str, str], write: Write | None = None, cwd: Path = ROOT
    ) -> None:
        self._environment = dict(environment)
        self._write = write or print_line
        self._cwd = cwd
        self._children: dict[str, Child] = {}
        self._hurried = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def names(self) -> list[str]:
        """In the order in which they were added."""
        return list(self._children)

    def add(
        self, *, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Declare a process; `environment` is added to the stack's own."""
        self._children[name] = Child(
            name=name,
            command=list(command),
            environment={**self._environment, **(environment or {})},
            cwd=self._cwd,
            write=self._write,
        )

    def start(self, *names: str) -> None:
        """Start these, or all in the order in which they were added."""
        for name in names or self.names:
            self._children[name].start()

    def stop(self, *names: str, grace: float = GRACE_SECONDS) -> None:
        """Ask these, or all, to end (SIGTERM); after `grace` seconds kill what has not ended."""
        children = [self._children[name] for name in names or self.names]
        for child in children:
            child.ask_to_end()
        deadline = time.monotonic() + grace
        for child in children:
            child.end(by=deadline, hurried=self._hurried)

    def hurry(self) -> None:
        """Cut the grace of this and every later stop short. May be called by a signal handler."""
        self._hurried.set()

    def kill(self, name: str) -> None:
        """SIGKILL the process and everything it started; it comes back by itself."""
        self._children[name].kill()

    def pid(self, name: str) -> int | None:
        """The process's id, None while it is not running."""
        return self._children[name].pid

    def restarts(self, name: str) -> int:
        """How often it has been started again since it was started."""
        return self._children[name].restarts


class Child:
    """One process and the thread that keeps it running."""

    def __init__(
        self,
        *,
        name: str,
        command: list[str],
        environment: dict[str, str],
        cwd: Path,
        write: Write,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._command = command
        self._environment = environment
        self._cwd = cwd
        self._write = write
        self._keeper: threading.Thread | None = None
        self._stopping = threading.Event()
        self._started = threading.Event()
        # While this is held and _process is set, its id is neither reaped nor reused.
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        with self._lock:
            return self._process.pid if self._process else None

    def start(self) -> None:
        """Returns once the process exists. Does nothing while it is kept running."""
        if self._keeper and self._keeper.is_alive():
            return
        self.restarts = 0
        self._stopping.clear()
        self._started.clear()
        self._keeper = threading.Thread(target=self._keep, name=f"keep {self.name}", daemon=True)
        self._keeper.start()
        self._started.wait()

    def ask_to_end(self) -> None:
        """SIGTERM: the soft way out."""
        self._stopping.set()
        with self._lock:
            if self._process:
                os.kill(self._process.pid, signal.SIGTERM)

    def end(self, *, by: float, hurried: threading.Event) -> None:
        """Wait for the end until `by` on the monotonic clock, or until hurried; then kill."""
        if not self._keeper:
            return
        while self._keeper.is_alive() and time.monotonic() < by and not hurried.is_set():
            self._keeper.join(POLL_SECONDS)
        if self._keeper.is_alive():
            self._write(self.name, "did not stop in time; killed")
            self.kill()
            self._keeper.join()

    def kill(self) -> None:
        """SIGKILL to the whole session."""
        with self._lock:
            if self._process:
                kill_group(self._process.pid)

    def _keep(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            status = self._run()
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            self._write(self.name, f"ended ({describe(status)}); starting again in {delay:g} s")
            self._stopping.wait(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)
            self.restarts += 1

    def _run(self) -> int:
        try:
            with self._lock:
                if self._stopping.is_set():
                    return 0
                process = self._process = self._spawn()
        finally:
            self._started.set()
        output = threading.Thread(target=self._relay, args=(process.stdout,), daemon=True)
        output.start()
        wait_without_reaping(process)
        with self._lock:
            self._process = None
            kill_group(process.pid)
        status = process.wait()
        output.join(RELAY_SECONDS)
        return status

    def _spawn(self) -> subprocess.Popen[bytes]:
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
        return subprocess.Popen(
            [*leash, *self._command],
            cwd=self._cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _relay(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._write(self.name, line.decode(errors="replace").rstrip())


def wait_without_reaping(process: subprocess.Popen[bytes]) -> None:
    """Until it has ended; where the system can, its id stays taken until it is reaped."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()


def kill_group(pid: int) -> None:
    """SIGKILL what is left of the session that `pid` leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def describe(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


_printing = threading.Lock()


def print_line(name: str, line: str) -> None:
    """One line on standard output, under the name of who said it."""
    with _printing, suppress(OSError, ValueError):  # the terminal may be gone
        print(f"{name:<8}| {line}", flush=True)
