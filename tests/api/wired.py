"""A peer on loopback in the provider's place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytest_django import Settings

from tests.outbound import wire


@contextmanager
def provider(settings: Settings, *behaviours: wire.Behaviour, **entry: Any) -> Iterator[wire.Peer]:
    """A peer that behaves so, and no patience with it. `entry`: changes of the adapter's entry."""
    stripe = settings.OUTBOUND_ADAPTERS["stripe"]
    with wire.peer(*behaviours) as peer:
        settings.OUTBOUND_ADAPTERS = {
            "stripe": {
                **stripe,
                "OPTIONS": {**stripe["OPTIONS"], "API_BASE": peer.url},
                "POLICY": {"connect_timeout": 0.1, "read_timeout": 0.2, "total_timeout": 5.0},
                **entry,
            }
        }
        yield peer


def stripe_error(
    sort: str, *, status: int, code: str = "", param: str = "", headers: str = ""
) -> wire.Behaviour:
    """A refusal in Stripe's own words."""
    members = {"type": sort, "code": code, "param": param, "message": "because"}
    body = json.dumps({"error": {name: value for name, value in members.items() if value}})
    return wire.answers(wire.reply(body.encode(), status=f"{status} No", headers=headers))
