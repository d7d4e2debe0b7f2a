"""What is refused is counted, and a sample of it logged and stored: never quoted, and never at the
sender's pace.

A refusal is answered without the database. A thread of its own hands counts and samples on, at most
once a second, so that a flood writes no more than a trickle does; while the database is away the
counts wait, and samples are dropped.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import connection

from outbound.redaction import sanitise
from webhooks import metrics, reject_rows
from webhooks.addresses import network_of, sender_of
from webhooks.errors import DeliveryRefused, UnknownSource
from webhooks.reject_rows import Sample

logger = structlog.get_logger(__name__)

SAMPLES = 10  # log lines in one window, whoever knocks
WINDOW_SECONDS = 60.0
STORED = 10  # samples of one write, at most one of each source and kind
PAUSE_SECONDS = 1.0  # between two writes
TROUBLE_SECONDS = 10.0  # after one that failed
AGENT_CHARACTERS = 120
MAX_LENGTH = 2**31 - 1  # that the column holds


class Recorder:
    """Counts and samples on their way to the database, and the daemon thread that takes them
    there, made anew after a fork."""

    def __init__(
        self,
        record: Callable[[Mapping[str, int], list[Sample]], None],
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._record = record
        self._pause = pause
        self._lock = threading.Lock()
        self._waiting = threading.Event()
        self._pid = 0
        self._counts: Counter[str] = Counter()
        self._samples: dict[tuple[str, str], Sample] = {}

    def put(self, source: str, kind: str, sample: Callable[[], Sample]) -> None:
        """Count a refusal, and take a sample where there is room. Never waits for the database."""
        with self._lock:
            self._counts[source] += 1
            if len(self._samples) < STORED and (source, kind) not in self._samples:
                self._samples[source, kind] = sample()
        self._waiting.set()
        if self._pid != os.getpid():
            self.start()

    def start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
        threading.Thread(target=self._run, name="reject-recorder", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._waiting.wait()
            self._waiting.clear()
            well = self.flush()
            connection.close()
            self._pause(PAUSE_SECONDS if well else TROUBLE_SECONDS)

    def flush(self) -> bool:
        """Write what there is. False when that failed: the counts are kept then."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            samples, self._samples = self._samples, {}
        try:
            self._record(counts, list(samples.values()))
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on
            logger.warning("rejects_not_recorded", error=type(error).__name__)
            with self._lock:
                self._counts.update(counts)
            self._waiting.set()
            return False
        return True


class RejectCounter:
    """Counts refusals by source and kind, logs at most `samples` of them per window, and hands
    them on to be stored."""

    def __init__(
        self,
        *,
        samples: int = SAMPLES,
        window: float = WINDOW_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        recorder: Recorder | None = None,
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._samples = samples
        self._window = window
        self._monotonic = monotonic
        self._recorder = recorder
        self._lock = threading.Lock()
        self._window_ends = 0.0
        self._logged = 0
        self._silenced = 0

    def note(
        self,
        source: str,
        refusal: DeliveryRefused,
        *,
        status: int = 0,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Count one refusal, answered with `status` (its own unless said). `meta`: the request's.
        Names that are no source of ours are all counted as ''."""
        if isinstance(refusal, UnknownSource) and source not in settings.WEBHOOK_SOURCES:
            source = ""
        status = status or refusal.http_status
        metrics.rejects.labels(source, refusal.kind).inc()
        if self._recorder is not None:
            take = partial(sample_of, source, refusal, status=status, meta=meta or {})
            self._recorder.put(source, refusal.kind, take)
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
            status=status,
            reason=str(refusal),
            silenced_before=silenced,
        )


def sample_of(
    source: str, refusal: DeliveryRefused, *, status: int, meta: Mapping[str, Any]
) -> Sample:
    """What may be stored of a refusal."""
    length = str(meta.get("CONTENT_LENGTH") or "")
    declared = int(length) if length.isascii() and length.isdigit() and len(length) < 11 else None
    return Sample(
        source=source,
        kind=refusal.kind,
        status=status,
        network=network_of(sender_of(meta)),
        user_agent=sanitise(str(meta.get("HTTP_USER_AGENT") or ""), limit=AGENT_CHARACTERS),
        length=declared if declared is None or declared <= MAX_LENGTH else None,
    )


rejects = RejectCounter(recorder=Recorder(reject_rows.record))
"""This process's refusals."""
