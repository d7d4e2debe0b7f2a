"""How the provider behaves when nothing goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from sandbox.fields import Fields
from sandbox.stripe.keys import LIFETIME

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """All in seconds."""

    latency: float = 0.0  # of every request, before its effect
    search_lag: float = 0.0  # until search finds what was made, in whole seconds
    key_lifetime: float = LIFETIME  # after which a key is forgotten

    def changed(self, given: Fields) -> Settings:
        """With what the control endpoint was told. Raises BadInput."""
        new = {
            field.name: given.number(field.name, getattr(self, field.name), most=30 * DAY)
            for field in fields(self)
        }
        given.end()
        return replace(self, **new)
