"""Who is asked: the order of the providers, and who of them comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from notifications.adapters import BASE64, MessageAdapter
from notifications.errors import NoProvider
from notifications.models import Message
from notifications.states import CHANNELS, Channel, MessageKind
from outbound.errors import FieldError, InvalidPayload, UnknownAdapter
from outbound.services import adapter_class, is_circuit_open

OPERATIONS = {
    Channel.EMAIL: "send_email",
    Channel.SMS: "send_sms",
    Channel.PUSH: "send_push",
}
BULK = "send_bulk_email"
LOCAL = "console"  # never chosen by itself beside a real one


def provider_class(name: str) -> type[MessageAdapter] | None:
    """The adapter behind a provider's name; None when it is no adapter for messages."""
    try:
        found = adapter_class(name)
    except UnknownAdapter:
        return None
    return found if issubclass(found, MessageAdapter) else None


def can_send(name: str, channel: Channel) -> bool:
    found = provider_class(name)
    return found is not None and OPERATIONS[channel] in found.operations


def configured_route(channel: Channel) -> list[str]:
    """The providers that settings name, in order; where they name none, the only one there is.

    Raises NoProvider when it cannot be told who is meant.
    """
    variable = f"{channel.upper()}_ROUTE"
    route = list(getattr(settings, variable))
    if route:
        for problem in route_problems(route, channel):
            raise NoProvider(f"{variable}: {problem}")
        return route
    there = [name for name in settings.OUTBOUND_ADAPTERS if can_send(name, channel)]
    there = [name for name in there if name != LOCAL] or there
    if len(there) > 1:
        raise NoProvider(f"{variable} must say in which order: {', '.join(there)}")
    return there


def route_problems(route: Sequence[object], channel: Channel) -> list[str]:
    """What is wrong with a route, in words."""
    problems = [
        f"{str(name)[:40]!r} is no provider that can send {channel.label}"
        for name in route
        if not (isinstance(name, str) and can_send(name, channel))
    ]
    twice = {str(name) for name in route if route.count(name) > 1}
    return problems + [f"{name[:40]!r} is there twice" for name in sorted(twice)]


def route_for(kind: MessageKind, wanted: Sequence[str] | None) -> list[str]:
    """The route of a new message. Raises InvalidPayload (at /route), NoProvider."""
    channel = CHANNELS[kind]
    if wanted is None:
        route = configured_route(channel)
        if not route:
            raise NoProvider(
                f"nothing is configured that can send {channel.label}: see {channel.upper()}_ROUTE"
            )
        return route
    problems = route_problems(wanted, channel) or ([] if wanted else ["names no provider"])
    if problems:
        raise InvalidPayload([FieldError("/route", problem) for problem in problems])
    return list(wanted)


def with_room(route: Sequence[str], content: Mapping[str, Any]) -> list[str]:
    """The providers of a route that take messages of this size. Raises InvalidPayload when none
    does."""
    size = size_of(content)
    found = [name for name in route if size <= _max_bytes(name)]
    if not found:
        largest = max(_max_bytes(name) for name in route)
        detail = f"the message has {size} bytes, and none of {', '.join(route)} takes more than"
        raise InvalidPayload([FieldError("/attachments", f"{detail} {largest}")])
    return found


def size_of(content: Mapping[str, Any]) -> int:
    """Bytes of a message as it is sent, but for headers."""
    bodies = sum(len(content.get(name, "").encode()) for name in ("text", "html"))
    return bodies + int(sum(file["size"] for file in content.get("attachments", [])) * BASE64)


def _max_bytes(name: str) -> int:
    found = provider_class(name)
    return found.max_bytes if found else 0


def operation_for(provider: str, message: Message) -> str:
    """The operation by which a provider takes a message. What it cannot take as a batch, each
    recipient gets by a call of their own."""
    found = provider_class(provider)
    batches = message.kind == MessageKind.BULK_EMAIL and found and BULK in found.operations
    if found and batches and (found.batch_attachments or not message.content.get("attachments")):
        return BULK
    return OPERATIONS[CHANNELS[MessageKind(message.kind)]]


def batch_of(provider: str, operation: str, message: Message) -> int:
    """How many recipients of a bulk message one call takes."""
    found = provider_class(provider)
    if found is None or operation != BULK:
        return 1
    return found.recipients_per_call(size_of(message.content))


def first_place(message: Message) -> tuple[int, str]:
    """Whom to ask first, and why: the first of the route that is not out of order; if all are, the
    first of all."""
    for place, provider in enumerate(message.route):
        if not is_out_of_order(provider, message):
            skipped = ", ".join(message.route[:place])
            return place, f"the circuit of {skipped} is open" if skipped else "first in the route"
    return 0, "first in the route; the circuits of all are open"


def next_place(message: Message, *, after: int, in_order: bool) -> int | None:
    """Whom to ask instead; None when nobody is left. `in_order`: only who is not out of order."""
    for place in range(after + 1, len(message.route)):
        if not in_order or not is_out_of_order(message.route[place], message):
            return place
    return None


def is_out_of_order(provider: str, message: Message) -> bool:
    """Whether a call would have to wait for the provider's circuit. Who is not configured any
    more is out of order for good."""
    if provider_class(provider) is None:
        return True
    return is_circuit_open(adapter=provider, operation=operation_for(provider, message))
