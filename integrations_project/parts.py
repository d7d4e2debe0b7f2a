"""Asking what may hang: on a thread, and not for longer than a second."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connection

SECONDS = 1.0
TIMED_OUT = f"no answer within {SECONDS:g} s"


class Part:
    """Something this process depends on, asked on a thread that may hang longer than we wait.

    While one question hangs, no other is asked: probes never pile up threads.
    """

    def __init__(self, question: Callable[[], str]) -> None:
        self._question = question
        self._lock = threading.Lock()
        self._asked: _Question | None = None

    def ask(self) -> None:
        with self._lock:
            if self._asked is None or self._asked.answered.is_set():
                self._asked = _Question(self._question)
                self._asked.start()

    def answer(self) -> str:
        """What the last question brought, or that it brought nothing in time."""
        return self.outcome()[1]

    def outcome(self) -> tuple[bool, str]:
        """The answer, and whether it is one: not so when the question failed, or took too long."""
        asked = self._asked
        if asked is None or not asked.answered.wait(SECONDS):
            return False, TIMED_OUT
        return asked.well, asked.answer


class _Question(threading.Thread):
    def __init__(self, question: Callable[[], str]) -> None:
        super().__init__(name="readyz", daemon=True)
        self._ask = question
        self.answered = threading.Event()
        self.answer = ""
        self.well = False

    def run(self) -> None:
        try:
            self.answer = self._ask()
            self.well = True
        except Exception as error:  # noqa: BLE001 - whatever it is, this part does not answer
            self.answer = type(error).__name__
        finally:
            self.answered.set()
            connection.close()
