"""What an adapter is: our code for one provider, one method per operation.

An adapter builds a request and reads a reply. It touches no model, no clock and no setting: all
it needs comes through its constructor and the `CallContext`.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from outbound.client import CallContext, HttpClient

__all__ = ["Adapter", "CallContext", "Operation", "Payload", "Reply", "operation"]


class Payload(BaseModel):
    """The content of a call. Strict: no unknown field, no string for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered: `result` is kept, encrypted; `provider_reference` is its id."""

    result: dict[str, Any] = field(default_factory=dict)
    provider_reference: str = ""
    provider_status: int | None = None
    provider_request_id: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing an adapter does."""

    name: str
    payload_model: type[BaseModel]
    method: Callable[[Any, Any, CallContext], Reply]
    key_lifetime: timedelta | None
    reads: bool
    replays_failures: bool
    group: str = ""

    @property
    def keyed(self) -> bool:
        return self.key_lifetime is not None


Method = TypeVar("Method", bound=Callable[..., Reply])


def operation(
    *,
    key_lifetime: timedelta | None = None,
    reads: bool = False,
    replays_failures: bool = False,
    group: str = "",
) -> Callable[[Method], Method]:
    """Make a method `(self, payload: Model, context: CallContext) -> Reply` an operation.

    key_lifetime: how long the provider promises to remember an idempotency key, with a margin;
    None where it has no keys, and then a call whose outcome is unknown is never repeated.
    reads: it changes nothing at the provider, so it can always be repeated.
    replays_failures: the provider stores failures under the key too, so the same failure twice
    says nothing new.
    group: operations of another group than the others' have a circuit of their own.
    """

    def mark(method: Method) -> Method:
        method.__operation__ = {  # type: ignore[attr-defined]
            "key_lifetime": key_lifetime,
            "reads": reads,
            "replays_failures": replays_failures,
            "group": group,
        }
        return method

    return mark


class Adapter:
    """Base of all adapters. Subclass it, name it in OUTBOUND_ADAPTERS, and that is all."""

    operations: ClassVar[dict[str, Operation]] = {}
    required_options: ClassVar[Mapping[str, str]] = {}
    """Option -> the environment variable that sets it: a missing one is a failing check."""
    visible_fields: ClassVar[frozenset[str]] = frozenset()
    """Names of request and reply fields that may be shown to people and stored in the clear."""

    def __init__(self, *, name: str, options: Mapping[str, Any], http: HttpClient) -> None:
        self.name = name
        self.options = options
        self.http = http

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found = dict(cls.operations)
        for name, method in vars(cls).items():
            marks = getattr(method, "__operation__", None)
            if marks is not None:
                found[name] = Operation(
                    name=name, method=method, payload_model=_payload_model(method), **marks
                )
        cls.operations = found

    def perform(self, name: str, payload: BaseModel, context: CallContext) -> Reply:
        """Do one attempt of an operation. Raises DeliveryError."""
        return self.operations[name].method(self, payload, context)

    def resolve(self, name: str, payload: BaseModel, context: CallContext) -> Reply | None:
        """Look up at the provider whether a call with an unknown outcome happened.

        A Reply if it did; None while that cannot be said. Raises DidNotHappen where there is
        proof that it failed, and DeliveryError when the look-up itself does.
        """
        return None

    @classmethod
    def circuit(cls, name: str, operation: Operation, account: str) -> str:
        """The name of the circuit that a call goes through; `name` is the adapter's. Calls that
        fail together share one: by default those of an account and a group of operations."""
        return ":".join(part for part in (name, account, operation.group) if part)

    @classmethod
    def can_resolve(cls) -> bool:
        return cls.resolve is not Adapter.resolve


def _payload_model(method: Callable[..., Reply]) -> type[BaseModel]:
    second = list(inspect.signature(method).parameters)[1]
    model = typing.get_type_hints(method)[second]
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{method.__qualname__}: the payload must be annotated with a model")
    return model
