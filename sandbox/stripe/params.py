"""Reads the parameters of one request, and refuses them in Stripe's words."""

from __future__ import annotations

import re
from collections.abc import Collection

from sandbox.stripe.currencies import CURRENCIES
from sandbox.stripe.errors import Json, Refusal, invalid

INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Params:
    """The parameters under one name, or all. Ask for each, then call `end()`.

    Every method raises Refusal, marked as not executed.
    """

    def __init__(self, form: Json, *, under: str = "") -> None:
        self._rest = dict(form)
        self._under = under

    def __contains__(self, name: str) -> bool:
        return name in self._rest

    def rest(self) -> Json:
        """What nobody has asked for yet."""
        return dict(self._rest)

    def end(self) -> None:
        """Refuse what nobody asked for."""
        if not self._rest:
            return
        names = [self._name(name) for name in self._rest]
        word = "parameter" if len(names) == 1 else "parameters"
        text = f"Received unknown {word}: {', '.join(names)}"
        raise invalid(text, code="parameter_unknown", param=names[0])

    def require(self, name: str) -> None:
        """Refuse when it is not there."""
        if name not in self._rest:
            name = self._name(name)
            raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)

    def text(self, name: str, *, most: int = 5000, unset: bool = False) -> str | None:
        """A text. `unset` tells that an empty one is allowed, and means None."""
        value = self._rest.pop(name, None)
        name = self._name(name)
        if value is None:
            return None
        if not isinstance(value, str) or "\x00" in value:
            raise invalid("Invalid string", param=name)
        if not value:
            if unset:
                return None
            raise invalid(
                f"You passed an empty string for '{name}'. We assume empty values are an attempt "
                f"to unset a field; however '{name}' cannot be unset. You should remove '{name}' "
                "from your request or supply a non-empty value.",
                code="parameter_invalid_empty",
                param=name,
            )
        if len(value) > most:
            raise invalid(
                f"Invalid string: {value[:10]}...{value[-4:]}; must be at most {most} characters",
                param=name,
            )
        return value

    def integer(self, name: str, *, least: int, most: int | None = None) -> int | None:
        """A whole number."""
        value = self.text(name)
        if value is None:
            return None
        if not INTEGER.fullmatch(value):
            raise self._bad_integer(name, f"Invalid integer: {value}")
        number = int(value)
        now = f"(it currently is '{value}')."
        if number < least:
            raise self._bad_integer(
                name, f"This value must be greater than or equal to {least} {now}"
            )
        if most is not None and number > most:
            raise self._bad_integer(name, f"This value must be less than or equal to {most} {now}")
        return number

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """One of a few words."""
        value = self.text(name)
        if value is not None and value not in choices:
            *most, last = choices
            listed = f"{', '.join(most)}, or {last}" if most else last
            raise invalid(f"Invalid {name}: must be one of {listed}", param=self._name(name))
        return value

    def flag(self, name: str) -> bool | None:
        """true or false."""
        value = self.text(name)
        if value is None:
            return None
        if value not in ("true", "false"):
            raise invalid(f"Invalid boolean: {value}", param=self._name(name))
        return value == "true"

    def email(self, name: str) -> str | None:
        """An address."""
        value = self.text(name, most=512, unset=True)
        if value is not None and not EMAIL.fullmatch(value):
            raise invalid(
                f"Invalid email address: {value}", code="email_invalid", param=self._name(name)
            )
        return value

    def currency(self, name: str) -> str | None:
        """A currency that Stripe takes, in lower case."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in CURRENCIES:
            listed = ", ".join(sorted(CURRENCIES))
            raise invalid(
                f"Invalid currency: {value.lower()}. Stripe currently supports these currencies: "
                f"{listed}",
                param=self._name(name),
            )
        return value.lower()

    def members(self, name: str) -> Params | None:
        """What is in name[...]."""
        value = self._rest.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid("Invalid object", param=self._name(name))
        return Params(value, under=self._name(name))

    def tree(self, name: str) -> Json | None:
        """What is in name[...], as it came."""
        members = self.members(name)
        return None if members is None else members.rest()

    def texts(self, name: str) -> list[str] | None:
        """A list of texts."""
        members = self.members(name) if isinstance(self._rest.get(name), dict) else None
        if members is None:
            if name in self._rest:
                raise invalid("Invalid array", param=self._name(name))
            return None
        return [text for key in members.rest() if (text := members.text(key)) is not None]

    def metadata(self) -> dict[str, str]:
        """https://docs.stripe.com/metadata#data: 50 keys of 40 characters, values of 500."""
        members = self.members("metadata")
        if members is None:
            return {}
        given = members.rest()
        if len(given) > 50:
            raise invalid(
                "Metadata can have up to 50 keys, but you tried to set it to have "
                f"{len(given)} keys.",
                param="metadata",
            )
        return {key: value for key in given if (value := members.metadata_value(key)) is not None}

    def metadata_value(self, key: str) -> str | None:
        """One member of metadata; an empty one unsets."""
        if not key or len(key) > 40:
            raise invalid(
                f"Metadata keys can have up to 40 characters, but you passed in a key that is "
                f"{len(key)} characters. Invalid key: {key}",
                param="metadata",
            )
        value = self._rest.get(key)
        if isinstance(value, str) and len(value) > 500:
            raise invalid(
                f"Metadata values can have up to 500 characters, but you passed in a value that "
                f"is {len(value)} characters. Invalid value: {value}",
                param="metadata",
            )
        return self.text(key, unset=True)

    def _name(self, name: str) -> str:
        return f"{self._under}[{name}]" if self._under else name

    def _bad_integer(self, name: str, message: str) -> Refusal:
        return invalid(message, code="parameter_invalid_integer", param=self._name(name))
