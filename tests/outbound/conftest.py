"""What the tests of the outbound engine share."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest


@pytest.fixture
def patience() -> Callable[..., AbstractContextManager[None]]:
    """A block that must end: one that hangs ends the test run with a traceback, so that the
    bound can be generous and no test measures time."""

    @contextmanager
    def patience(*, seconds: float) -> Iterator[None]:
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    return patience
