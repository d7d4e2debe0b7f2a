"""The main scene: payments, with faults, a killed worker and an outage."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from devtools.api_client import Answer, ApiClient
from devtools.demo.words import PATIENCE_SECONDS, say, wait_for, words
from devtools.stack import Stack
from sandbox.control import Sandbox

CUSTOMERS, PAYMENTS, REFUNDS = 12, 18, 8  # and one that is declined, and one that is waited for
CALLS = CUSTOMERS + PAYMENTS + REFUNDS + 2
OUTAGE_CALLS = 24
FAULT_RATE = 0.2
FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 503},
    {"kind": "rate_limit", "retry_after": "1"},
    {"kind": "drop_before_effect"},
    {"kind": "drop_after_effect"},
]
LATENCY_SECONDS = 0.3
DECLINED_AMOUNT = 4242
STRIPE = "stripe"


class Payments:
    """What is shown, and what must be true of it afterwards."""

    def __init__(self, sandbox: Sandbox, stack: Stack, api: ApiClient) -> None:
        self._sandbox = sandbox
        self._stack = stack
        self._api = api
        self._replayed = 0
        self._payments: list[str] = []
        self._cut: set[Any] = set()
        self._answered = False
        self._parked = 0

    def play(self) -> None:
        say(f"{CALLS} calls to a provider on this machine that fails one request in five:")
        say("errors 503, 429 with Retry-After, connections lost before or after the effect.")
        say("Waits are short for the show: retries from half a second, leases of 16 s.\n")
        self._sandbox.change_settings(latency=LATENCY_SECONDS)
        self._misbehave()
        self._sandbox.change_webhooks(
            policy={"reorder": 5, "reorder_seconds": 0.5},
            rules=[{"rate": 0.3, "policy": {"reorder": 5, "duplicates": 1}}],
        )
        self._decline_one()
        self._roll_one_back()
        self._enqueue()
        self._kill_the_worker()
        self._wait_for_an_answer()
        self._retry_as_new()
        self._refund()
        wait_for(self._at_rest, "every call to end")
        self._outage()
        wait_for(self._at_rest, "every call to end")
        self._sandbox.wait_for_deliveries(patience=PATIENCE_SECONDS)
        self._writes = self._api.writes

    def _misbehave(self) -> None:
        self._sandbox.set_mix(rate=FAULT_RATE, kinds=FAULTS, method="POST", path="/v1/")

    def _decline_one(self) -> None:
        self._sandbox.decline_for(amount=DECLINED_AMOUNT)
        self._declined = self._pay("demo-declined", amount=DECLINED_AMOUNT).call["id"]

    def _pay(self, reference: str, *, amount: int, wait: int | None = None) -> Answer:
        body = {
            "amount": amount,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "reference": reference,
        }
        return self._api.write("/payment-intents", body, key=reference, wait=wait)

    def _introduce(self, reference: str) -> Answer:
        body = {"email": f"{reference}@example.com", "reference": reference}
        return self._api.write("/customers", body, key=reference)

    def _roll_one_back(self) -> None:
        from django.db import transaction

        from payments.services import create_payment

        class NoSale(Exception):
            pass

        try:
            with transaction.atomic():
                create_payment(amount=1, currency="usd", reference="demo-rolled-back")
                raise NoSale
        except NoSale:
            say("A Django view's transaction asked for a payment and rolled back: no such call.")

    def _enqueue(self) -> None:
        for number in range(CUSTOMERS):
            self._introduce(f"demo-c{number}")
        for number in range(PAYMENTS):
            self._payments.append(self._pay(f"demo-p{number}", amount=1000 + number).call["id"])
            again = self._pay(f"demo-p{number}", amount=1000 + number)
            self._replayed += again.replayed
        say(
            f"{CUSTOMERS} customers and {PAYMENTS} payments were asked for over the HTTP API, every"
        )
        say("payment twice under the same Idempotency-Key. The worker takes them.")

    def _kill_the_worker(self) -> None:
        from outbound.services import CallAttempt, OutboundCall
        from outbound.states import CallStatus

        running = OutboundCall.objects.filter(status=CallStatus.RUNNING)
        wait_for(lambda: running.count() >= 4, "four calls to be in flight")
        pid = self._stack.pid("worker")
        self._stack.kill("worker")
        self._cut = set(CallAttempt.objects.open().values_list("pk", flat=True))
        say(f"SIGKILL to the worker (pid {pid}) with {len(self._cut)} calls in flight.")
        wait_for(lambda: self._stack.restarts("worker") >= 1, "the worker to come back")
        say("It has been started again. What was in flight goes on when its lease ends, unless the")
        say("provider's webhook tells before that it worked.")

    def _wait_for_an_answer(self) -> None:
        self._sandbox.clear_faults()  # one fault would be its whole wait
        answer = self._pay("demo-checkout", amount=900, wait=10)
        self._misbehave()
        self._answered = answer.status == 201 and bool(answer.call["result"]["client_secret"])
        if self._answered:
            say("A checkout waited (Prefer: wait=10) for its client_secret, and has it.")

    def _retry_as_new(self) -> None:
        def failed() -> str:
            call = self._api.call(self._declined)
            return str(call["error"]["code"]) if call["status"] == "failed" else ""

        code = wait_for(failed, "the card to be declined")
        say(f"One card was declined ({code}): FAILED, and never repeated by itself.")
        self._sandbox.clear_declines()
        wish = {"as_new": True, "reason": "the bank has lifted its block"}
        self._api.act(f"/calls/{self._declined}/retry", wish)
        say("The cause is gone: retried as new, with a new key and a reason.")

    def _refund(self) -> None:
        for number, call_id in enumerate(self._payments[:REFUNDS]):

            def paid(call_id: str = call_id) -> object:
                return self._api.call(call_id)["provider_reference"]

            intent = wait_for(paid, "a payment that is to be refunded")
            reference = f"demo-r{number}"
            body = {"payment_intent": intent, "amount": 500 + number, "reference": reference}
            self._api.write("/refunds", body, key=reference)
        say(f"{REFUNDS} refunds were asked for.")

    def _outage(self) -> None:
        from outbound.services import Circuit, OutboundCall
        from outbound.states import WAITING, CircuitState

        def circuit() -> Circuit:
            return Circuit.objects.get(pk=STRIPE)

        self._sandbox.set_mix(
            rate=1.0, kinds=[{"kind": "status", "status": 503}], method="POST", path="/v1/"
        )
        for number in range(OUTAGE_CALLS):
            self._introduce(f"demo-o{number}")
        say(f"\nNow the provider is down: every request gets a 503. {OUTAGE_CALLS} more calls.")
        wait_for(lambda: circuit().state == CircuitState.OPEN, "the circuit to open")
        say("The circuit has opened, for every worker. What is not sent yet waits on its row.")
        waiting = OutboundCall.objects.filter(status__in=WAITING)
        wait_for(lambda: circuit().openings >= 2, "a first probe to fail")
        self._parked = waiting.count()
        self._sandbox.clear_faults()
        say(f"One probe has failed; {self._parked} calls are parked. The provider comes back.")
        wait_for(lambda: circuit().state == CircuitState.CLOSED, "the circuit to close")
        say("Probes have succeeded, the circuit is closed; the calls come along a ramp.")

    def _at_rest(self) -> bool:
        from outbound.services import OutboundCall
        from outbound.states import FINAL

        return not OutboundCall.objects.exclude(status__in=FINAL).exists()

    def compare(self) -> tuple[list[tuple[str, str]], list[str]]:
        """The final table, and what does not hold."""
        from outbound.services import CallAttempt, OutboundCall
        from payments.models import Payment
        from webhooks.services import WebhookEvent
        from webhooks.states import EventStatus

        asked = CALLS + OUTAGE_CALLS
        calls = list(OutboundCall.objects.filter(adapter=STRIPE))
        attempts = CallAttempt.objects.filter(call__adapter=STRIPE)
        ledger = self._sandbox.ledger(provider=STRIPE)
        effects = [effect for effect in ledger if effect.by == "request"]
        done = Counter(effect.call for effect in effects if effect.outcome == "done")
        doubled = [key for key, count in Counter(e.key for e in effects).items() if count > 1]
        lost = [call for call in calls if call.status == "succeeded" and done[str(call.pk)] != 1]
        events = list(WebhookEvent.objects.filter(source=STRIPE))
        deliveries = self._sandbox.deliveries(provider=STRIPE)
        delivered = [each for each in deliveries if each.outcome == "delivered"]
        requests = [seen for seen in self._sandbox.requests() if seen.path.startswith("/v1/")]
        faults = Counter(request.fault for request in requests if request.fault)
        cut = Counter(a.outcome for a in attempts.filter(pk__in=self._cut))
        statuses = Counter(call.get_status_display() for call in calls)
        refunded = sum(e.amount or 0 for e in effects if e.kind == "refund.created")
        ours = sum(payment.amount_refunded for payment in Payment.objects.all())
        spent, probes = spent_while_open(), attempts.filter(trigger="probe").count()
        handled = sum(event.status == EventStatus.PROCESSED for event in events)
        table = [
            (
                "requests to the API",
                f"{self._writes} writes, {self._replayed} of them repeated",
            ),
            ("calls asked for", f"{len(calls)}, {OUTAGE_CALLS} of them in the outage"),
            ("calls by outcome", words(statuses)),
            ("attempts made", f"{attempts.count()}, {len(self._cut)} cut by SIGKILL"),
            ("  which ended", f"{cut['crashed']} by their lease, {cut['superseded']} by a webhook"),
            ("faults that requests met", f"{sum(faults.values())} of {len(requests)} requests"),
            ("  of which", words(faults)),
            ("webhooks delivered", f"{len(delivered)} for {len(events)} events, out of order"),
            ("events handled", f"{handled} processed once each, {len(events) - handled} ignored"),
            ("refunded", f"{ours} here, {refunded} at the provider"),
            ("effects at the provider", f"{sum(done.values())} for {len(calls)} calls"),
            ("parked in the outage", f"{self._parked} calls"),
            ("attempts while it was open", f"{spent} of them, and {probes} probes to end it"),
            ("calls lost", str(len(lost))),
            ("effects duplicated", str(len(doubled))),
        ]
        truths = [
            (len(calls) == asked, f"{asked} calls were asked for, there are {len(calls)}"),
            (
                self._replayed == PAYMENTS,
                f"{PAYMENTS} payments were asked for twice, {self._replayed} known the second time",
            ),
            (self._parked > 0, "the outage parked no call"),
            (spent == 0, f"{spent} attempts were spent while the circuit was open"),
            (statuses == {"Succeeded": asked}, f"not every call succeeded: {words(statuses)}"),
            (not lost, f"{len(lost)} calls succeeded here without exactly one effect there"),
            (not doubled, f"{len(doubled)} keys had more than one effect"),
            (sum(done.values()) == asked, f"{sum(done.values())} effects for {asked} calls"),
            (self._answered, "the checkout view got no client_secret within its wait"),
            (bool(self._cut), "no attempt was cut by the SIGKILL"),
            (
                cut.keys() <= {"crashed", "superseded"},
                f"attempts that were cut ended as {dict(cut)}",
            ),
            (bool(faults), "no fault was met"),
            (len(delivered) > len(events), "no event came twice"),
            (
                {e.event for e in delivered} == {e.event_id for e in events},
                "an event was answered 2xx and is not stored, or the other way round",
            ),
            (not any(e.status == EventStatus.FAILED for e in events), "an event failed"),
            (ours == refunded, f"refunded {ours} here and {refunded} at the provider"),
        ]
        return table, [line for holds, line in truths if not holds]


def spent_while_open() -> int:
    """Attempts that began while the circuit was open: after it had opened, before a probe."""
    from outbound.services import CallAttempt, CircuitTransition
    from outbound.states import CircuitState

    changes = list(CircuitTransition.objects.filter(circuit=STRIPE).order_by("at"))
    return sum(
        CallAttempt.objects.filter(
            call__adapter=STRIPE, started_at__gt=opened.at, started_at__lt=then.at
        ).count()
        for opened, then in pairwise(changes)
        if opened.to_state == CircuitState.OPEN
    )
