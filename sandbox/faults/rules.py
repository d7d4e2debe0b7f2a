"""Which request meets which fault: a queue of scripted ones, and a random mix."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from sandbox.faults.fault import NONE, Fault
from sandbox.faults.reading import read_fault
from sandbox.fields import BadInput, Fields
from sandbox.limits import KEPT_KEYS, MAX_RULES
from sandbox.wire import Request

KEY = "idempotency-key"


@dataclass(frozen=True, slots=True)
class Match:
    """What a request must look like. '' matches everything."""

    method: str = ""
    path: str = ""  # the beginning
    key: str = ""
    body: str = ""  # a part of the decoded form: metadata[holdfast_call]=...

    @classmethod
    def read(cls, fields: Fields) -> Match:
        """From the control endpoint. Raises BadInput."""
        method = fields.text("method", "").upper()
        match = cls(method, *(fields.text(name, "") for name in ("path", "key", "body")))
        fields.end()
        return match

    def fits(self, request: Request) -> bool:
        """Whether this request is meant."""
        return (
            self.method in ("", request.method)
            and request.path.startswith(self.path)
            and self.key in ("", request.headers.get(KEY, ""))
            and (not self.body or self.body in unquote_plus(request.body.decode("latin-1")))
        )


@dataclass(slots=True, eq=False)
class Rule:
    """Faults for the requests that match: one of them each time."""

    id: int
    match: Match
    faults: tuple[Fault, ...]
    told: dict[str, Any]  # as it was given, to show
    left: int | None  # None: until it is cleared
    rate: float = 1.0
    per_key: int | None = None  # how many faults one key meets at most
    hits: int = 0
    _met: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, document: dict[str, Any], *, id: int, mix: bool) -> Rule:  # noqa: A002
        """From the control endpoint. Raises BadInput."""
        fields = Fields(document)
        faults = _read_faults(fields, "kinds" if mix else "fault")
        if mix:
            fields.require("rate")
        rate = fields.number("rate", 1.0, most=1)
        per_key = fields.integer("per_key", None, least=1)
        left = None if mix else _read_times(fields)
        match = Match.read(fields.fields("match"))
        fields.end()
        return cls(id, match, faults, document, left, rate, per_key)

    def meet(self, request: Request, chance: random.Random) -> Fault | None:
        """The fault for this request, if it meets one."""
        if self.left == 0 or not self.match.fits(request) or not self._key_may(request):
            return None
        if self.rate < 1 and chance.random() >= self.rate:
            return None
        if self.left is not None:
            self.left -= 1
        self.hits += 1
        self._count(request)
        return self.faults[0] if len(self.faults) == 1 else chance.choice(self.faults)

    def document(self) -> dict[str, Any]:
        """As the control endpoint shows it."""
        return {"id": self.id, "left": self.left, "hits": self.hits, "rule": self.told}

    def _key_may(self, request: Request) -> bool:
        return self.per_key is None or self._met[_key(request)] < self.per_key

    def _count(self, request: Request) -> None:
        if self.per_key is not None:
            if len(self._met) > KEPT_KEYS:
                self._met.clear()
            self._met[_key(request)] += 1


class Rules:
    """All rules: scripted ones first, in the order they were given, then the mix."""

    def __init__(self, *, seed: int | None) -> None:
        self._chance = random.Random(seed)
        self._seed = seed
        self._scripted: list[Rule] = []
        self._mix: Rule | None = None
        self._made = 0

    def choose(self, request: Request) -> Fault:
        """What happens to this request."""
        for rule in self._scripted:
            if (fault := rule.meet(request, self._chance)) is not None:
                if rule.left == 0:
                    self._scripted.remove(rule)
                return fault
        fault = self._mix.meet(request, self._chance) if self._mix else None
        return fault or NONE

    def add(self, document: dict[str, Any]) -> Rule:
        """One more scripted rule. Raises BadInput."""
        if len(self._scripted) >= MAX_RULES:
            raise BadInput(f"there are {MAX_RULES} rules already")
        rule = Rule.read(document, id=self._made + 1, mix=False)
        self._made += 1
        self._scripted.append(rule)
        return rule

    def mix(self, document: dict[str, Any]) -> Rule:
        """Another mix, in place of the present one. Raises BadInput."""
        self._mix = Rule.read(document, id=0, mix=True)
        return self._mix

    def clear(self, id: int | None = None) -> int:  # noqa: A002
        """Let go of one scripted rule, or of all and the mix. How many."""
        gone = [rule for rule in self._scripted if id in (None, rule.id)]
        self._scripted = [rule for rule in self._scripted if rule not in gone]
        mixes = 1 if id is None and self._mix else 0
        if id is None:
            self._mix = None
        return len(gone) + mixes

    def reset(self) -> None:
        """As at the start."""
        self.clear()
        self._chance.seed(self._seed)

    def document(self) -> dict[str, Any]:
        """As the control endpoint shows it."""
        return {
            "rules": [rule.document() for rule in self._scripted],
            "mix": self._mix.document() if self._mix else None,
        }


def _read_faults(fields: Fields, name: str) -> tuple[Fault, ...]:
    fields.require(name)
    if name == "fault":
        return (read_fault(fields.any(name)),)
    faults = tuple(read_fault(member) for member in fields.items(name) or ())
    if not faults:
        raise BadInput(f"{name} must name at least one fault")
    return faults


def _read_times(fields: Fields) -> int | None:
    """Once unless told otherwise; null: until it is cleared."""
    default = None if "times" in fields else 1
    return fields.integer("times", default, least=1)


def _key(request: Request) -> str:
    return request.headers.get(KEY) or f"{request.method} {request.path}"
