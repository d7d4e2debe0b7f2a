"""What the front door refuses: each is an RFC 9457 problem. https://www.rfc-editor.org/rfc/rfc9457"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outbound.errors import FieldError


class Problem(Exception):
    """An answer that says what is wrong. `detail` is shown to the caller: it never quotes what
    was sent, and no secret. `code` is a word for programs, `param` the provider's name of a
    field, `errors` name fields of ours, `more` are further members."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str,
        param: str = "",
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.param = param
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.more = dict(more or {})


class ClientRefused(ValueError):
    """What was asked for a client cannot be done."""
