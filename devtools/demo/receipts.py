"""The scene of the shop's receipts: the first provider is gone, the second one delivers."""

from __future__ import annotations

from collections import Counter

from devtools.api_client import ApiClient
from devtools.demo.words import say, wait_for, words
from sandbox.control import Sandbox

FIRST, SECOND = "sendgrid", "mailgun"
RECEIPTS = 6


class Receipts:
    """What is shown, and what must be true of it afterwards. `gone`: where the first provider was
    until a moment ago."""

    def __init__(self, sandbox: Sandbox, gone: Sandbox, api: ApiClient) -> None:
        self._sandbox = sandbox
        self._gone = gone
        self._api = api
        self._asked: list[str] = []

    def play(self) -> None:
        from notifications.services import Recipient
        from notifications.states import RecipientStatus
        from outbound.services import is_circuit_open

        self._gone.kill()
        for number in range(RECEIPTS):
            self._ask(number)
        say(f"\nThe shop sends {RECEIPTS} receipts, through SendGrid or else Mailgun. SendGrid is")
        say("gone: SIGKILL, nobody listens there any more.")
        wait_for(
            lambda: is_circuit_open(adapter=FIRST, operation="send_email"),
            "SendGrid's circuit to open",
        )
        say(
            "SendGrid's circuit has opened. Nothing was sent, so nothing can come twice: Mailgun is"
        )
        say("asked instead.")
        delivered = Recipient.objects.filter(status=RecipientStatus.DELIVERED)
        wait_for(lambda: delivered.count() == RECEIPTS, "the receipts to be delivered")
        say("Mailgun has taken each, and has told by a signed webhook that it was delivered.")

    def _ask(self, number: int) -> None:
        address = f"customer-{number}@example.com"
        self._asked.append(address)
        body = {
            "to": address,
            "subject": f"Receipt {number}",
            "text": f"Thank you, customer {number}.",
            "reference": f"demo-receipt-{number}",
        }
        self._api.write("/emails", body, key=f"demo-receipt-{number}")

    def compare(self) -> tuple[list[tuple[str, str]], list[str]]:
        """Its line of the table, and what does not hold."""
        from notifications.services import Message, Recipient

        effects = [e for e in self._sandbox.ledger() if e.provider in (FIRST, SECOND)]
        takers = Counter(effect.provider for effect in effects)
        sent = Counter(effect.recipient for effect in effects)
        here = Counter(Recipient.objects.values_list("dispatch__provider", flat=True))
        statuses = Counter(Recipient.objects.values_list("status", flat=True))
        calls = set(Recipient.objects.values_list("dispatch__call_id", flat=True))
        row = (
            "receipts",
            f"{words(statuses)}: {words(takers)}, as {FIRST} was gone; one each there",
        )
        once = dict.fromkeys(self._asked, 1)
        truths = [
            (dict(sent) == once, f"the receipts at the providers are {dict(sent)}"),
            (here == takers == {SECOND: RECEIPTS}, f"here {dict(here)}, there {dict(takers)}"),
            (statuses == {"delivered": RECEIPTS}, f"the receipts are {words(statuses)}"),
            ({str(call) for call in calls} == {e.call for e in effects}, "calls do not match"),
            (Message.objects.count() == RECEIPTS, "there is another number of messages"),
        ]
        return [row], [line for holds, line in truths if not holds]
