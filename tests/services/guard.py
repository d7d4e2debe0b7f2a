"""Run one program for as long as its owner lives.

Usage: python guard.py LOG FOLDER USER -- PROGRAM [ARGUMENT...]

The owner holds the other end of standard input. It writes `one N` to send signal N to the program
and `all N` to send it to everything the program has started, and reads `done` once the signal has
taken effect. When the owner is gone, even by SIGKILL, standard input ends: everything is killed
and FOLDER ("" for none) is removed. When the program ends, what it left behind is killed too, and
the guard exits with its status (128 + N after signal N). USER, as UID:GID, is who the program runs
as ("" for ourselves).

Knows nothing of the project: it is run by path, isolated.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
PAUSE_SECONDS = 0.005
STOP_SECONDS = 2.0


def main(arguments: list[str]) -> int:
    log, folder, user, _, *command = arguments
    adopt_orphans()
    woken = wake_on_child()
    with open(log, "ab") as output:  # noqa: PTH123 - no need to import pathlib for this
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **identity(user),
        )
    answer(f"pid {program.pid}")
    orders = b""
    while program.poll() is None:
        ready = select.select([0, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
        if 0 not in ready:
            continue
        received = os.read(0, 4096)
        if not received:
            end(program)
            shutil.rmtree(folder or os.devnull, ignore_errors=True)
            return 1
        *lines, orders = (orders + received).split(b"\n")
        for line in lines:
            obey(program, line.decode())
    end(program)
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def identity(user: str) -> dict[str, Any]:
    """The arguments of Popen that make a program run as this user."""
    if not user:
        return {}
    uid, gid = map(int, user.split(":"))
    return {"user": uid, "group": gid, "extra_groups": []}


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs (daemons), so that none is out of reach."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def wake_on_child() -> int:
    """A descriptor that becomes readable when a child changes its state."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def answer(line: str) -> None:
    with suppress(BrokenPipeError):
        os.write(1, f"{line}\n".encode())


def obey(program: subprocess.Popen[bytes], order: str) -> None:
    whom, number = order.split()
    if whom == "all":
        signal_all(program, int(number))
    else:
        program.send_signal(int(number))
    answer("done")


def signal_all(program: subprocess.Popen[bytes], number: int) -> None:
    """Signal every descendant; for SIGSTOP, until none of them runs."""
    send(program, number)
    deadline = time.monotonic() + STOP_SECONDS
    while number == signal.SIGSTOP and time.monotonic() < deadline:
        if all(state in "TtZX" for state in descendants().values()):
            return
        time.sleep(PAUSE_SECONDS)
        send(program, number)


def send(program: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, number)
    for pid in descendants():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end(program: subprocess.Popen[bytes]) -> None:
    """Kill the program and everything it has started, and wait until it is gone."""
    if program.poll() is None:
        send(program, signal.SIGKILL)
        program.wait()
    while descendants():
        send(program, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(PAUSE_SECONDS)


def descendants() -> dict[int, str]:
    """Every descendant with its state, as /proc tells; empty where there is no /proc."""
    parents: dict[int, tuple[int, str]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat") as file:  # noqa: PTH123
                state, parent = file.read().rpartition(")")[2].split()[:2]
                parents[int(name)] = (int(parent), state)
    family = {os.getpid()}
    found: dict[int, str] = {}
    while True:
        new = {pid: state for pid, (parent, state) in parents.items() if parent in family}
        if new.keys() <= found.keys():
            return found
        found |= new
        family |= new.keys()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
