"""One `./dev run` for each state folder, and what other commands can know of it."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from devtools.trouble import Trouble

LOOKS, LOOK_SECONDS = 5, 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """Where a stack listens; `sandbox_port` is None when it talks to a real provider."""

    port: int
    sandbox_port: int | None


@contextmanager
def only_one(*, state: Path, running: Running) -> Iterator[None]:
    """Tell others of this stack while it runs. Raises Trouble when one runs already, or when the
    folder cannot be written. The lock ends with the process, however it ends."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        file = _path(state).open("a+", encoding="ascii")
    except OSError as error:
        raise Trouble(f"cannot write to {state}: {error.strerror}") from error
    with file:
        if not _locked_at_last(file):
            raise Trouble(f"./dev run is up already with its state in {state}; stop it first")
        file.truncate(0)
        file.write(json.dumps(asdict(running)))
        file.flush()
        yield


def find_running(*, state: Path) -> Running | None:
    """The stack that is up with its state in this folder."""
    try:
        with _path(state).open(encoding="ascii") as file:
            if _locked(file, shared=True):
                return None
            return Running(**json.load(file))
    except (OSError, ValueError, TypeError):  # none yet, or just being written
        return None


def _path(state: Path) -> Path:
    return state / "run.json"


def _locked_at_last(file: IO[str]) -> bool:
    """Others take the lock for a moment, to see whether anybody holds it."""
    for _ in range(LOOKS):
        if _locked(file):
            return True
        time.sleep(LOOK_SECONDS)
    return False


def _locked(file: IO[str], *, shared: bool = False) -> bool:
    """Whether the lock could be taken; it is held until the file is closed."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
