"""Typed values out of environment variables. What cannot be read is collected, not raised: the
system checks name every wrong variable at once, and a safe default stands in meanwhile."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from urllib.parse import unquote, urlsplit

FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
SHOWN = 40  # characters of a wrong value in its error
IN_MEMORY = "memory://localhost//"
SHORTEST_SECRET = 8  # a shorter one may be a word that turns up anywhere


@dataclass(frozen=True, slots=True)
class Problem:
    """A variable that cannot be used, and why. Never holds the value of a secret."""

    variable: str
    detail: str


class Environment:
    """Reads `variables`. An empty variable is an absent one; spaces around a value are dropped.

    `problems` holds what was wrong, `names` each variable that was asked for, `secret_names`
    those that NAME_FILE may hold as well, `secret_values` what must never be shown anywhere.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[Problem] = []
        self.names: list[str] = []
        self.secret_names: list[str] = []
        self.secret_values: set[str] = set()

    def refuse(self, name: str, detail: str) -> None:
        """Note that a variable cannot be used."""
        self.problems.append(Problem(name, detail))

    def text(self, name: str, default: str = "") -> str:
        self.names.append(name)
        return self._variables.get(name, "").strip() or default

    def secret(self, name: str, default: str = "") -> str:
        """NAME, or the content of the file that NAME_FILE names."""
        self.secret_names.append(name)
        value = self.text(name)
        path = self._variables.get(f"{name}_FILE", "").strip()
        if value and path:
            self.refuse(name, f"is set, and so is {name}_FILE: unset one of them")
        elif path:
            value = self._content(f"{name}_FILE", path)
        self.secret_values.update(s for s in _secrets_in(value) if len(s) >= SHORTEST_SECRET)
        return value or default

    def _content(self, variable: str, path: str) -> str:
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            self.refuse(variable, f"cannot be read: {reason}")
            return ""
        if not value:
            self.refuse(variable, "names an empty file")
        return value

    def secret_document(self, name: str, *, fields: Collection[str]) -> dict[str, str]:
        """A JSON object with these fields, all of them texts: NAME holds it, or the path of its
        file, which NAME_FILE may name as well. Empty when there is none that can be used."""
        value = self.secret(name)
        if value and not value.startswith("{"):
            value = self._content(name, value)
        if not value:
            return {}
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            document = None
        found = document if isinstance(document, dict) else {}
        texts = {k: v for k, v in found.items() if isinstance(v, str) and v}
        self.secret_values.update(v for v in texts.values() if "PRIVATE KEY" in v)
        missing = sorted(set(fields) - texts.keys())
        if missing:
            self.refuse(name, f"must be a JSON object, or the path of one, with {missing[0]!r}")
            return {}
        return texts

    def flag(self, name: str, *, default: bool = False) -> bool:
        """1, true, yes, on, or 0, false, no, off."""
        found = self.optional_flag(name)
        return default if found is None else found

    def optional_flag(self, name: str) -> bool | None:
        value = self.text(name)
        if value and value.lower() not in FLAGS:
            self.refuse(name, f"must be 1 or 0, not {value[:SHOWN]!r}")
        return FLAGS.get(value.lower())

    def choice(self, name: str, choices: Collection[str], *, default: str) -> str:
        value = self.text(name, default)
        if value in choices:
            return value
        self.refuse(name, f"must be one of {', '.join(choices)}, not {value[:SHOWN]!r}")
        return default

    def whole(self, name: str, default: int) -> int:
        """A whole number above zero."""
        value = self.text(name, str(default))
        if value.isascii() and value.isdigit() and len(value) <= 10 and int(value) > 0:
            return int(value)
        self.refuse(name, f"must be a whole number above 0, not {value[:SHOWN]!r}")
        return default

    def seconds(self, name: str, default: float) -> float:
        """A duration in seconds above zero, with or without decimals."""
        value = self.text(name, str(default))
        found = _positive(value)
        if found is None:
            self.refuse(name, f"must be a number of seconds above 0, not {value[:SHOWN]!r}")
        return default if found is None else found

    def optional_number(self, name: str) -> float | None:
        """A number; a whole one as int. Whoever uses it knows its range."""
        value = self.text(name)
        if not value:
            return None
        try:
            return int(value) if value.isascii() and value.isdigit() else _finite(value)
        except ValueError:
            self.refuse(name, f"must be a number, not {value[:SHOWN]!r}")
        return None

    def seconds_list(self, name: str) -> tuple[float, ...]:
        """A comma list of durations in seconds."""
        found: list[float] = []
        for value in self.words(name):
            seconds = _positive(value)
            if seconds is None:
                self.refuse(name, f"must be a comma list of seconds, not {value[:SHOWN]!r}")
                return ()
            found.append(seconds)
        return tuple(found)

    def words(self, name: str) -> list[str]:
        """A comma list."""
        return _split(self.text(name))

    def secret_words(self, name: str) -> list[str]:
        """A comma list of secrets."""
        return _split(self.secret(name))

    def url(self, name: str, default: str = "") -> str:
        """An http or https URL with a host and without a user, query or fragment."""
        value = self.text(name, default)
        detail = _http_url_problem(value) if value else ""
        if detail:
            self.refuse(name, detail)
            return default
        return value.rstrip("/")

    def broker_url(self, name: str, *, default: str) -> str:
        """A secret: memory://, or amqp:// or amqps:// (several, parted by semicolons)."""
        value = self.secret(name, default)
        detail = next(filter(None, map(_broker_url_problem, value.split(";"))), "")
        if detail:
            self.refuse(name, detail)
            return default
        # kombu warns about a URL without a host, also where a host means nothing
        return IN_MEMORY if value.startswith("memory:") else value


def scheme_of(url: str) -> str:
    """What stands before ://, to be shown; empty where nothing does, and it could be anything."""
    scheme, separator, _ = url.partition("://")
    return scheme[:SHOWN] if separator else ""


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _secrets_in(value: str) -> Iterator[str]:
    """The value, each part of it that is a secret by itself, and the passwords of its URLs."""
    yield value
    yield from _split(value)
    for url in value.split(";"):
        userinfo, at, _ = url.partition("://")[2].rpartition("@")
        if at:
            password = userinfo.partition(":")[2]
            yield from (password, unquote(password))


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) and number > 0 else None


def _http_url_problem(value: str) -> str:
    try:
        parts = urlsplit(value)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https"):
        return f"must begin with https:// or http://, not {parts.scheme[:SHOWN]!r}"
    if not parts.hostname or not port_ok:
        return "names no host"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "must be a plain address, without user, query or fragment"
    return ""


def _broker_url_problem(value: str) -> str:
    scheme = scheme_of(value.strip())
    if scheme not in ("memory", "amqp", "amqps"):
        return f"must begin with amqp://, amqps:// or memory://, not {scheme!r}"
    try:
        _ = urlsplit(value.strip()).port
    except ValueError:
        return "is no URL (a special character in the password is written as %XX)"
    return ""
