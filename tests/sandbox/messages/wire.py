"""What the tests of all providers of messages have in common."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from requests.structures import CaseInsensitiveDict

from sandbox.control import Sandbox
from tests.sandbox.api import Answer, Api
from tests.sandbox.receiver import Receiver
from webhooks.sources import Source


def post_json(api: Api, path: str, document: Any, **headers: str) -> Answer:
    """A POST of JSON; header names with underscores in place of hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = document if isinstance(document, str) else json.dumps(document)
    return api.send("POST", path, body, {"Content-Type": "application/json", **named})


def track(sandbox: Sandbox, receiver: Receiver, provider: str, **more: Any) -> str:
    """Have the provider tell the receiver, step after step at once. What it is verified with."""
    sandbox.change_tracking(provider, url=receiver.url, **more)
    sandbox.change_provider(provider, step_seconds=0.01)
    return str(sandbox.tracking()[provider]["proofs"][0])


def verified(receiver: Receiver, source: Source, *, url: str = "") -> list[dict[str, Any]]:
    """The payloads of all that came, each accepted by our own source."""
    found = []
    for received in receiver.received:
        headers = CaseInsensitiveDict(received.headers)
        source.verify(received.body, headers, now=datetime.now(UTC), url=url)
        found += [dict(each.payload) for each in source.parse(received.body, headers)]
    return found
