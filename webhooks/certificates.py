"""Certificates that a sender names: fetched from its provider alone, once, and never for a flood.

The address of Amazon SNS' certificate is written by whoever sends. So it is trusted for nothing: it
must be a certificate of SNS in the topic's region, on exactly its host, over verified TLS, without
redirects, small and in time. https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from outbound.client import CallContext, HttpClient, Request, Timeouts
from outbound.errors import DeliveryError
from webhooks.errors import CannotVerify, InvalidSignature

logger = structlog.get_logger(__name__)

REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}", re.ASCII)
PATH = re.compile(r"/[A-Za-z0-9._-]{1,200}\.pem", re.ASCII)
MAX_BYTES = 32 * 1024
TIMEOUTS = Timeouts(connect=2.0, read=3.0, total=4.0)
KEPT = 32  # certificates; SNS has one for each region, and a new one now and then
KEPT_SECONDS = 86_400.0
STALE_SECONDS = 7 * 86_400.0  # one that cannot be fetched anew is used for so long
FAILURE_SECONDS = 30.0  # until a certificate that could not be had is asked for again
FETCHES = 10  # a minute, at most, whatever is asked for
MINUTE = 60.0


def sns_host(region: str) -> str:
    """The host of SNS in a region. Raises InvalidSignature for what is no region's name."""
    if not REGION.fullmatch(region):
        raise InvalidSignature("the topic has no region")
    return f"sns.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def demand_certificate_url(url: str, *, region: str) -> None:
    """Raises InvalidSignature for all but https://sns.REGION.amazonaws.com/NAME.pem."""
    parts = _split(url, host=sns_host(region))
    if not PATH.fullmatch(parts[0]) or parts[1]:
        raise InvalidSignature("the certificate's address is not one of Amazon SNS")


def demand_subscribe_url(url: str, *, region: str) -> None:
    """Raises InvalidSignature for all but https://sns.REGION.amazonaws.com/?Action=Confirm…"""
    path, query = _split(url, host=sns_host(region))
    if path != "/" or not query.startswith("Action=ConfirmSubscription&"):
        raise InvalidSignature("the confirmation's address is not one of Amazon SNS")


def _split(url: str, *, host: str) -> tuple[str, str]:
    """Path and query of an address at exactly this host."""
    refusal = InvalidSignature("the address is not one of Amazon SNS in the topic's region")
    if not (url.isascii() and url.isprintable() and " " not in url and "\\" not in url):
        raise refusal
    try:
        parts = urlsplit(url)
    except ValueError:
        raise refusal from None
    if (parts.scheme, parts.netloc) != ("https", host) or "#" in url:
        raise refusal
    return parts.path, parts.query


def fetch(url: str) -> bytes:
    """What lies there. Raises CannotVerify."""
    context = CallContext(call_id="", idempotency_key="", timeouts=TIMEOUTS)
    try:
        response = HttpClient(provider="sns").send(Request("GET", url), context)
    except DeliveryError as error:
        raise CannotVerify(f"no certificate: {error.message}") from error
    if response.status != 200 or len(response.body) > MAX_BYTES:
        raise CannotVerify(f"no certificate: status {response.status}, {len(response.body)} bytes")
    return response.body


class Certificates:
    """Public keys by address, each fetched once in a process, however many ask at a time."""

    def __init__(
        self,
        fetch: Callable[[str], bytes] = fetch,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._fetched: deque[float] = deque(maxlen=FETCHES)

    def key(self, url: str, *, now: datetime) -> RSAPublicKey:
        """The key of the certificate at `url`, which has been found to be one of the provider's.
        Raises CannotVerify when it cannot be had now, or is not valid now."""
        entry = self._entry(url)
        with entry.lock:
            moment = self._monotonic()
            if moment >= entry.ends:
                self._fill(entry, url, moment)
            if entry.certificate is None or moment >= entry.stale_at:
                raise CannotVerify("the certificate could not be fetched a moment ago")
            return _key_of(entry.certificate, now=now)

    def _entry(self, url: str) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(url, _Entry())
            self._entries.move_to_end(url)
            while len(self._entries) > KEPT:
                self._entries.pop(self._least(but=url))
            return entry

    def _least(self, *, but: str) -> str:
        """What is worth least: an address where there was nothing, else the one that nobody has
        asked for longest. So who makes up addresses does not drive out the provider's."""
        empty = (u for u, entry in self._entries.items() if entry.certificate is None and u != but)
        return next(empty, next(iter(self._entries)))

    def _fill(self, entry: _Entry, url: str, moment: float) -> None:
        """Fetch it, or anew; one that is there and not stale stays when that fails."""
        try:
            self._take_turn(moment)
            entry.ends = moment + FAILURE_SECONDS
            entry.certificate = self._read(url)
        except CannotVerify:
            if entry.certificate is None or moment >= entry.stale_at:
                raise
            logger.warning("certificate_not_renewed", url=url)
            return
        entry.ends, entry.stale_at = moment + KEPT_SECONDS, moment + STALE_SECONDS

    def _take_turn(self, moment: float) -> None:
        with self._lock:
            if len(self._fetched) == FETCHES and moment - self._fetched[0] < MINUTE:
                raise CannotVerify("too many certificates were asked for")
            self._fetched.append(moment)

    def _read(self, url: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self._fetch(url))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise CannotVerify("what lies at the certificate's address is none") from error


class _Entry:
    """What is known of one address: fetched anew after `ends` on the monotonic clock, and of no use
    after `stale_at`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.certificate: x509.Certificate | None = None
        self.ends = self.stale_at = float("-inf")


def _key_of(certificate: x509.Certificate, *, now: datetime) -> RSAPublicKey:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise CannotVerify("the certificate is not valid now")
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise CannotVerify("the certificate has no RSA key")
    return key
