"""`Prefer: wait=N, handling=strict` (RFC 7240). What is not understood is ignored."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_WAIT = 20

_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,12})\"?", re.IGNORECASE)
_HANDLING = re.compile(r"handling\s*=\s*\"?(strict|lenient)\"?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Preference:
    """wait: seconds that the caller is ready to wait for the outcome; 0: none. strict: rather
    not at all than later."""

    wait: int = 0
    strict: bool = False

    def __str__(self) -> str:
        """For Preference-Applied."""
        return f"wait={self.wait}" + (", handling=strict" if self.strict else "")


def read_preference(header: str) -> Preference:
    """The first of each kind counts, as the RFC says."""
    parts = [part.partition(";")[0].strip() for part in header.split(",")]
    waits = [found[1] for part in parts if (found := _WAIT.fullmatch(part))]
    handlings = [found[1].lower() for part in parts if (found := _HANDLING.fullmatch(part))]
    wait = min(int(waits[0]), LONGEST_WAIT) if waits else 0
    return Preference(wait=wait, strict=bool(wait) and handlings[:1] == ["strict"])
