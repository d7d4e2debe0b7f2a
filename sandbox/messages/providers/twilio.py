"""Twilio's messages. https://www.twilio.com/docs/messaging/api/message-resource"""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

from sandbox.fields import BadInput
from sandbox.messages.forms import URLENCODED, read_form
from sandbox.messages.provider import Ask, MessageProvider, Taken, answer, demand
from sandbox.messages.refused import Refused
from sandbox.records import Message
from sandbox.wire import Answer

PATH = re.compile(
    r"/2010-04-01/Accounts/(AC[0-9A-Za-z_]{2,64})/Messages(?:/((?:SM)[0-9a-f]{32}))?[.]json"
)
USER = re.compile(r"(AC|SK)[0-9A-Za-z_]{2,64}")
NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
SENDER = re.compile(r"\+[1-9][0-9]{6,14}|[A-Za-z0-9 ]{1,11}|[0-9]{3,6}")
SERVICE = re.compile(r"MG[0-9A-Za-z_]{2,64}")
CHARACTERS, PAGE, PAGES = 1600, 50, 1000
# https://www.twilio.com/docs/iam/test-credentials: numbers that are refused, and why.
MAGIC_TO = {
    "+15005550001": (21211, "The 'To' number {} is not a valid phone number."),
    "+15005550002": (21612, "The 'To' phone number: {}, is not currently reachable via SMS."),
    "+15005550003": (21408, "Permission to send an SMS has not been enabled for the region of {}."),
    "+15005550004": (21610, "Attempt to send to unsubscribed recipient {}."),
    "+15005550009": (21614, "'To' number: {}, is not a mobile number."),
}
MAGIC_FROM = {
    "+15005550001": (21212, "The 'From' number {} is not a valid phone number."),
    "+15005550007": (21606, "The From phone number {} is not a valid, SMS-capable phone number."),
    "+15005550008": (21611, "This 'From' number {} has too many queued messages"),
}  # fmt: skip
# What a step of the story is called, and the error it comes with.
STATUSES: dict[str, tuple[str, int | None]] = {
    "accepted": ("queued", None),
    "processed": ("queued", None),
    "sent": ("sent", None),
    "delivered": ("delivered", None),
    "bounced": ("undelivered", 30005),  # unknown destination
    "soft_bounced": ("undelivered", 30003),  # unreachable
    "failed": ("failed", 30008),
}
FIELDS = frozenset(
    {"To", "From", "Body", "MessagingServiceSid", "StatusCallback", "ValidityPeriod", "MediaUrl"}
)


