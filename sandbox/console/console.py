"""What is under /_control: finds the verb, reads JSON, answers JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from sandbox.console.messaging import Messaging
from sandbox.console.steering import Steering
from sandbox.console.views import Views
from sandbox.fields import BadInput
from sandbox.provider import Provider
from sandbox.stripe.errors import Refusal, encode
from sandbox.wire import Answer, Request

Json = dict[str, Any]
PREFIX = "/_control"


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that can be asked. Its input is the body, or the query where there is none."""

    method: str
    path: str
    act: Callable[[Json], Awaitable[Json]]


class Console:
    """Steers one provider. `cut` ends all connections but the one that asks."""

    def __init__(self, provider: Provider, *, cut: Callable[[], None]) -> None:
        steering, views = Steering(provider, cut=cut), Views(provider)
        messaging = Messaging(provider)
        self._verbs = (
            Verb("GET", "", self._verbs_there_are),
            Verb("GET", "/ledger", views.ledger),
            Verb("GET", "/requests", views.requests),
            Verb("GET", "/deliveries", views.deliveries),
            Verb("GET", "/summary", views.summary),
            Verb("GET", "/faults", views.faults),
            Verb("GET", "/declines", views.declines),
            Verb("GET", "/settings", views.settings),
            Verb("GET", "/webhooks", views.webhooks),
            Verb("POST", "/faults", steering.add_fault),
            Verb("PUT", "/faults/mix", steering.set_mix),
            Verb("DELETE", "/faults", steering.clear_faults),
            Verb("POST", "/declines", steering.add_decline),
            Verb("DELETE", "/declines", steering.clear_declines),
            Verb("PATCH", "/settings", steering.change_settings),
            Verb("PATCH", "/webhooks", steering.change_webhooks),
            Verb("POST", "/webhooks/release", steering.release_webhooks),
            Verb("POST", "/events", steering.emit_event),
            Verb("POST", "/events/resend", steering.resend_event),
            Verb("GET", "/messages", messaging.messages),
            Verb("POST", "/messages/track", messaging.track),
            Verb("GET", "/providers", messaging.providers),
            Verb("PATCH", "/providers", messaging.change_provider),
            Verb("GET", "/tracking", messaging.tracking),
            Verb("POST", "/confirm", steering.confirm),
            Verb("POST", "/keys/forget", steering.forget_keys),
            Verb("POST", "/reset", steering.reset),
        )

    async def answer(self, request: Request) -> Answer:
        """The answer to a request from those who steer."""
        path = request.path[len(PREFIX) :].rstrip("/")
        verbs = {verb.method: verb for verb in self._verbs if verb.path == path}
        if not verbs:
            return _answer(404, {"error": f"there is no {request.path}, see {PREFIX}"})
        verb = verbs.get(request.method)
        if verb is None:
            allow = ", ".join(sorted(verbs))
            answer = _answer(405, {"error": f"{request.path} takes {allow}"})
            return answer.with_headers({"Allow": allow})
        try:
            return _answer(200, await verb.act(_read(request)))
        except BadInput as error:
            return _answer(400, {"error": str(error)})
        except Refusal as refusal:
            return _answer(400, {"error": str(refusal), "stripe": refusal.error})

    async def _verbs_there_are(self, _given: Json) -> Json:
        return {"verbs": [f"{verb.method} {PREFIX}{verb.path}" for verb in self._verbs]}


def _read(request: Request) -> Json:
    """The body, or the query where there is none."""
    if not request.body:
        return dict(parse_qsl(request.query, keep_blank_values=True))
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInput("the body must be a JSON object")
    return document


def _answer(status: int, document: Json) -> Answer:
    return Answer(status, encode(document))
