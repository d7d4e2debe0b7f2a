"""The one HTTP client: a hard total deadline, a size cap, and transport trouble told apart.

Only this module imports `requests`. There is one retry layer in the product, and it is not here.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from requests.structures import CaseInsensitiveDict

from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from outbound.request_ids import REQUEST_ID_HEADER, usable
from outbound.transport import DeadlineAdapter, Transfer, transferring

MAX_REPLY_BYTES = 1024 * 1024
CHUNK_BYTES = 16 * 1024
IDLE_SECONDS = 20.0  # a connection idle for longer may be closed at the other end already
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_RETRY_AFTER = 10 * 365 * 86400.0
HEADERS = {"User-Agent": "holdfast", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; connect < read < total."""

    connect: float = 3.0
    read: float = 10.0
    total: float = 15.0


@dataclass(slots=True)
class Exchange:
    """What went over the wire in one attempt, as far as it may be remembered."""

    method: str = ""
    url: str = ""
    status: int | None = None
    reply: Any = None  # parsed JSON; redacted before it is stored
    duration: float = 0.0


def _no_blob(digest: str) -> bytes:
    raise KeyError(digest)


@dataclass(frozen=True, slots=True)
class CallContext:
    """What an adapter knows about the call it works for.

    `ends` (monotonic seconds) bounds the whole attempt, however many requests it takes; None:
    each request has `timeouts.total` of its own. `read_blob`: the content that a payload speaks of
    by its digest. `asked_at`: when the last attempt began, for who looks up what became of it.
    """

    call_id: str
    idempotency_key: str
    account: str = ""
    request_id: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    exchange: Exchange = field(default_factory=Exchange)
    ends: float | None = None
    read_blob: Callable[[str], bytes] = field(default=_no_blob, repr=False)
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, complete: nothing is added to the body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The parsed body. Raises ValueError when it is no JSON; NaN and infinities are none."""
        try:
            return json.loads(self.body, parse_constant=_finite, parse_float=_finite)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    @property
    def retry_after(self) -> float | None:
        return parse_retry_after(self.headers.get("Retry-After"), now=datetime.now(UTC))


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is no number that can be stored")
    return value


class HttpClient:
    """Sends requests for one adapter. Safe to share between threads."""

    def __init__(self, *, provider: str) -> None:
        self.provider = provider
        self._local = threading.local()

    def send(self, request: Request, context: CallContext) -> Response:
        """Send once and read the whole reply, within `context.timeouts`.

        Any HTTP status is a Response. Raises TransientError when nothing was sent, and
        OutcomeUnknown when bytes left and the reply did not arrive whole.
        """
        check_url(request.url)
        exchange = context.exchange
        exchange.method, exchange.url = request.method, _without_query(request.url)
        exchange.status = exchange.reply = None
        started = time.monotonic()
        ends = started + context.timeouts.total
        transfer = Transfer(ends=ends if context.ends is None else min(ends, context.ends))
        try:
            with transferring(transfer):
                response = self._send(_traced(request, context), context.timeouts, transfer)
        except (requests.RequestException, OSError) as error:
            self._connections().close()
            raise self._transport_error(error, transfer, context.timeouts) from error
        finally:
            exchange.duration = time.monotonic() - started
        exchange.status = response.status
        with suppress(ValueError):
            exchange.reply = response.json()
        return response

    def _send(self, request: Request, timeouts: Timeouts, transfer: Transfer) -> Response:
        """Without a `requests.Session`: that would add cookies, read proxies and passwords from
        the environment, and read the body of a redirect whole."""
        headers = CaseInsensitiveDict({**HEADERS, **request.headers})
        prepared = requests.Request(
            request.method, request.url, headers=headers, data=request.body or None
        ).prepare()
        reply = self._connections().send(
            prepared, stream=True, timeout=(timeouts.connect, timeouts.read)
        )
        try:
            transfer.status = reply.status_code
            body = bytearray()
            for chunk in reply.iter_content(CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    raise ReplyTooLarge(f"the reply is larger than {MAX_REPLY_BYTES} bytes")
            if transfer.expired:
                raise requests.Timeout("the reply did not end in time")
        except BaseException:
            reply.close()
            raise
        return Response(reply.status_code, CaseInsensitiveDict(reply.headers), bytes(body))

    def _connections(self) -> DeadlineAdapter:
        """This thread's connections, new when the old ones have been idle for long."""
        local, now = self._local, time.monotonic()
        connections: DeadlineAdapter | None = getattr(local, "connections", None)
        if connections is not None and now - local.used_at > IDLE_SECONDS:
            connections.close()
            connections = None
        if connections is None:
            connections = local.connections = DeadlineAdapter(max_retries=0)
        local.used_at = now
        return connections

    def _transport_error(
        self, error: Exception, transfer: Transfer, timeouts: Timeouts
    ) -> TransientError:
        what = _describe(error, transfer, timeouts)
        if not transfer.sent:
            return TransientError(f"{self.provider}: {what}; nothing was sent", http_status=504)
        return OutcomeUnknown(
            f"{self.provider}: {what}; the outcome is unknown",
            http_status=504,
            provider_status=transfer.status,
        )


class ReplyTooLarge(requests.RequestException):
    """The provider sent more than we are ready to keep."""


def _describe(error: Exception, transfer: Transfer, timeouts: Timeouts) -> str:
    if transfer.expired:
        return f"no complete reply within {timeouts.total:g} s"
    if isinstance(error, ReplyTooLarge):
        return str(error)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeouts.connect:g} s"
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return f"silent for {timeouts.read:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "the TLS connection failed"
    return "the connection was lost" if transfer.sent else "no connection"


def _traced(request: Request, context: CallContext) -> Request:
    """With the id of the request that caused it. An id that no header can hold stays here."""
    if not usable(context.request_id):
        return request
    headers = {REQUEST_ID_HEADER: context.request_id, **request.headers}
    return replace(request, headers=headers)


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def check_url(url: str) -> None:
    """Refuse what is neither https nor plain http to a host that is allowed to have it.

    Plain http: loopback in DEBUG or EMBEDDED, or a host in ALLOW_HTTP_PROVIDERS.
    Raises ImproperlyConfigured.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"a provider's address is no URL: {error}") from error
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname:
        local = parts.hostname in LOOPBACK and (settings.DEBUG or settings.EMBEDDED)
        if local or parts.hostname in settings.ALLOW_HTTP_PROVIDERS:
            return
    raise ImproperlyConfigured(
        f"{parts.scheme or 'no scheme'}://{parts.hostname or ''}: providers are called over https "
        "(plain http: loopback in development, or a host named in ALLOW_HTTP_PROVIDERS)"
    )


def classify(response: Response, *, keyed: bool, reads: bool, message: str) -> DeliveryError | None:
    """The error that a status stands for by itself; None for 2xx. Adapters narrow it.

    keyed and reads are the operation's: a 5xx on a write without a key may have done something.
    """
    status = response.status
    if 200 <= status < 300:
        return None
    retry_after = response.retry_after
    if status == 429:
        return RateLimited(
            message, retry_after=retry_after, http_status=429, provider_status=status
        )
    if status in (408, 425) or status >= 500:
        kind: Callable[..., TransientError] = (
            TransientError if keyed or reads or status == 425 else OutcomeUnknown
        )
        return kind(
            message,
            retry_after=retry_after,
            provider_status=status,
            effect_possible=not reads and status != 425,
        )
    return PermanentError(message, http_status=400, provider_status=status)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds from a Retry-After header, as a number or an HTTP date; None when unusable.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    if value is None:
        return None
    text = value.strip()[:64]
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None
