"""What the control endpoint shows."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

from sandbox.fields import BadInput, Fields
from sandbox.limits import KEPT_RECORDS
from sandbox.provider import Provider
from sandbox.recent import Numbered, Recent
from sandbox.records import as_json
from sandbox.settings import Settings

Json = dict[str, Any]
T = TypeVar("T", bound=Numbered)
PAGE = 1000


class Views:
    """Reads, changes nothing."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def ledger(self, given: Json) -> Json:
        """Effects, oldest first; by key, call, kind, object, account, provider or recipient."""
        names = ("key", "call", "kind", "object", "account", "provider", "recipient")
        return page(self._provider.ledger, given, names)

    async def requests(self, given: Json) -> Json:
        """Requests to the API, oldest first; by key, method, path, fault or request_id."""
        return page(self._provider.traffic, given, ("key", "method", "path", "fault", "request_id"))

    async def deliveries(self, given: Json) -> Json:
        """Attempts to deliver events, oldest first; by event, type, outcome or provider. `pending`
        are on their way, still to come or will be tried again, `held` wait to be released."""
        provider = self._provider
        found = page(provider.deliveries, given, ("event", "type", "outcome", "provider"))
        return {**found, "pending": provider.pending, "held": provider.held}

    async def summary(self, given: Json) -> Json:
        """The numbers. `keys_with_several_effects` must be empty at an honest provider."""
        Fields(given).end()
        provider = self._provider
        keys = Counter((e.account, e.recipient, e.key) for e in provider.ledger if e.key)
        return {
            "requests": provider.traffic.total,
            "running": sum(seen.finished_at is None for seen in provider.traffic),
            "replayed": sum(seen.replayed for seen in provider.traffic),
            "faults": Counter(seen.fault for seen in provider.traffic if seen.fault),
            "effects": provider.ledger.total,
            "effects_by_kind": Counter(effect.kind for effect in provider.ledger),
            "effects_by_outcome": Counter(effect.outcome for effect in provider.ledger),
            "keys_with_several_effects": sorted({k for (*_, k), n in keys.items() if n > 1}),
            "deliveries": Counter(delivery.outcome for delivery in provider.deliveries),
            "deliveries_pending": provider.pending,
            "deliveries_held": provider.held,
        }

    async def faults(self, given: Json) -> Json:
        """The rules in force."""
        Fields(given).end()
        return self._provider.rules.document()

    async def declines(self, given: Json) -> Json:
        """Whose payments are declined."""
        Fields(given).end()
        return {"declines": self._provider.api.declines.documents()}

    async def settings(self, given: Json) -> Json:
        """How the provider behaves when nothing goes wrong."""
        Fields(given).end()
        return settings_document(self._provider.api.settings)

    async def webhooks(self, given: Json) -> Json:
        """Where events go, and how: Stripe's, or a `provider`'s."""
        fields = Fields(given)
        courier = self._provider.courier_of(fields)
        fields.end()
        return {"webhooks": courier.endpoint.told}


def settings_document(settings: Settings) -> Json:
    """As the control endpoint shows them."""
    return as_json(settings)


def page(records: Recent[T], given: Json, names: tuple[str, ...]) -> Json:
    """Some of the records: `after` and `limit` are numbers of them; the others must be equal."""
    unknown = given.keys() - {*names, "after", "limit"}
    if unknown:
        raise BadInput(f"unknown parameters: {', '.join(sorted(unknown))}")
    after = _number(given, "after", 0, 10**12)
    limit = max(1, _number(given, "limit", PAGE, KEPT_RECORDS))
    equal = {name: str(given[name]) for name in names if name in given}
    found = records.page(after=after, limit=limit + 1, **equal)
    return {
        "records": [as_json(record) for record in found[:limit]],
        "more": len(found) > limit,
        "total": records.total,
    }


def _number(given: Json, name: str, default: int, most: int) -> int:
    text = str(given.get(name, default))
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= most):
        raise BadInput(f"{name} must be a whole number up to {most}")
    return int(text)
