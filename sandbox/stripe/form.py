"""Stripe's form encoding: metadata[key]=v, items[0]=v, items[]=v.

https://docs.stripe.com/api (bodies are form-encoded, answers are JSON)
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from sandbox.stripe.errors import Json, invalid

MAX_PAIRS = 1000
MAX_DEPTH = 8
NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
FORM = "application/x-www-form-urlencoded"


def read_form(octets: bytes) -> Json:
    """Nested dicts of texts; the members of a list are numbered. Raises Refusal."""
    try:
        pairs = parse_qsl(
            octets.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PAIRS,
        )
    except ValueError as error:
        raise invalid(f"Invalid request (check that your POST content type is {FORM}).") from error
    form: Json = {}
    for name, value in pairs:
        _put(form, name, value)
    return form


def _put(form: Json, name: str, value: str) -> None:
    match = NAME.fullmatch(name)
    if match is None:
        raise invalid(f"Invalid parameter name: {name}", param=name)
    keys = match[2][1:-1].split("][") if match[2] else []
    if len(keys) > MAX_DEPTH:
        raise invalid(f"Invalid parameter name: {name}", param=name)
    place: Any = form
    path = [match[1], *keys]
    for key in path[:-1]:
        place = place.setdefault(key or str(len(place)), {})
        if not isinstance(place, dict):
            raise invalid("Invalid object", param=match[1])
    last = path[-1] or str(len(place))
    if isinstance(place.get(last), dict):
        raise invalid("Invalid object", param=match[1])
    place[last] = value