class Twilio(MessageProvider):
    """Who opted out is in `gone`, who cannot be reached in `refused`; or as Twilio's own numbers
    for tests. Its callbacks are signed with the token that asked."""

    name: ClassVar[str] = "twilio"
    kind: ClassVar[str] = "sms"

    def take(self, ask: Ask) -> Taken:
        path = PATH.fullmatch(ask.path)
        account, sid = (path[1], path[2]) if path else ("", None)
        token = self._demand_token(ask, account)
        if path is None:
            raise Refused(404, f"The requested resource {ask.path} was not found", code=20404)
        if ask.request.method == "GET":
            return Taken(self._show(account, sid) if sid else self._list(ask, account))
        if ask.request.method != "POST" or sid:
            raise Refused(405, "Method not allowed", code=20004)
        if self.conditions.out_of_quota:
            raise Refused(429, "Account exceeded the daily messages limit", code=63038)
        message = self._read(ask, account)
        message.signer = token
        return Taken(answer(201, document(message, ask.now)), [message])

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        code = refused.first.code or {429: 20429, 503: 20503}.get(refused.status, 20500)
        said = {
            "code": code,
            "message": str(refused),
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": refused.status,
        }
        return answer(refused.status, said).with_headers(refused.headers)

    def misshapen(self, error: BadInput) -> Refused:
        return Refused(400, str(error), code=20001)

    def _demand_token(self, ask: Ask, account: str) -> str:
        """The account's own token; '' where an API key was shown in its place."""
        scheme, _, text = ask.request.headers.get("authorization", "").partition(" ")
        try:
            user, _, token = b64decode(text, validate=True).decode("ascii").partition(":")
        except ValueError:
            user = token = ""
        refused = Refused(401, "Authenticate", code=20003)
        if scheme.lower() != "basic" or not USER.fullmatch(user) or not token:
            raise refused
        if user.startswith("AC") and account and user != account:
            raise refused
        demand(self.conditions, token, refused)
        return token if user == account else ""

    def _read(self, ask: Ask, account: str) -> Message:
        if ask.request.headers.get("content-type", "").partition(";")[0] != URLENCODED:
            raise Refused(400, f"The content type must be {URLENCODED}", code=20001)
        form = read_form(ask.request)
        unknown = {name for name, _ in form.pairs} - FIELDS
        if unknown:
            raise Refused(400, f"Unknown parameters: {', '.join(sorted(unknown))}", code=20001)
        to, sender, body = form.first("To"), form.first("From"), form.first("Body")
        service, callback = form.first("MessagingServiceSid"), form.first("StatusCallback")
        self._check_people(to, sender, service)
        if not body:
            raise Refused(400, "Message body is required.", code=21602)
        if len(body) > CHARACTERS:
            raise Refused(
                400, "The concatenated message body exceeds the 1600 character limit.", code=21617
            )
        if callback and not _is_url(callback):
            raise Refused(400, f"The StatusCallback URL {callback} is not a valid URL.", code=21609)
        return Message(
            provider=self.name,
            kind=self.kind,
            object=f"SM{uuid4().hex}",
            recipient=to,
            sender=sender or service,
            to=[to],
            text=body,
            account=account,
            callback=callback,
        )

    def _check_people(self, to: str, sender: str, service: str) -> None:
        if not to:
            raise Refused(400, "A 'To' phone number is required.", code=21604)
        if not sender and not service:
            raise Refused(400, "A 'From' phone number is required.", code=21603)
        if service and not SERVICE.fullmatch(service):
            raise Refused(400, "The Messaging Service Sid is invalid.", code=21701)
        if sender and not SENDER.fullmatch(sender):
            _refuse(MAGIC_FROM["+15005550001"], sender)
        if sender in MAGIC_FROM:
            _refuse(MAGIC_FROM[sender], sender)
        if to in MAGIC_TO:
            _refuse(MAGIC_TO[to], to)
        if not NUMBER.fullmatch(to) or self.conditions.refuses(to):
            _refuse(MAGIC_TO["+15005550001"], to)
        if self.conditions.has_lost(to):
            _refuse(MAGIC_TO["+15005550004"], to)

    def _show(self, account: str, sid: str) -> Answer:
        for message in self._of(account):
            if message.object == sid:
                return answer(200, document(message, message.at))
        raise Refused(404, f"The requested resource {sid} was not found", code=20404)

    def _list(self, ask: Ask, account: str) -> Answer:
        """Newest first, by To, From and DateSent (also `DateSent>` and `DateSent<`)."""
        query = dict(parse_qsl(ask.request.query, keep_blank_values=True))
        size = min(_number(query.pop("PageSize", ""), PAGE) or PAGE, PAGES)
        page = _number(query.pop("Page", ""), 0)
        query.pop("PageToken", None)
        wanted = [each for each in self._of(account) if _fits(each, query)]
        here = wanted[page * size : (page + 1) * size]
        more = len(wanted) > (page + 1) * size

        def uri(number: int) -> str:
            given = urlencode({**query, "PageSize": size, "Page": number})
            return f"/2010-04-01/Accounts/{account}/Messages.json?{given}"

        said = {
            "messages": [document(message, message.at) for message in here],
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + max(len(here) - 1, 0),
            "uri": uri(page),
            "first_page_uri": uri(0),
            "next_page_uri": uri(page + 1) if more else None,
            "previous_page_uri": uri(page - 1) if page else None,
        }
        return answer(200, said)

    def _of(self, account: str) -> list[Message]:
        every = [m for m in self.arrivals if m.provider == self.name and m.account == account]
        return every[::-1]


def document(message: Message, now: float) -> dict[str, Any]:
    """The message as Twilio shows it."""
    status, error = STATUSES.get(message.status, ("queued", None))
    at = format_datetime(datetime.fromtimestamp(now, UTC))
    uri = f"/2010-04-01/Accounts/{message.account}/Messages/{message.object}"
    service = message.sender if SERVICE.fullmatch(message.sender) else None
    return {
        "account_sid": message.account,
        "api_version": "2010-04-01",
        "body": message.text,
        "date_created": at,
        "date_sent": None if status == "queued" else at,
        "date_updated": at,
        "direction": "outbound-api",
        "error_code": error,
        "error_message": None if error is None else "Not delivered",
        "from": None if service else message.sender,
        "messaging_service_sid": service,
        "num_media": "0",
        "num_segments": str(-(-len(message.text) // 153)),
        "price": None,
        "price_unit": "USD",
        "sid": message.object,
        "status": status,
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": message.recipient,
        "uri": f"{uri}.json",
    }


def _refuse(why: tuple[int, str], number: str) -> None:
    raise Refused(400, why[1].format(number), code=why[0])


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _fits(message: Message, query: dict[str, str]) -> bool:
    sent = datetime.fromtimestamp(message.at, UTC)
    for name, value in query.items():
        if name == "To" and message.recipient != value:
            return False
        if name == "From" and message.sender != value:
            return False
        if name.startswith("DateSent") and not _in_time(sent, name, value):
            return False
    return True


def _in_time(sent: datetime, name: str, value: str) -> bool:
    """`DateSent=2026-01-02` is that day in UTC; `DateSent>=…` comes as the name `DateSent>`."""
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError as error:
        raise Refused(400, f"{name} is no date", code=20001) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if name.endswith("<"):
        return sent <= moment
    if name.endswith(">"):
        return sent >= moment
    return sent.date() == moment.date()
