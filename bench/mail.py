"""What a batch saves: 10,000 recipients by each provider's batch call, against a call for each.

Through rows, both: `send_bulk_email` and `send_email` store messages and calls, and threads deliver
them through the engine to a sandbox that answers after some milliseconds. A call for each recipient
is measured on fewer of them, and multiplied.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.test import override_settings

from bench.measuring import Effort
from bench.reports import Report
from notifications.services import Recipient, send_bulk_email, send_email
from notifications.states import RecipientStatus
from outbound import engine
from outbound.gates import DATABASE_AWAY
from outbound.models import OutboundCall
from sandbox.control import Sandbox

RECIPIENTS = 10_000
SAMPLE = 100  # who get a call each
THREADS = 4
LATENCY_SECONDS = 0.02  # of the provider
SENDER = "shop@example.com"
SUBJECT = "{{name}}, your order"
TEXT = "Dear {{name}}, your order {{number}} has been sent."
HTML = "<p>Dear {{name}},</p><p>your order <b>{{number}}</b> has been sent.</p>"
PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "sendgrid": ("sendgrid.SendGridAdapter", {"API_KEY": "SG.bench"}),
    "mailgun": ("mailgun.MailgunAdapter", {"API_KEY": "key-bench", "DOMAIN": "mg.example.com"}),
    "ses": (
        "ses.SesAdapter",
        {"ACCESS_KEY_ID": "AKIDBENCH", "SECRET_ACCESS_KEY": "bench", "REGION": "eu-west-1"},
    ),
    "postmark": ("postmark.PostmarkAdapter", {"SERVER_TOKEN": "bench-token"}),
    "resend": ("resend.ResendAdapter", {"API_KEY": "re_bench"}),
}
HEADER = (
    "", "recipients/call", "calls", "store s", "deliver s", "one each: calls", "s", "times faster",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sending:
    """How long it took to store so many calls, and to deliver them."""

    calls: int
    stored: float
    delivered: float

    @property
    def seconds(self) -> float:
        return self.stored + self.delivered


def measure(effort: Effort) -> Report:
    """Each provider after the other; of rounds there is one, and of rows as many as recipients."""
    number = min(RECIPIENTS, effort.rows)
    sample = min(SAMPLE, number)
    rows, failures = [], []
    with Sandbox.start() as sandbox, configured(sandbox):
        for provider in PROVIDERS:
            quiet(sandbox, provider)
            batch = send_batches(provider, number)
            failures += wrong(sandbox, provider, f"bench-{provider}-bulk", number)
            quiet(sandbox, provider)
            each = send_one_each(provider, sample)
            failures += wrong(sandbox, provider, f"bench-{provider}-each", sample)
            rows.append(_row(provider, batch, each, number=number))
    return Report(
        f"{number:,} recipients; the provider answers after {LATENCY_SECONDS * 1000:.0f} ms,"
        f" {THREADS} threads deliver",
        HEADER,
        rows,
        notes=[f"one each: measured on {sample} recipients, times {number / sample:g}"],
        failures=failures,
    )


@contextmanager
def configured(sandbox: Sandbox) -> Iterator[None]:
    """Every provider is the sandbox."""
    adapters: dict[str, dict[str, Any]] = {
        name: {
            "ADAPTER": f"notifications.adapters.{adapter}",
            "QUEUE": "notifications-v1",
            "OPTIONS": {**options, "API_BASE": f"{sandbox.url}/{name}"},
        }
        for name, (adapter, options) in PROVIDERS.items()
    }
    with override_settings(OUTBOUND_ADAPTERS=adapters):
        yield


def quiet(sandbox: Sandbox, provider: str) -> None:
    """As new, and nothing follows."""
    sandbox.reset()
    sandbox.change_provider(provider, story=[])
    sandbox.change_settings(latency=LATENCY_SECONDS)


def send_batches(provider: str, number: int = RECIPIENTS) -> Sending:
    recipients: list[Mapping[str, Any]] = [
        {
            "address": f"customer-{place}@example.com",
            "variables": {"name": f"Ada {place}", "number": str(place)},
        }
        for place in range(number)
    ]
    begun = time.perf_counter()
    send_bulk_email(
        recipients=recipients,
        subject=SUBJECT,
        text=TEXT,
        html=HTML,
        sender=SENDER,
        route=[provider],
        reference=f"bench-{provider}-bulk",
    )
    return _deliver(f"bench-{provider}-bulk", stored=time.perf_counter() - begun)


def send_one_each(provider: str, number: int = SAMPLE) -> Sending:
    begun = time.perf_counter()
    for place in range(number):
        words = {"{{name}}": f"Ada {place}", "{{number}}": str(place)}
        subject, text, html = (_filled(each, words) for each in (SUBJECT, TEXT, HTML))
        send_email(
            to=f"customer-{place}@example.com",
            subject=subject,
            text=text,
            html=html,
            sender=SENDER,
            route=[provider],
            reference=f"bench-{provider}-each",
        )
    return _deliver(f"bench-{provider}-each", stored=time.perf_counter() - begun)


def wrong(sandbox: Sandbox, provider: str, reference: str, wanted: int) -> list[str]:
    """What must not be: somebody without their message, with two, or not told of here."""
    effects = sandbox.ledger(provider=provider)
    found = []
    if len(effects) != wanted or len({effect.recipient for effect in effects}) != wanted:
        found.append(f"{provider}: {len(effects)} messages for {wanted} recipients")
    accepted = Recipient.objects.filter(
        status=RecipientStatus.QUEUED, message__reference=reference
    ).count()
    if accepted != wanted:
        found.append(f"{provider}: {accepted} of {wanted} are written down as accepted")
    return found


def _filled(text: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        text = text.replace(name, value)
    return text


def _deliver(reference: str, *, stored: float) -> Sending:
    calls = list(OutboundCall.objects.filter(reference=reference).values_list("pk", flat=True))
    begun = time.perf_counter()
    waiting = deque(calls)
    with ThreadPoolExecutor(THREADS) as pool:
        for worker in [pool.submit(_deliver_some, waiting) for _ in range(THREADS)]:
            worker.result()
    return Sending(len(calls), stored, time.perf_counter() - begun)


def _deliver_some(waiting: deque[Any]) -> None:
    """Until there is none left, over one connection to the database."""
    try:
        with suppress(IndexError):
            while True:
                call = waiting.popleft()
                try:
                    engine.deliver(call)
                except DATABASE_AWAY:  # SQLite has one writer, and no queue for the others
                    waiting.append(call)
    finally:
        connections.close_all()


def _row(provider: str, batch: Sending, each: Sending, *, number: int) -> tuple[str, ...]:
    times = number / each.calls
    return (
        provider,
        str(-(-number // batch.calls)),
        f"{batch.calls:,}",
        f"{batch.stored:.2f}",
        f"{batch.delivered:.2f}",
        f"{number:,}",
        f"{each.seconds * times:.0f}",
        f"{each.seconds * times / batch.seconds:.0f}",
    )
