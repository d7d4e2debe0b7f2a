"""Twilio's status callbacks. https://www.twilio.com/docs/messaging/guides/track-outbound-message-status"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from secrets import token_hex
from typing import ClassVar
from urllib.parse import parse_qs, urlencode

from sandbox.messages.providers.twilio import SERVICE, STATUSES
from sandbox.messages.tracking.telling import Telling, Tiding
from sandbox.records import Message
from sandbox.webhooks.posting import Target, read_url
from sandbox.webhooks.sealing import Parcel


class TwilioTelling(Telling):
    """To the address that the message named, or to the endpoint's. Signed with the auth token that
    the account last showed, unless a secret is set."""

    path: ClassVar[str] = "/webhooks/twilio"

    def new_secret(self) -> str:
        return token_hex(16)

    def proof(self, secret: str) -> str:
        return secret

    def tell(self, step: str, messages: Sequence[Message], *, now: float) -> Iterator[Tiding]:
        for message in messages if step in STATUSES else ():
            status, error = STATUSES[step]
            form = {
                "MessageSid": message.object,
                "SmsSid": message.object,
                "AccountSid": message.account,
                "MessageStatus": status,
                "SmsStatus": status,
                "To": message.recipient,
                "From": message.sender,
                "ApiVersion": "2010-04-01",
            }
            if SERVICE.fullmatch(message.sender):
                form["MessagingServiceSid"] = form.pop("From")
            if error is not None:
                form["ErrorCode"] = str(error)
            yield Tiding(
                f"{message.object}:{status}",
                f"message.{status}",
                urlencode(form).encode(),
                target=read_url(message.callback) if message.callback else None,
                secret=message.signer,
            )

    def seal(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[dict[str, str], bytes]:
        body = parcel.event.body
        form = parse_qs(body.decode(), keep_blank_values=True)
        content = _url(target) + "".join(name + form[name][0] for name in sorted(form))
        secret = "somebody else's" if parcel.policy.signature == "wrong" else secrets[-1]
        mark = base64.b64encode(hmac.new(secret.encode(), content.encode(), hashlib.sha1).digest())
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "User-Agent": "TwilioProxy/1.1",
        }
        if parcel.policy.signature != "missing":
            malformed = parcel.policy.signature == "malformed"
            headers["X-Twilio-Signature"] = "" if malformed else mark.decode()
        return headers, body

    def sealed(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[Mapping[str, str], bytes]:
        own = parcel.event.secret if isinstance(parcel.event, Tiding) else ""
        return super().sealed(parcel, secrets or ((own,) if own else ()), target)


def _url(target: Target) -> str:
    return f"{'https' if target.tls else 'http'}://{target.authority}{target.path}"
