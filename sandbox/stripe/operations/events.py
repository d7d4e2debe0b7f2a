"""https://docs.stripe.com/api/events"""

from __future__ import annotations

from sandbox.stripe.call import Call
from sandbox.stripe.errors import Json, invalid
from sandbox.stripe.events import Event
from sandbox.stripe.operations.lists import read_page
from sandbox.stripe.params import Params

MAX_TYPES = 20


def retrieve(call: Call, params: Params, id: str) -> Json:  # noqa: A002  # Stripe's name
    """https://docs.stripe.com/api/events/retrieve"""
    params.end()
    return call.store.events.find(id, scope=call.scope, param="id").document()


def list_all(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/events/list. Newest first."""
    one, several = params.text("type"), params.texts("types")
    page = read_page(params)
    params.end()
    if one is not None and several is not None:
        raise invalid("You may only specify one of these parameters: type, types.")
    if several is not None and len(several) > MAX_TYPES:
        raise invalid(f"You may pass up to {MAX_TYPES} types.", param="types")
    wanted = several if one is None else [one]
    return page.of(
        call,
        call.store.events,
        url="/v1/events",
        keep=lambda event: wanted is None or any(_is_of(event, name) for name in wanted),
    )


def _is_of(event: Event, type: str) -> bool:  # noqa: A002  # Stripe's name
    if type.endswith("*"):
        return event.type.startswith(type[:-1])
    return event.type == type
