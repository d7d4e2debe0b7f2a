"""Which request is which operation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from sandbox.stripe.call import Call
from sandbox.stripe.errors import Json, Refusal
from sandbox.stripe.operations import charges, customers, events, payment_intents, refunds
from sandbox.stripe.params import Params

Operation = Callable[[Call, Params, str], Json]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, with `{id}` where the object is named."""

    method: str
    path: str
    operation: Operation
    pays: bool = False  # a decline is an answer that it knows


ROUTES = (
    Route("POST", "/v1/payment_intents", payment_intents.create, pays=True),
    Route("GET", "/v1/payment_intents", payment_intents.list_all),
    Route("GET", "/v1/payment_intents/search", payment_intents.search),
    Route("GET", "/v1/payment_intents/{id}", payment_intents.retrieve),
    Route("POST", "/v1/payment_intents/{id}/confirm", payment_intents.confirm, pays=True),
    Route("POST", "/v1/payment_intents/{id}/capture", payment_intents.capture),
    Route("POST", "/v1/payment_intents/{id}/cancel", payment_intents.cancel),
    Route("GET", "/v1/charges/{id}", charges.retrieve),
    Route("POST", "/v1/customers", customers.create),
    Route("GET", "/v1/customers", customers.list_all),
    Route("GET", "/v1/customers/search", customers.search),
    Route("GET", "/v1/customers/{id}", customers.retrieve),
    Route("DELETE", "/v1/customers/{id}", customers.delete),
    Route("POST", "/v1/refunds", refunds.create),
    Route("GET", "/v1/refunds", refunds.list_all),
    Route("GET", "/v1/refunds/{id}", refunds.retrieve),
    Route("GET", "/v1/events", events.list_all),
    Route("GET", "/v1/events/{id}", events.retrieve),
)
_PATTERNS = [
    (route, re.compile(re.escape(route.path).replace(r"\{id\}", "([^/]+)"))) for route in ROUTES
]


def find_route(method: str, path: str) -> tuple[Route, str]:
    """The route and the id in the path. Raises Refusal."""
    for route, pattern in _PATTERNS:
        if route.method == method and (match := pattern.fullmatch(path)):
            return route, unquote(match[1]) if match.groups() else ""
    raise Refusal(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we "
        "can help at https://support.stripe.com/.",
        executed=False,
    )
