"""Where the processes of one machine add up their counters, so that any of them can show them all.

https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
COUNTED_BY = re.compile(r"\w+_(\d+)\.db")


def share(folder: str) -> bool:
    """Count into this folder from now on. To be called before prometheus_client is imported, which
    decides then. Returns whether the folder can be used; the system checks name one that cannot."""
    if not usable(folder):
        return False
    os.environ[VARIABLE] = folder
    return True


def usable(folder: str) -> bool:
    """Whether it is a folder that can be written, and made where it is missing."""
    with suppress(OSError):
        Path(folder).mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK | os.X_OK)


def forget_the_dead(folder: str) -> int:
    """Remove what processes have left that are no more. Only when the web process starts: their
    counts would be missed while it runs. Returns how many files there were."""
    forgotten = 0
    for path in Path(folder).glob("*.db"):
        match = COUNTED_BY.fullmatch(path.name)
        if match and not _lives(int(match[1])):
            path.unlink(missing_ok=True)
            forgotten += 1
    return forgotten


def _lives(pid: int) -> bool:
    if pid == os.getpid():  # it has only just begun: this was another one of the same number
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
