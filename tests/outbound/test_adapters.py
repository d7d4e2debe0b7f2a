"""How an adapter declares what it does, and how it is found by its name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pytest_django import Settings

from outbound import registry
from outbound.adapters import Adapter, CallContext, Operation, Payload, Reply, operation
from outbound.client import HttpClient
from outbound.errors import UnknownAdapter, UnknownOperation
from outbound.policy import Policy
from tests.outbound.scripted import (
    KEY_LIFETIME,
    DeafAdapter,
    Item,
    Script,
    ScriptedAdapter,
    scripted_settings,
)


class Extended(ScriptedAdapter):
    """One operation more, and one changed."""

    @operation(reads=True)
    def create(self, payload: Item, context: CallContext) -> Reply:
        return Reply({"extended": True})

    @operation()
    def extra(self, payload: Item, context: CallContext) -> Reply:
        return Reply()

    def no_operation(self) -> None:
        """Not marked."""


def adapter(kind: type[Adapter]) -> Adapter:
    return kind(name="x", options={"SCRIPT": Script()}, http=HttpClient(provider="x"))


def test_operations() -> None:
    """Marked methods are operations, with what their marks and annotations say."""
    found = ScriptedAdapter.operations
    assert sorted(found) == ["charge", "create", "look", "notify"]
    assert found["create"].key_lifetime == KEY_LIFETIME
    assert [(name, found[name].keyed, found[name].reads, found[name].replays_failures)
            for name in sorted(found)] == [
        ("charge", True, False, True),
        ("create", True, False, False),
        ("look", False, True, False),
        ("notify", False, False, False),
    ]  # fmt: skip
    assert {spec.payload_model for spec in found.values()} == {Item}
    assert Adapter.operations == {}


def test_inheritance() -> None:
    """A subclass adds and overrides, and leaves its base alone."""
    assert sorted(Extended.operations) == ["charge", "create", "extra", "look", "notify"]
    assert Extended.operations["create"].reads
    assert not ScriptedAdapter.operations["create"].reads
    reply = adapter(Extended).perform("create", Item(n=1), CallContext("c", "k"))
    assert reply.result == {"extended": True}


@pytest.mark.parametrize("annotation", [dict, int, "dict[str, str]", Any])
def test_a_payload_must_be_a_model(annotation: Any) -> None:
    """An operation whose payload is no model is a mistake when the class is made."""

    def method(self: Adapter, payload: Any, context: CallContext) -> Reply:
        return Reply()

    method.__annotations__["payload"] = annotation
    with pytest.raises(TypeError, match="must be annotated with a model"):
        type("Wrong", (Adapter,), {"method": operation()(method)})


def test_a_payload_without_annotation() -> None:
    """So is one whose payload is not annotated at all."""

    def method(self, payload, context):  # type: ignore[no-untyped-def]
        return Reply()

    with pytest.raises(KeyError):
        type("Wrong", (Adapter,), {"method": operation()(method)})


def test_payloads_are_strict() -> None:
    """No unknown field, no string for a number, no change afterwards."""
    for wrong in ({"n": "1"}, {"n": 1, "x": 2}, {"n": 1.0}, {"n": True}):
        with pytest.raises(ValidationError):
            Item.model_validate(wrong)
    with pytest.raises(ValidationError):
        Item(n=1).n = 2  # type: ignore[misc]
    assert issubclass(Payload, BaseModel)


def test_resolving() -> None:
    """An adapter can look up when it says how; by default it cannot, and knows nothing."""
    assert ScriptedAdapter.can_resolve()
    assert Extended.can_resolve()
    assert not DeafAdapter.can_resolve()
    deaf = adapter(DeafAdapter)
    assert deaf.resolve("notify", Item(n=1), CallContext("c", "k")) is None


class TestRegistry:
    """Names to adapters, once per process and setting."""

    def test_made_once(self, script: Script) -> None:
        """Every call is made by the same instance, over the same client."""
        one = registry.adapter_for("scripted")
        assert registry.adapter_for("scripted") is one
        assert isinstance(one, ScriptedAdapter)
        assert (one.name, one.options["SCRIPT"]) == ("scripted", script)
        assert one.http.provider == "scripted"

    def test_settings_change(self, script: Script, settings: Settings) -> None:
        """Other settings, another adapter."""
        one = registry.adapter_for("scripted")
        settings.OUTBOUND_ADAPTERS = scripted_settings(Script())
        assert registry.adapter_for("scripted") is not one
        settings.OUTBOUND_ADAPTERS = {}
        with pytest.raises(UnknownAdapter, match="known: none"):
            registry.adapter_for("scripted")

    def test_policies(self, script: Script, settings: Settings) -> None:
        """General, then those of reads, the adapter's, the operation's."""
        settings.OUTBOUND_POLICY = {"schedule": [1], "jitter": 0}
        settings.OUTBOUND_ADAPTERS = scripted_settings(
            script, POLICY={"read_timeout": 8}, OPERATIONS={"charge": {"schedule": [9, 9]}}
        )
        assert registry.policy_for("scripted", "create") == Policy(
            schedule=(1,), jitter=0, read_timeout=8
        )
        assert registry.policy_for("scripted", "charge").schedule == (9, 9)
        read = registry.policy_for("scripted", "look")
        assert (read.schedule, read.age_limit, read.read_timeout) == ((0.5, 1.0), 15, 8)

    def test_unknown_names(self, script: Script) -> None:
        """Both kinds of name are refused by kind."""
        for ask in (registry.adapter_class, registry.queue_for, registry.missing_options):
            with pytest.raises(UnknownAdapter):
                ask("nobody")
        for name in ("nothing", ["create"], None):
            with pytest.raises(UnknownOperation):
                registry.operation_of("scripted", name)  # type: ignore[arg-type]
        with pytest.raises(UnknownOperation):
            registry.policy_for("scripted", "nothing")

    def test_queues(self, script: Script, settings: Settings) -> None:
        """An entry without a queue, which the checks complain of, still has one."""
        assert registry.queue_for("scripted") == "payments-v1"
        settings.OUTBOUND_ADAPTERS = {"scripted": {}}
        assert registry.queue_for("scripted") == settings.CELERY_TASK_DEFAULT_QUEUE


def test_keyed() -> None:
    """An operation has a key when the provider promises to remember it."""

    def method(*_: Any) -> Reply:
        return Reply()

    for lifetime, keyed in ((None, False), (timedelta(hours=1), True)):
        spec = Operation("x", Item, method, lifetime, reads=False, replays_failures=False)
        assert spec.keyed == keyed
