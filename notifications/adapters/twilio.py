"""Twilio's messages. https://www.twilio.com/docs/messaging/api/message-resource"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import CALL_KEY, KEY_KEY, Sms
from notifications.adapters.refusals import (
    ACCOUNT,
    QUOTA,
    RECIPIENTS,
    REQUEST,
    THROTTLED,
    Meaning,
    Table,
    error_of,
    fields_in,
    text_in,
    unreadable,
    word_in,
)
from notifications.adapters.replies import OPTED_OUT, Receipt, accepted_reply
from notifications.adapters.twilio_lists import SHOWN, Window, accepted_like, shows_numbers
from outbound.adapters import CallContext, Reply, operation
from outbound.client import Request, Response
from outbound.errors import DidNotHappen, PermanentError

DEFAULT_API_BASE = "https://api.twilio.com"
FORM = "application/x-www-form-urlencoded"
PROOF = timedelta(hours=1)  # after which a message that is not listed was never taken
QUOTABLE = 3  # characters: shorter texts are everywhere

# https://www.twilio.com/docs/api/errors
MEANINGS: Table = {
    "21610": Meaning(PermanentError, OPTED_OUT, http_status=400),  # has answered STOP
    # The number is none, or none that can get a text.
    "21211": RECIPIENTS,
    "21214": RECIPIENTS,
    "21217": RECIPIENTS,
    "21265": RECIPIENTS,  # a short code
    "21401": RECIPIENTS,
    "21407": RECIPIENTS,
    "21614": RECIPIENTS,  # no mobile number
    "21635": RECIPIENTS,  # a landline
    # Too much at a time.
    "14107": THROTTLED,
    "20429": THROTTLED,
    "21611": THROTTLED,  # the sender's queue is full
    "63038": QUOTA,  # the account's messages of a day
    # Ours to set right: credentials, the account, the sender.
    "20003": ACCOUNT,
    "20005": ACCOUNT,
    "21212": ACCOUNT,
    "21408": ACCOUNT,  # messages to that country are switched off
    "21603": ACCOUNT,
    "21606": ACCOUNT,
    "21608": ACCOUNT,  # a trial account
    "21659": ACCOUNT,
    "21660": ACCOUNT,
    "21701": ACCOUNT,
    "21703": ACCOUNT,
    # Not from this sender to this number: another provider may.
    "21612": REQUEST,
    # What is to be said.
    "21602": REQUEST,
    "21617": REQUEST,
}
UNSENT = ("failed", "undelivered", "canceled")  # in the answer itself


class TwilioAdapter(MessageAdapter):
    """One text message to one number. There are no idempotency keys, so what has an unknown outcome
    is looked up, and told by Twilio's own event: our marks stand in the address for those.

    Options: ACCOUNT_SID, AUTH_TOKEN, API_BASE, FROM or MESSAGING_SERVICE_SID (which wins), and
    STATUS_CALLBACK, the address to which Twilio sends events ('': to none).
    """

    required_options = {  # noqa: RUF012  # a ClassVar in Adapter
        "ACCOUNT_SID": "TWILIO_ACCOUNT_SID",
        "AUTH_TOKEN": "TWILIO_AUTH_TOKEN",
    }
    visible_fields = frozenset(
        {"sid", "status", "code", "error_code", "num_segments", "date_created", "direction"}
    )

    @operation()
    def send_sms(self, payload: Sms, context: CallContext) -> Reply:
        """https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource"""
        form = {"To": payload.to, "Body": payload.body, **self._sender(payload)}
        if callback := str(self.options.get("STATUS_CALLBACK") or ""):
            marks = {CALL_KEY: context.call_id, KEY_KEY: context.idempotency_key}
            form["StatusCallback"] = f"{callback}?{urlencode(marks)}"
        response = self._send("POST", "", context, payload, body=urlencode(form))
        document = fields_in(response)
        sid = text_in(document.get("sid"))
        if not sid:
            raise unreadable(response, provider="twilio", request_id=_request_id(response))
        if document.get("status") in UNSENT:
            raise _unsent(response, document)
        return _reply(payload, sid, response)

    def resolve(self, name: str, payload: BaseModel, context: CallContext) -> Reply | None:
        """Look for the message in Twilio's list: to this number, from this sender, with these
        words, made when the attempt was. Where several are alike, or only others were made then (a
        sender may alter words, an account may hide them), a person decides.

        Not found is no proof at first, for a list may lag. It is one after an hour, if nothing at
        all went to the number then, the list of it is whole, and the account shows numbers:
        where they are hidden, the search for one finds nothing. Raises DidNotHappen.
        """
        if not isinstance(payload, Sms) or context.asked_at is None:
            return None
        window = Window(context.asked_at)
        response = self._list({"To": payload.to, "DateSent>": window.since}, payload, context)
        alike, near = accepted_like(fields_in(response), payload, self._sender(payload), window)
        if near:
            return _reply(payload, alike[0], response) if len(alike) == 1 else None
        if context.asked_at + PROOF > window.now_of(response.headers.get("Date")):
            return None
        if self._never_came(payload, window, context):
            raise DidNotHappen("twilio: no message went to the number then", http_status=502)
        return None

    def _never_came(self, payload: Sms, window: Window, context: CallContext) -> bool:
        """What waits to be sent has no date yet, so the number's list is read without one."""
        response = self._list({"To": payload.to}, payload, context)
        page = fields_in(response)
        whole = isinstance(page.get("messages"), list) and page.get("next_page_uri") is None
        _, near = accepted_like(page, payload, self._sender(payload), window)
        if near or not whole:
            return False
        return shows_numbers(fields_in(self._list({}, payload, context)))

    def _sender(self, payload: Sms) -> dict[str, str]:
        service = str(self.options.get("MESSAGING_SERVICE_SID") or "")
        sender = payload.sender or ("" if service else str(self.options.get("FROM") or ""))
        if sender:
            return {"From": sender}
        if service:
            return {"MessagingServiceSid": service}
        raise ImproperlyConfigured("neither TWILIO_FROM nor TWILIO_MESSAGING_SERVICE_SID is set")

    def _list(self, query: Mapping[str, str], payload: Sms, context: CallContext) -> Response:
        encoded = urlencode({**query, "PageSize": SHOWN})
        return self._send("GET", f"?{encoded}", context, payload)

    def _send(
        self, method: str, query: str, context: CallContext, payload: Sms, *, body: str = ""
    ) -> Response:
        sid, token = self.options["ACCOUNT_SID"], self.options["AUTH_TOKEN"]
        base = str(self.options.get("API_BASE") or DEFAULT_API_BASE)
        headers = {"Authorization": "Basic " + base64.b64encode(f"{sid}:{token}".encode()).decode()}
        if body:
            headers["Content-Type"] = FORM
        url = f"{base}/2010-04-01/Accounts/{sid}/Messages.json{query}"
        response = self.http.send(Request(method, url, headers, body.encode("ascii")), context)
        document = fields_in(response)
        error = error_of(
            response,
            provider="twilio",
            table=MEANINGS,
            word=word_in(document.get("code")),
            text=text_in(document.get("message")),
            keyed=method == "GET",  # a list can be read again
            private=frozenset(t for t in (payload.to, payload.body) if len(t) >= QUOTABLE),
            request_id=_request_id(response),
        )
        if error is not None:
            raise error
        return response


def _reply(payload: Sms, sid: str, response: Response) -> Reply:
    return accepted_reply(
        [Receipt(payload.to, accepted=True, message_id=sid)],
        message_id=sid,
        provider_status=response.status,
        provider_request_id=_request_id(response),
    )


def _unsent(response: Response, document: Mapping[str, Any]) -> PermanentError:
    """Taken, and given up at once."""
    word = word_in(document.get("error_code"))
    meaning = MEANINGS.get(word, REQUEST)
    return PermanentError(
        f"twilio: {word or 'not sent'}",
        code=meaning.code or word,
        http_status=meaning.http_status,
        provider_status=response.status,
        provider_request_id=_request_id(response),
    )


def _request_id(response: Response) -> str:
    return response.headers.get("Twilio-Request-Id", "")
