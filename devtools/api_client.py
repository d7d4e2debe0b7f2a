"""A program that uses our HTTP API, as one in another language would. See docs/api.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from devtools.trouble import Trouble

TIMEOUT_SECONDS = 30.0
REPLAYED = "Idempotent-Replayed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write came to. `replayed`: its Idempotency-Key was known."""

    status: int
    call: dict[str, Any]
    replayed: bool


class ApiClient:
    """Requests to `/api/v1` of the project at `base`, with one key. Raises Trouble for every answer
    that is no success."""

    def __init__(self, *, base: str, key: str) -> None:
        self.host = base
        self._base = f"{base}/api/v1"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands before loopback
        self._session.headers["Authorization"] = f"Bearer {key}"
        self.writes = 0

    def write(
        self, path: str, body: Mapping[str, Any], *, key: str, wait: int | None = None
    ) -> Answer:
        """Ask for a call under an Idempotency-Key; `wait` seconds for its outcome."""
        self.writes += 1
        headers = {"Idempotency-Key": key}
        if wait is not None:
            headers["Prefer"] = f"wait={wait}"
        response = self._send("POST", path, json=body, headers=headers)
        return Answer(response.status_code, response.json(), REPLAYED in response.headers)

    def act(self, path: str, body: Mapping[str, Any]) -> None:
        """Ask for something that needs no Idempotency-Key."""
        self._send("POST", path, json=body)

    def call(self, call_id: str) -> dict[str, Any]:
        """The call as it stands."""
        found: dict[str, Any] = self._send("GET", f"/calls/{call_id}").json()
        return found

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            response = self._session.request(
                method, self._base + path, timeout=TIMEOUT_SECONDS, **options
            )
        except requests.RequestException as error:
            raise Trouble(f"{method} {path} got no answer: {type(error).__name__}") from error
        if not response.ok:
            raise Trouble(f"{method} {path} was answered {response.status_code}: {response.text}")
        return response
