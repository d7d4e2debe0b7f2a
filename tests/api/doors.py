"""Every operation of the API, and a request that each would take: rules that hold for all of them
are tested from these tables, which a new operation has to join."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.api.conftest import PAYMENT

WRITES: dict[str, dict[str, Any]] = {  # what makes a call, and takes an Idempotency-Key
    "/payment-intents": PAYMENT,
    "/customers": {"email": "jo@example.com"},
    "/refunds": {"payment_intent": "pi_elsewhere"},
    "/payment-intents/{payment_intent}/cancel": {"reason": "abandoned"},
    "/emails": {"to": "ann@example.com", "subject": "Receipt", "text": "Thank you."},
    "/bulk-emails": {
        "recipients": [{"address": "ann@example.com", "variables": {"name": "Ann"}}],
        "subject": "Hi {{name}}",
        "text": "Thank you.",
    },
    "/sms": {"to": "+15005550006", "body": "Your code is 7."},
    "/push": {"token": "token-1", "title": "Hello"},
}
SEVERAL_CALLS = {"/bulk-emails"}  # it is answered with all of them
OTHERS: dict[str, dict[str, Any]] = {  # what is guarded by a status instead
    "/calls/{call_id}/retry": {"as_new": True, "reason": "the card works now"},
    "/calls/{call_id}/cancel": {"reason": "not wanted any more"},
    "/events/{event_id}/replay": {"reason": "fixed"},
}
POSTS = {**WRITES, **OTHERS}

# As it is committed, which tests/api/test_front.py holds current: to make it takes a second.
DOCUMENT: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs/openapi.json").read_text()
)
DESCRIBED: dict[str, dict[str, Any]] = {
    path.removeprefix("/api/v1"): methods for path, methods in DOCUMENT["paths"].items()
}
OPERATIONS = [(method.upper(), path) for path, methods in DESCRIBED.items() for method in methods]


def filled(path: str, **names: str) -> str:
    """The path with its parameters: an id of nothing, where none is given."""
    return re.sub(r"{(\w+)}", lambda found: names.get(found[1], "pi_nothing"), path)


def fields_of(path: str) -> set[str]:
    """The names that a POST's body may have, as it is described."""
    body = DESCRIBED[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    models = [body, *body.get("anyOf", [])]
    [name] = [model["$ref"].rpartition("/")[2] for model in models if "$ref" in model]
    return set(DOCUMENT["components"]["schemas"][name]["properties"])
