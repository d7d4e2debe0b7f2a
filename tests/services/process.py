"""A real process of a test: it can be stopped, frozen and killed, and never outlives the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

GUARD = Path(__file__).with_name("guard.py")
END_SECONDS = 20.0


class Process:
    """One program and everything it starts, under a guard that ends with this process.

    `log` gets what it prints. `folder` is removed if this process dies without `kill` or `stop`.
    `user` is who it runs as (needs root), as "uid:gid"; empty means ourselves.
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        cwd: Path,
        folder: Path | None = None,
        user: str = "",
    ) -> None:
        self.name = name
        self.log = log
        guard = [sys.executable, "-I", "-S", str(GUARD), str(log), str(folder or ""), user]
        with log.open("ab") as errors:
            self._guard = subprocess.Popen(
                [*guard, "--", *command],
                bufsize=0,  # an order that nobody takes any more must not wait in a buffer
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        greeting = self._answer()
        if not greeting:
            self.wait()
            raise RuntimeError(f"{name} could not be started:\n{self.tail()}")
        self.pid = int(greeting.split()[1])

    @property
    def running(self) -> bool:
        """Whether it has not ended. A frozen process is running."""
        return self._guard.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status, 128 + N after signal N; None while it runs."""
        return self._guard.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the program itself. Does nothing once it has ended."""
        self._order(f"one {int(number)}")

    def freeze(self) -> None:
        """SIGSTOP the program and everything it has started; returns when all stand still."""
        self._order(f"all {int(SIGSTOP)}")

    def thaw(self) -> None:
        self._order(f"all {int(SIGCONT)}")

    def kill(self) -> None:
        """SIGKILL the program and everything it has started; returns when all are gone."""
        self._order(f"all {int(SIGKILL)}")
        self.wait()

    def stop(self, number: int = SIGTERM, *, within: float = END_SECONDS) -> int:
        """Ask it to end, wait, return its status. Killed, and an error, if it does not."""
        self.signal(number)
        try:
            return self.wait(within=within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.name} did not end within {within} s:\n{self.tail()}"
            ) from None

    def wait(self, *, within: float = END_SECONDS) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        status = self._guard.wait(within)
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe and not pipe.closed:
                pipe.close()
        return status

    def tail(self, lines: int = 40) -> str:
        """The last lines of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _order(self, order: str) -> None:
        assert self._guard.stdin
        if self._guard.stdin.closed:
            return
        try:
            self._guard.stdin.write(f"{order}\n".encode())
        except BrokenPipeError:
            return
        self._answer()

    def _answer(self) -> str:
        """One line of the guard; empty when it has ended."""
        assert self._guard.stdout
        return self._guard.stdout.readline().decode().strip()
