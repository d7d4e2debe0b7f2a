"""Form encoding as Stripe v1 reads it: metadata[key]=v, items[0]=v, true and false.

https://docs.stripe.com/api (the body is form-encoded, replies are JSON)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode


def encode_form(fields: Mapping[str, Any]) -> str:
    """One spelling for equal fields, None left out: a key always goes with the same bytes."""
    pairs = (pair for name, value in fields.items() for pair in _pairs(name, value))
    return urlencode(sorted(pairs), safe="[]")


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, Mapping | list | tuple):
        members: Iterable[tuple[Any, Any]] = (
            value.items() if isinstance(value, Mapping) else enumerate(value)
        )
        for key, member in members:
            yield from _pairs(f"{name}[{key}]", member)
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    else:
        yield name, str(value)
