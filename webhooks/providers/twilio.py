"""Twilio's callbacks about messages and calls. https://www.twilio.com/docs/usage/webhooks"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import ClassVar
from urllib.parse import parse_qs, parse_qsl, urlsplit, urlunsplit

from django.utils.datastructures import CaseInsensitiveMapping

from outbound.redaction import storable
from webhooks.envelopes import Envelope, is_name, read_form, read_json
from webhooks.errors import InvalidSignature, MalformedBody
from webhooks.signatures import as_bytes, matching, read_header
from webhooks.sources import Source

SIGNATURE = "X-Twilio-Signature"
BODY_DIGEST = "bodySHA256"
FORM = "application/x-www-form-urlencoded"
QUERY = "X-Holdfast-Query"  # ours: what was signed with the address is kept as a header
QUERY_CHARACTERS = 2000
PORTS = {"https": 443, "http": 80}
# What a callback is about, and where it says how that stands.
ABOUT = (
    ("MessageSid", ("MessageStatus", "SmsStatus"), "message"),
    ("CallSid", ("CallStatus",), "call"),
)


class TwilioSource(Source):
    """Twilio: HMAC-SHA1 over the address as Twilio knows it and the sorted fields, under an auth
    token. Set PUBLIC_URL where a proxy stands in front.

    There is no time and no event id: the same status of the same message is one event. JSON is
    covered only by `bodySHA256` in the address, and refused without. What stands behind the `?` of
    the address is in the payload's `query`: who gave Twilio the address put it there.
    https://www.twilio.com/docs/usage/webhooks/webhooks-security
    """

    secret_variable: ClassVar[str] = "TWILIO_AUTH_TOKENS"  # noqa: S105 - a variable's name

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        given = as_bytes(read_header(headers, SIGNATURE))
        fields = b""
        if _is_form(headers):
            fields = _sorted_fields(read_form(body) if body else {})
        else:
            _demand_digest(url, body)
        contents = [as_bytes(address) + fields for address in _spellings(url)]
        secret = matching(
            self.secrets,
            lambda each: any(
                hmac.compare_digest(_digest(each, content), given) for content in contents
            ),
        )
        return self.label_of(secret)

    def with_address(self, headers: Mapping[str, str], url: str) -> Mapping[str, str]:
        return CaseInsensitiveMapping({**headers, QUERY: urlsplit(url).query[:QUERY_CHARACTERS]})

    def keep(self, headers: Mapping[str, str]) -> dict[str, str]:
        query = headers.get(QUERY, "")
        return super().keep(headers) | (
            {QUERY: storable(query, limit=QUERY_CHARACTERS)} if query else {}
        )

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        if not _is_form(headers):
            return _cloud_events(body)
        fields = {name: values[-1] for name, values in read_form(body).items()}
        query = dict(parse_qsl(headers.get(QUERY, "")))
        for sid, statuses, kind in ABOUT:
            status = next((fields[name] for name in statuses if name in fields), "")
            if fields.get(sid) and status:
                event_id, account = f"{fields[sid]}:{status}", fields.get("AccountSid", "")
                event_type = f"{kind}.{status}"
                if is_name(event_id) and is_name(event_type):
                    return [
                        Envelope(
                            event_id=event_id,
                            event_type=event_type,
                            payload=fields | ({"query": query} if query else {}),
                            account=account if is_name(account) else "",
                        )
                    ]
        raise MalformedBody("the body has no MessageSid or CallSid with a status")

    def ordering_key(self, envelope: Envelope) -> str:
        """The message or the call."""
        return next((envelope.payload[sid] for sid, *_ in ABOUT if sid in envelope.payload), "")


def _is_form(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", FORM).lower().startswith(FORM)


def _sorted_fields(form: Mapping[str, list[str]]) -> bytes:
    """Each name with each of its values, in order; a value that comes twice counts once."""
    return "".join(
        name + value for name in sorted(form) for value in sorted(set(form[name]))
    ).encode()


def _demand_digest(url: str, body: bytes) -> None:
    given = parse_qs(urlsplit(url).query).get(BODY_DIGEST, [])
    digest = hashlib.sha256(body).hexdigest().encode()
    if len(given) != 1 or not hmac.compare_digest(digest, as_bytes(given[0].lower())):
        raise InvalidSignature(f"{BODY_DIGEST} in the address does not match the body")


def _spellings(url: str) -> Iterator[str]:
    """The address with and without its port: Twilio's products differ."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = PORTS.get(parts.scheme, 443)
    yield url
    try:
        port = parts.port
    except ValueError:
        return
    if port is None:
        yield urlunsplit(parts._replace(netloc=f"{host}:{default}"))
    else:
        yield urlunsplit(parts._replace(netloc=host))


def _digest(token: str, content: bytes) -> bytes:
    return base64.b64encode(hmac.new(token.encode(), content, hashlib.sha1).digest())


def _cloud_events(body: bytes) -> list[Envelope]:
    """What Event Streams send. https://www.twilio.com/docs/events/event-delivery"""
    document = read_json(body)
    items = document if isinstance(document, list) else [document]
    found = []
    for item in items:
        event_id = item.get("id") if isinstance(item, dict) else None
        kind = item.get("type") if isinstance(item, dict) else None
        if not (is_name(event_id) and is_name(kind)):
            raise MalformedBody("an event has no id and type")
        found.append(Envelope(event_id=str(event_id), event_type=str(kind), payload=item))
    return found
