"""The id that ties together what one request caused: log lines, calls, and what providers saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

REQUEST_ID_HEADER = "X-Request-ID"
LONGEST = 128

_current: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return _current.get()


@contextmanager
def bind_request_id(request_id: str) -> Iterator[None]:
    """Let `request_id` be the current one while the block runs."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)


def usable(text: str) -> bool:
    """Whether somebody else's id can be taken over: 1 to 128 visible ASCII characters."""
    return 0 < len(text) <= LONGEST and all("!" <= character <= "~" for character in text)
