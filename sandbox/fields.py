"""Reads what people send to the control endpoint, and says what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, TypeVar, overload

T = TypeVar("T")


class BadInput(ValueError):
    """The control endpoint cannot make sense of this; the text says why."""


class Fields:
    """The members of one JSON object. Ask for each, then call `end()`, which refuses the rest."""

    def __init__(self, document: object, *, where: str = "the body") -> None:
        if not isinstance(document, dict):
            raise BadInput(f"{where} must be a JSON object")
        self._rest: dict[str, Any] = dict(document)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._rest

    def peek(self, name: str) -> Any:
        """Whatever stands there, which is still to be asked for."""
        return self._rest.get(name)

    def rest(self) -> dict[str, Any]:
        """What nobody has asked for yet."""
        return dict(self._rest)

    def end(self) -> None:
        """Raises BadInput when something is left that nobody asked for."""
        if self._rest:
            names = ", ".join(sorted(map(str, self._rest)))
            raise BadInput(f"{self._where} has unknown fields: {names}")

    def require(self, name: str) -> None:
        """Raises BadInput when the field is not there."""
        if name not in self._rest:
            raise BadInput(f"{self._where} lacks {name}")

    def any(self, name: str, default: Any = None) -> Any:
        """Whatever stands there."""
        return self._rest.pop(name, default)

    @overload
    def number(
        self, name: str, default: float, *, least: float = ..., most: float = ...
    ) -> float: ...
    @overload
    def number(
        self, name: str, default: None, *, least: float = ..., most: float = ...
    ) -> float | None: ...
    def number(
        self, name: str, default: float | None, *, least: float = 0, most: float = 1e9
    ) -> float | None:
        """A finite number; null means the default."""
        value = self._rest.pop(name, None)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._bad(name, "must be a number")
        return float(self._within(name, value, least, most))

    @overload
    def integer(self, name: str, default: int, *, least: int = ..., most: int = ...) -> int: ...
    @overload
    def integer(
        self, name: str, default: None, *, least: int = ..., most: int = ...
    ) -> int | None: ...
    def integer(
        self, name: str, default: int | None, *, least: int = 0, most: int = 10**9
    ) -> int | None:
        """A whole number; null means the default."""
        value = self._rest.pop(name, None)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._bad(name, "must be a whole number")
        self._within(name, value, least, most)
        return value

    @overload
    def text(self, name: str, default: str, *, choices: Collection[str] = ...) -> str: ...
    @overload
    def text(self, name: str, default: None, *, choices: Collection[str] = ...) -> str | None: ...
    def text(self, name: str, default: str | None, *, choices: Collection[str] = ()) -> str | None:
        """A text, one of `choices` if there are any; null means the default."""
        value = self._rest.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._bad(name, "must be a text")
        if choices and value not in choices:
            raise self._bad(name, f"must be one of {', '.join(choices)}")
        return value

    @overload
    def flag(self, name: str, default: bool) -> bool: ...
    @overload
    def flag(self, name: str, default: None) -> bool | None: ...
    def flag(self, name: str, default: bool | None) -> bool | None:
        """true or false; null means the default."""
        value = self._rest.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._bad(name, "must be true or false")
        return value

    def items(self, name: str) -> list[Any] | None:
        """A list; null and absent are None."""
        value = self._rest.pop(name, None)
        if value is not None and not isinstance(value, list):
            raise self._bad(name, "must be a list")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts; null and absent are None."""
        value = self.items(name)
        if value is None:
            return None
        if not all(isinstance(member, str) and member for member in value):
            raise self._bad(name, "must be a list of texts")
        return tuple(value)

    def object(self, name: str) -> dict[str, Any] | None:
        """A JSON object; null and absent are None."""
        value = self._rest.pop(name, None)
        if value is not None and not isinstance(value, dict):
            raise self._bad(name, "must be a JSON object")
        return value

    def string_map(self, name: str) -> dict[str, str]:
        """A JSON object of texts; null and absent are empty."""
        value = self.object(name) or {}
        if not all(isinstance(member, str) for member in value.values()):
            raise self._bad(name, "must be an object of texts")
        return value

    def fields(self, name: str) -> Fields:
        """The fields of a nested object, which may be absent."""
        return Fields(self.object(name) or {}, where=name)

    def _within(self, name: str, value: float, least: float, most: float) -> float:
        if not math.isfinite(value) or not least <= value <= most:
            raise self._bad(name, f"must be between {least:g} and {most:g}")
        return value

    def _bad(self, name: str, reason: str) -> BadInput:
        return BadInput(f"{name} in {self._where} {reason}")
