"""What the control endpoint shows and does of the providers of messages."""

from __future__ import annotations

from typing import Any

from sandbox.console.views import page
from sandbox.fields import BadInput, Fields
from sandbox.messages.provider import MessageProvider
from sandbox.messages.stories import STEPS
from sandbox.messages.tellings import TELLINGS
from sandbox.provider import Provider
from sandbox.records import as_json

Json = dict[str, Any]


class Messaging:
    """Every method raises BadInput when it is not understood."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def messages(self, given: Json) -> Json:
        """What arrived, oldest first, each recipient's own; by provider, to, object, kind or
        status."""
        asked = dict(given)
        if "to" in asked:
            asked["recipient"] = asked.pop("to")
        names = ("provider", "recipient", "object", "kind", "status")
        return page(self._provider.messages.arrivals, asked, names)

    async def track(self, given: Json) -> Json:
        """A `step` of the messages by `object`, `to` or `provider`, told of at once."""
        fields = Fields(given)
        fields.require("step")
        step = fields.text("step", "", choices=STEPS)
        wanted = {
            name: value
            for name, value in (
                ("object", fields.text("object", None)),
                ("recipient", fields.text("to", None)),
                ("provider", fields.text("provider", None)),
            )
            if value is not None
        }
        fields.end()
        found = self._provider.messages.arrivals.page(after=0, limit=10**6, **wanted)
        for name in {message.provider for message in found} or {""}:
            mine = [message for message in found if message.provider == name]
            self._provider.tracker.tell_now(step, mine)
        return {"told": len(found)}

    async def providers(self, given: Json) -> Json:
        """How each of them is."""
        Fields(given).end()
        return {
            name: as_json(provider.conditions)
            for name, provider in self._provider.messages.providers.items()
        }

    async def change_provider(self, given: Json) -> Json:
        """A `provider`'s `down`, `out_of_quota`, `credentials`, `refused`, `gone`, `story`,
        `stories`, `step_seconds`; what is not given stays."""
        fields = Fields(given)
        provider = self._read_provider(fields)
        provider.conditions = provider.conditions.changed(fields)
        return as_json(provider.conditions)

    async def tracking(self, given: Json) -> Json:
        """Where each one tells of its messages, and what its receiver verifies that with."""
        Fields(given).end()
        return {name: self._tracking(name) for name in TELLINGS}

    def _tracking(self, name: str) -> Json:
        endpoint, telling = self._provider.couriers[name].endpoint, TELLINGS[name]
        proofs = [telling.proof(secret) for secret in telling.secrets(endpoint.secrets)]
        return {"url": endpoint.told.get("url", ""), "proofs": proofs}

    def _read_provider(self, fields: Fields) -> MessageProvider:
        fields.require("provider")
        name = fields.text("provider", "")
        found = self._provider.messages.providers.get(name)
        if found is None:
            listed = ", ".join(self._provider.messages.providers)
            raise BadInput(f"there is no provider {name}; there are {listed}")
        return found
