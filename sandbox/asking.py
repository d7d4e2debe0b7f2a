"""Asks a sandbox's control endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from sandbox.process import SandboxError
from sandbox.records import from_json

Json = dict[str, Any]
R = TypeVar("R")


class Asking:
    """JSON over HTTP to the sandbox at `url`."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        # Loopback is never reached through a proxy, whatever the environment says.
        self._opener = build_opener(ProxyHandler({}))

    def ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Json:
        """Any verb of the control endpoint. Raises SandboxError with the reason it gives."""
        request = Request(  # noqa: S310  # our own address
            f"{self.url}/_control{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return dict(json.load(answer))
        except HTTPError as error:
            with error:
                reason = json.load(error).get("error", error.reason)
            raise SandboxError(f"{method} {path}: {reason}") from error
        except OSError as error:
            raise SandboxError(f"{method} {path}: {error}") from error

    def records(self, path: str, kind: type[R], equal: Mapping[str, str]) -> Iterable[R]:
        """All pages of a list, one after the other."""
        after, more = 0, True
        while more:
            page = self.ask("GET", f"{path}?{urlencode({**equal, 'after': after})}")
            yield from (from_json(kind, record) for record in page["records"])
            more = bool(page["more"])
            after = page["records"][-1]["seq"] if more else after
