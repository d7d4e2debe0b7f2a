"""What a mail server says to each step of a conversation, and keeps of it at the end.

Every step is a request of its own, so that the faults find it: /smtp/connect, /smtp/mail,
/smtp/rcpt, /smtp/begin (DATA, before the content) and /smtp/data (after it). A status is SMTP's own
code. https://www.rfc-editor.org/rfc/rfc5321#section-4.2.3
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from sandbox.faults.fault import Met
from sandbox.ids import random_text
from sandbox.messages.addresses import is_address
from sandbox.messages.mime import read_message
from sandbox.messages.provider import Ask, MessageProvider, Taken
from sandbox.messages.refused import Refused
from sandbox.records import Message
from sandbox.wire import Answer

RECIPIENTS_HEADER = "recipients"  # of the request that has the content: separated by blanks
GREETING = "sandbox ESMTP ready"
# What HTTP's codes for trouble are here, where a fault speaks of those.
CODES = {429: 450, 500: 451, 502: 451, 503: 421, 504: 451}


class Smtp(MessageProvider):
    """Refuses recipients one by one."""

    name: ClassVar[str] = "smtp"

    def take(self, ask: Ask) -> Taken:
        if ask.path == "/connect":
            return Taken(said(220, GREETING))
        if ask.path == "/mail":
            if self.conditions.out_of_quota:
                raise Refused(550, "5.4.5 Daily user sending limit exceeded")
            return Taken(said(250, "2.1.0 Ok"))
        if ask.path == "/rcpt":
            return self._recipient(ask.request.body.decode("ascii", "replace"))
        if ask.path == "/begin":
            return Taken(said(354, "End data with <CR><LF>.<CR><LF>"))
        if ask.path == "/data" and ask.request.method == "DATA":
            return self._content(ask)
        raise Refused(502, "5.5.1 Command not implemented")

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        return said(refused.status, str(refused))

    def trouble(self, status: int, *, code: str, met: Met) -> Answer:
        status = CODES.get(status, status)
        text = "4.7.1 Try again later" if status < 500 else "5.7.1 Not taken"
        return said(status, text)

    def _recipient(self, address: str) -> Taken:
        if not is_address(address):
            raise Refused(553, "5.1.3 Bad recipient address syntax")
        if self.conditions.refuses(address):
            raise Refused(550, "5.1.1 Recipient address rejected: user unknown")
        return Taken(said(250, "2.1.5 Ok"))

    def _content(self, ask: Ask) -> Taken:
        whole = read_message(ask.request.body, provider=self.name)
        whole.object = random_text(11).upper()
        messages = [
            self._to(whole, address)
            for address in dict.fromkeys(ask.request.headers[RECIPIENTS_HEADER].split())
        ]
        return Taken(said(250, f"2.0.0 Ok: queued as {whole.object}"), messages)

    def _to(self, whole: Message, address: str) -> Message:
        outcome = "dropped" if self.conditions.has_lost(address) else "done"
        return replace(whole, recipient=address, outcome=outcome)


def said(code: int, text: str) -> Answer:
    """One reply."""
    return Answer(code, text.encode(), content_type="text/plain")
