"""Google's access tokens for a service account: signed for by google-auth, fetched by our client.
https://developers.google.com/identity/protocols/oauth2/service-account"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from google.auth.credentials import TokenState
from google.auth.exceptions import GoogleAuthError
from google.auth.transport import Request as Transport
from google.oauth2.service_account import Credentials

from notifications.adapters.refusals import OURS, fields_in, text_in, word_in
from outbound.client import CallContext, Exchange, HttpClient, Request, Response
from outbound.errors import DeliveryError, PermanentError, RateLimited, TransientError

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")
LONGEST_LIFE = 86_400  # seconds; Google's last an hour
FAILED = "the access token could not be fetched; nothing was sent"


class AccessToken:
    """One token, shared by all threads of a process, and renewed a few minutes before it ends: by
    one thread, while the others go on with what is still good."""

    def __init__(self, key: Mapping[str, Any], *, scope: str, http: HttpClient) -> None:
        self._http = http
        self._lock = threading.Lock()
        self._account = read_key(key, scope=scope)  # signs, and has no token itself
        self._credentials = self._account

    def get(self, context: CallContext) -> str:
        """Raises DeliveryError, always one that says that nothing was sent."""
        held = self._credentials
        if held.token_state is TokenState.FRESH:
            return str(held.token)
        usable = held.token_state is TokenState.STALE
        with self._alone(wait=0 if usable else context.timeouts.total) as alone:
            if alone and self._credentials.token_state is not TokenState.FRESH:
                self._renew(context, usable=usable)
            if not alone and not usable:
                raise TransientError(f"{self._http.provider}: {FAILED}", http_status=504)
        return str(self._credentials.token)

    def forget(self, token: str) -> None:
        """A token that was refused is of no use to the next call."""
        with self._lock:
            if self._credentials.token == token:
                self._credentials = self._account

    @contextmanager
    def _alone(self, *, wait: float) -> Iterator[bool]:
        ours = self._lock.acquire(timeout=wait)
        try:
            yield ours
        finally:
            if ours:
                self._lock.release()

    def _renew(self, context: CallContext, *, usable: bool) -> None:
        """The old token stays where there is no new one and it is still good."""
        fetched: Credentials = self._account.with_scopes(self._account.scopes)
        try:
            fetched.refresh(_Post(self._http, context))  # type: ignore[no-untyped-call]
        except DeliveryError:
            if not usable:
                raise
            return
        except GoogleAuthError:
            raise PermanentError(
                f"{self._http.provider}: {FAILED}", conclusive=False, http_status=OURS
            ) from None
        self._credentials = fetched


def read_key(key: Mapping[str, Any], *, scope: str) -> Credentials:
    """A service account's key. Raises ImproperlyConfigured; the key is not quoted."""
    try:
        found: Credentials = Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            dict(key), scopes=[scope]
        )
    except (ValueError, TypeError, AttributeError, GoogleAuthError) as error:
        raise ImproperlyConfigured(
            f"this is no service account's key ({type(error).__name__})"
        ) from None
    return found


@dataclass(frozen=True, slots=True)
class _Answer:
    """A reply as google-auth wants to see it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Post(Transport):
    """How google-auth calls out: by our client, once. Whatever is no token is raised from here, so
    that google-auth has nothing to try again. Its exchange is not the attempt's: the token stands
    in the reply."""

    def __init__(self, http: HttpClient, context: CallContext) -> None:
        self._http = http
        self._context = replace(context, exchange=Exchange())

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Answer:
        try:
            response = self._http.send(
                Request(method, url, dict(headers or {}), body or b""), self._context
            )
        except TransientError as error:
            raise TransientError(
                f"{self._http.provider}: {FAILED}", http_status=error.http_status
            ) from error
        self._demand_token(response)
        return _Answer(response.status, response.headers, response.body)

    def _demand_token(self, response: Response) -> None:
        document, status = fields_in(response), response.status
        word = word_in(document.get("error"))
        message = f"{self._http.provider}: {FAILED}: {word or f'status {status}'}"
        if status == 200 and _is_token(document):
            return
        if status == 429:
            raise RateLimited(
                message, retry_after=response.retry_after, http_status=429, provider_status=status
            )
        if status < 300 or status in (408, 425) or status >= 500:
            raise TransientError(
                message, retry_after=response.retry_after, code=word, provider_status=status
            )
        raise PermanentError(
            message, conclusive=False, code=word, http_status=OURS, provider_status=status
        )


def _is_token(document: Mapping[str, object]) -> bool:
    life = document.get("expires_in")
    lasts = isinstance(life, int) and not isinstance(life, bool) and 0 < life <= LONGEST_LIFE
    return lasts and TOKEN.fullmatch(text_in(document.get("access_token"))) is not None
