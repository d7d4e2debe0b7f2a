"""Cursors: positions in a list, in a form that nobody should look into."""

from __future__ import annotations

import base64
import re
import uuid
from datetime import UTC, datetime, timedelta

from api.errors import Problem
from outbound.errors import FieldError
from outbound.paging import Position

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHAPE = re.compile(r"[A-Za-z0-9_-]{32}")


def write_cursor(position: Position | None) -> str | None:
    """Eight bytes of microseconds, sixteen of the id."""
    if position is None:
        return None
    moment = (position.at - EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(moment.to_bytes(8, "big") + position.pk.bytes).decode()


def read_cursor(text: str | None) -> Position | None:
    """Raises Problem for what no page has given out."""
    if text is None:
        return None
    try:
        if not SHAPE.fullmatch(text):
            raise ValueError(text)
        raw = base64.urlsafe_b64decode(text)
        moment = EPOCH + timedelta(microseconds=int.from_bytes(raw[:8], "big"))
    except (ValueError, OverflowError):
        wrong = FieldError("/cursor", "is no cursor that a page has given out")
        raise Problem(422, "the cursor is wrong", code="invalid", errors=[wrong]) from None
    return Position(moment, uuid.UUID(bytes=raw[8:]))
