"""How well the events are delivered."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.fields import BadInput, Fields
from sandbox.webhooks.posting import Target, read_url

DAY = 24 * 3600.0
SIGNATURES = ("good", "wrong", "missing", "malformed")
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)
MAX_RULES = 1000


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of an event. As it stands here: delivered once, at once, in order."""

    duplicates: int = 0  # further copies
    delay: float = 0.0  # seconds
    drop: bool = False  # never
    hold: bool = False  # not before they are released
    reorder: int = 0  # so many are collected, shuffled and sent
    reorder_seconds: float = 0.5  # or fewer, after this time
    signature: str = "good"
    age: float = 0.0  # the timestamp is so many seconds old; negative: from the future
    livemode: bool | None = None  # what the event claims; None: the truth

    @classmethod
    def read(cls, fields: Fields, *, base: Policy | None = None) -> Policy:
        """From the control endpoint; what is not told is as in `base`. Raises BadInput."""
        base = base or cls()
        policy = replace(
            base,
            duplicates=fields.integer("duplicates", base.duplicates, most=100),
            delay=fields.number("delay", base.delay, most=DAY),
            drop=fields.flag("drop", base.drop),
            hold=fields.flag("hold", base.hold),
            reorder=fields.integer("reorder", base.reorder, most=1000),
            reorder_seconds=fields.number("reorder_seconds", base.reorder_seconds, most=DAY),
            signature=fields.text("signature", base.signature, choices=SIGNATURES),
            age=fields.number("age", base.age, least=-1e9),
            livemode=fields.flag("livemode", base.livemode),
        )
        fields.end()
        return policy


@dataclass(slots=True, eq=False)
class PolicyRule:
    """A policy for some events: of these types, so many times, by chance."""

    policy: Policy
    types: tuple[str, ...] | None
    left: int | None
    rate: float

    @classmethod
    def read(cls, document: object, *, base: Policy) -> PolicyRule:
        """From the control endpoint. Raises BadInput."""
        fields = Fields(document, where="a rule")
        rule = cls(
            Policy.read(fields.fields("policy"), base=base),
            fields.texts("types"),
            fields.integer("times", None, least=1),
            fields.number("rate", 1.0, most=1),
        )
        fields.end()
        return rule

    def fits(self, type: str, chance: random.Random) -> bool:  # noqa: A002  # Stripe's name
        """Whether it is about this event; counts it if so."""
        if self.left == 0 or not covers(self.types, type):
            return False
        if self.rate < 1 and chance.random() >= self.rate:
            return False
        if self.left is not None:
            self.left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go, and how. `told` is what the control endpoint was told."""

    target: Target | None = None
    secrets: tuple[str, ...] = ()
    types: tuple[str, ...] | None = None  # None: all
    timeout: float = 10.0  # seconds
    retry_seconds: tuple[float, ...] = RETRY_SECONDS
    policy: Policy = field(default_factory=Policy)
    rules: tuple[PolicyRule, ...] = ()
    told: dict[str, Any] = field(default_factory=dict)

    def changed(self, document: dict[str, Any]) -> Endpoint:
        """With what the control endpoint was told. Raises BadInput."""
        told = {**self.told, **document}
        fields = Fields(told)
        url = fields.text("url", None)
        policy = Policy.read(fields.fields("policy"))
        rules = fields.items("rules") or []
        if len(rules) > MAX_RULES:
            raise BadInput(f"there must not be more than {MAX_RULES} rules")
        new = Endpoint(
            read_url(url) if url else None,
            fields.texts("secrets") or (),
            fields.texts("types"),
            fields.number("timeout", 10.0, least=0.01, most=DAY),
            _read_retries(fields.items("retry_seconds")),
            policy,
            tuple(PolicyRule.read(rule, base=policy) for rule in rules),
            told,
        )
        fields.end()
        if not {"policy", "rules"} & document.keys():
            return replace(new, policy=self.policy, rules=self.rules)
        return new

    def policy_for(self, type: str, chance: random.Random) -> Policy:  # noqa: A002
        """The first rule that fits, or the policy for all."""
        return next((rule.policy for rule in self.rules if rule.fits(type, chance)), self.policy)


def covers(types: tuple[str, ...] | None, type: str) -> bool:  # noqa: A002
    """Whether the type is listed; `charge.*` lists all that begin so."""
    if types is None:
        return True
    return any(
        type.startswith(listed[:-1]) if listed.endswith("*") else type == listed for listed in types
    )


def _read_retries(members: list[Any] | None) -> tuple[float, ...]:
    if members is None:
        return RETRY_SECONDS
    if len(members) > 100:
        raise BadInput("retry_seconds must not have more than 100 members")
    return tuple(
        Fields({"seconds": member}, where="retry_seconds").number("seconds", 0.0, most=DAY)
        for member in members
    )
