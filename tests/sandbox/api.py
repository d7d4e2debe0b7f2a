"""Plain HTTP to the sandbox, as our adapter and anybody's curl would speak it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

AUTH = {"Authorization": "Bearer sk_test_plain"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NEVER = {
    "automatic_payment_methods[enabled]": "true",
    "automatic_payment_methods[allow_redirects]": "never",
}
PAID = {
    "amount": "2000",
    "currency": "usd",
    "payment_method": "pm_card_visa",
    "confirm": "true",
    **NEVER,
}

Form = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def replayed(self) -> bool:
        return self.headers["Idempotent-Replayed"] == "true"


@dataclass(frozen=True)
class Sent:
    """What was asked."""

    method: str
    path: str
    headers: Mapping[str, str]


class Api:
    """One client, with one connection that it keeps as long as it can."""

    last: Sent

    def __init__(self, url: str, *, timeout: float = 20.0) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=timeout
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Exactly this."""
        self.last = Sent(method, path, dict(headers or {}))
        try:
            self._connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.msg, answer.read())
        except BaseException:
            self._connection.close()
            raise

    def get(self, path: str, **query: str) -> Answer:
        """A read, with the test key."""
        return self.send("GET", f"{path}?{urlencode(query)}" if query else path, headers=AUTH)

    def post(
        self, path: str, form: Form | None = None, *, key: str | None = None, **headers: str
    ) -> Answer:
        """A write, with the test key."""
        given = {**AUTH, **FORM, **headers}
        if key is not None:
            given["Idempotency-Key"] = key
        pairs = form.items() if isinstance(form, Mapping) else (form or ())
        return self.send("POST", path, urlencode(list(pairs)), given)

    def delete(self, path: str) -> Answer:
        """A deletion, with the test key."""
        return self.send("DELETE", path, headers=AUTH)

    def pay(self, *, key: str | None = None, **changes: str) -> Answer:
        """A payment of 20 dollars that is taken at once."""
        return self.post("/v1/payment_intents", {**PAID, **changes}, key=key)
