"""How the demo speaks, and how it waits for something to say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from devtools.trouble import Trouble

PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.1

Found = TypeVar("Found")


def wait_for(seen: Callable[[], Found], what: str) -> Found:
    """As soon as `seen` is true. Raises Trouble when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := seen()):
        if time.monotonic() > deadline:
            raise Trouble(f"waited {PATIENCE_SECONDS:.0f} s for {what}")
        time.sleep(POLL_SECONDS)
    return found


def words(counts: Counter[str]) -> str:
    """Counts as people say them, the largest first."""
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


def say(line: str) -> None:
    print(line, flush=True)


def print_table(rows: list[tuple[str, str]], *, took: float) -> None:
    width = max(len(name) for name, _ in rows)
    say("")
    for name, value in rows:
        say(f"  {name:<{width}}  {value}")
    say(f"\nTook {took:.0f} s.")
