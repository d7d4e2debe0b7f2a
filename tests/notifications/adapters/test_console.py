"""The console adapter keeps to what every adapter for email keeps to."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest

from notifications.adapters import MessageAdapter
from notifications.adapters.console import ConsoleAdapter
from notifications.adapters.messages import BulkEmail, Email
from outbound.adapters import Reply
from outbound.client import HttpClient
from tests.contracts.mail import MailContract
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered, read_mime

RULE = "-" * 79


class TestConsole(MailContract):
    """Nothing is refused, and nothing leaves the machine."""

    adapter_class = ConsoleAdapter
    keeps_tags = False

    def mail_adapter(self, url: str = "") -> MessageAdapter:
        return ConsoleAdapter(name="console", options={}, http=HttpClient(provider="console"))

    def deliver(self, payload: Email | BulkEmail) -> tuple[Reply, list[Delivered]]:
        operation = "send_email" if isinstance(payload, Email) else "send_bulk_email"
        with redirect_stdout(io.StringIO()) as stdout:
            reply = self.mail_adapter().perform(operation, payload, letters.context())
        written = stdout.getvalue().split(f"\n{RULE}\n")
        assert written.pop() == ""
        messages = [read_mime(text.encode()) for text in written]
        if isinstance(payload, Email):  # a hidden copy is in no header
            messages[0].bcc = [(each.name, each.address) for each in payload.bcc]
        return reply, messages

    def deliver_refusing(
        self, payload: Email | BulkEmail, *refused: str
    ) -> tuple[Reply, list[str]]:
        pytest.skip("nothing is refused")
