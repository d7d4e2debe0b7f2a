"""What the control endpoint does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sandbox.console.views import settings_document
from sandbox.fields import BadInput, Fields
from sandbox.ids import new_id
from sandbox.messages.tellings import demand_secrets
from sandbox.provider import Provider
from sandbox.stripe.events import Event, make_event
from sandbox.stripe.keys import Scope
from sandbox.stripe.operations import paying
from sandbox.webhooks.policy import Policy

Json = dict[str, Any]
LAST_SECOND = 10**11


class Steering:
    """Changes things. Every method raises BadInput when it is not understood."""

    def __init__(self, provider: Provider, *, cut: Callable[[], None]) -> None:
        self._provider = provider
        self._cut = cut

    async def add_fault(self, given: Json) -> Json:
        """`fault`; `match` {method, path, key, body}; `times` (1; null: until cleared); `rate`;
        `per_key`."""
        return self._provider.rules.add(given).document()

    async def set_mix(self, given: Json) -> Json:
        """`rate`, `kinds`; `match`, `per_key`. Replaces the mix there is."""
        return self._provider.rules.mix(given).document()

    async def clear_faults(self, given: Json) -> Json:
        """One rule by `id`, or all and the mix."""
        return {"cleared": self._provider.rules.clear(_read_id(given))}

    async def add_decline(self, given: Json) -> Json:
        """`amount`, `payment_method`, `customer`, `metadata`: what fits them all is declined, with
        `code` and `decline_code`, until it is cleared."""
        return self._provider.api.declines.add(Fields(given)).document()

    async def clear_declines(self, given: Json) -> Json:
        """One by `id`, or all."""
        return {"cleared": self._provider.api.declines.clear(_read_id(given))}

    async def change_settings(self, given: Json) -> Json:
        """`latency`, `search_lag`, `key_lifetime`, in seconds; what is not given stays."""
        api = self._provider.api
        api.settings = api.settings.changed(Fields(given))
        return settings_document(api.settings)

    async def change_webhooks(self, given: Json) -> Json:
        """`url`, `secrets`, `types`, `timeout`, `retry_seconds`, `policy`, `rules` of Stripe's
        endpoint, or of a `provider`'s; what is not given stays."""
        fields = Fields(given)
        courier = self._provider.courier_of(fields)
        endpoint = courier.endpoint.changed(fields.rest())
        demand_secrets(courier.provider, endpoint.secrets)
        courier.endpoint = endpoint
        return {"webhooks": courier.endpoint.told}

    async def release_webhooks(self, given: Json) -> Json:
        """Let held ones go: of some `types`, up to a `limit`, `shuffle`d; of a `provider`."""
        fields = Fields(given)
        courier = self._provider.courier_of(fields)
        types, limit = fields.texts("types"), fields.integer("limit", None)
        shuffle = fields.flag("shuffle", False)
        fields.end()
        released = courier.release(types=types, limit=limit, shuffle=shuffle)
        return {"released": released}

    async def emit_event(self, given: Json) -> Json:
        """Make an event by hand: `type`, `object`; `id`, `created`, `livemode`, `account`,
        `previous`. Or `raw`: a body that is delivered, signed, as it is. `deliver` (true);
        `policy` in place of the endpoint's."""
        fields = Fields(given)
        policy = Policy.read(fields.fields("policy")) if "policy" in fields else None
        deliver = fields.flag("deliver", True)
        event = _read_raw(fields) if "raw" in fields else _read_event(fields)
        fields.end()
        if "raw" not in given:
            self._provider.api.store.events.add(event)
        if deliver:
            self._provider.courier.accept([event], policy=policy)
        return {"id": event.id}

    async def resend_event(self, given: Json) -> Json:
        """Deliver an `event` again; `policy` in place of the endpoint's."""
        fields = Fields(given)
        fields.require("event")
        id = fields.text("event", "")  # noqa: A001  # Stripe's name
        policy = Policy.read(fields.fields("policy")) if "policy" in fields else None
        fields.end()
        event = self._provider.api.store.events.any(id)
        if event is None:
            raise BadInput(f"there is no event {id}")
        self._provider.courier.accept([event], policy=policy)
        return {"id": event.id}

    async def confirm(self, given: Json) -> Json:
        """The customer pays: `payment_intent`, with `payment_method` (pm_card_visa)."""
        fields = Fields(given)
        fields.require("payment_intent")
        id = fields.text("payment_intent", "")  # noqa: A001  # Stripe's name
        token = fields.text("payment_method", None)
        fields.end()
        api = self._provider.api
        intent = api.store.intents.any(id)
        if intent is None:
            raise BadInput(f"there is no payment intent {id}")
        call = api.call(intent.scope, now=time.time())
        if intent.status in paying.CONFIRMABLE and (token or intent.card is None):
            paying.use_card(intent, token or "pm_card_visa")
        decline = paying.take(call, intent, authentication="given")
        call.record(
            "payment_intent.confirmed",
            intent.id,
            amount=intent.amount,
            outcome="declined" if decline else "done",
        )
        await api.finish(call)
        return {"payment_intent": intent.document()}

    async def forget_keys(self, given: Json) -> Json:
        """As after 24 hours: one `key`, or all."""
        fields = Fields(given)
        key = fields.text("key", None)
        fields.end()
        return {"forgotten": self._provider.api.keys.forget(key)}

    async def reset(self, given: Json) -> Json:
        """Forget everything, end all other connections, take up the start's webhook URL."""
        Fields(given).end()
        self._cut()
        self._provider.reset()
        return {}


def _read_id(given: Json) -> int | None:
    text = given.get("id")
    if given.keys() - {"id"}:
        raise BadInput("only `id` can be given")
    if text is None:
        return None
    if isinstance(text, bool) or not str(text).isascii() or not str(text).isdigit():
        raise BadInput("id must be a whole number")
    return int(text)


def _read_event(fields: Fields) -> Event:
    fields.require("type")
    fields.require("object")
    return make_event(
        id=fields.text("id", None) or new_id("evt"),
        scope=Scope(fields.text("account", ""), fields.flag("livemode", False)),
        type=fields.text("type", ""),
        created=fields.integer("created", int(time.time()), most=LAST_SECOND),
        object=fields.object("object") or {},
        previous=fields.object("previous"),
        webhooks=1,
    )


def _read_raw(fields: Fields) -> Event:
    body = fields.text("raw", "").encode("utf-8", "surrogatepass")
    return Event(new_id("evt"), Scope("", False), "raw", int(time.time()), body)
