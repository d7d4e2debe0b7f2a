"""The sandbox as a child process."""

from __future__ import annotations

import selectors
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READY = "sandbox listening on "
SMTP = ", smtp on "


class SandboxError(Exception):
    """The sandbox did not start, or does not do what it was asked."""


def start_process(
    arguments: Sequence[str], *, patience: float
) -> tuple[subprocess.Popen[str], str]:
    """A sandbox that listens, and where, in its own words. Waits `patience` seconds.
    Raises SandboxError."""
    process = subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-m", "sandbox", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        return process, _read_url(process, patience)
    except BaseException:
        finish_process(process)
        raise


def _read_url(process: subprocess.Popen[str], patience: float) -> str:
    if process.stdout is None:
        raise SandboxError("the sandbox was started without a pipe")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(patience):
            raise SandboxError(f"the sandbox does not listen after {patience:g} s")
    line = process.stdout.readline()
    if not line.startswith(READY):
        raise SandboxError(f"the sandbox ended with status {process.wait()}")
    return line.removeprefix(READY).strip()


def finish_process(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and leave nothing behind."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
