"""What is refused is counted, and a sample of it logged: never stored, and never quoted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog

from webhooks.errors import DeliveryRefused, UnknownSource

logger = structlog.get_logger(__name__)

SAMPLES = 10  # log lines in one window, whoever knocks
WINDOW_SECONDS = 60.0


class RejectCounter:
    """Counts refusals by source and kind, and logs at most `samples` of them per window."""

    def __init__(
        self,
        *,
        samples: int = SAMPLES,
        window: float = WINDOW_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._samples = samples
        self._window = window
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._window_ends = 0.0
        self._logged = 0
        self._silenced = 0

    def note(self, source: str, refusal: DeliveryRefused) -> None:
        """Count one refusal. Names that are no source of ours are all counted as ''."""
        source = "" if isinstance(refusal, UnknownSource) else source
        with self._lock:
            self.counts[source, refusal.kind] += 1
            now = self._monotonic()
            if now >= self._window_ends:
                self._window_ends, self._logged = now + self._window, 0
            if self._logged == self._samples:
                self._silenced += 1
                return
            self._logged += 1
            silenced, self._silenced = self._silenced, 0
        logger.warning(
            "delivery_refused",
            source=source,
            kind=refusal.kind,
            status=refusal.http_status,
            reason=str(refusal),
            silenced_before=silenced,
        )


rejects = RejectCounter()
"""This process's refusals."""
