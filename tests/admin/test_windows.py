"""The admin windows: find, read, and change only after a confirmed POST with permission."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbound.services import CallAttempt, OutboundCall
from outbound.states import AttemptOutcome, CallStatus
from payments.models import Payment
from payments.services import create_customer, create_payment, refund_payment
from webhooks.models import WebhookEvent
from webhooks.states import EventStatus

pytestmark = pytest.mark.django_db

CALLS = "admin:outbound_outboundcall_changelist"
EVENTS = "admin:webhooks_webhookevent_changelist"


@pytest.fixture
def boss(client: Client) -> Client:
    """Somebody who may do everything."""
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def clerk(client: Client) -> Callable[..., Client]:
    """Somebody who may view, and what else is named."""

    def log_in(*codenames: str) -> Client:
        user = User.objects.create_user("clerk", is_staff=True)
        wanted = ("view_outboundcall", "view_webhookevent", *codenames)
        user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def payment() -> Payment:
    return create_payment(amount=2000, currency="usd", reference="order-1", idempotency_key="k-1")


def put_into(payment: Payment, status: CallStatus) -> OutboundCall:
    assert payment.call
    OutboundCall.objects.filter(pk=payment.call.pk).update(
        status=status,
        result={"id": "pi_1", "client_secret": "pi_1_secret_marked", "status": "succeeded"},
        provider_reference="pi_1",
        finished_at=timezone.now(),
    )
    return OutboundCall.objects.get(pk=payment.call.pk)


def attempt_of(call: OutboundCall, *, effect_possible: bool = False) -> CallAttempt:
    now = timezone.now()
    return CallAttempt.objects.create(
        call=call,
        number=1,
        trigger="auto",
        idempotency_key=call.idempotency_key,
        started_at=now,
        finished_at=now,
        duration=timedelta(seconds=0.25),
        outcome=AttemptOutcome.UNKNOWN,
        effect_possible=effect_possible,
        error_message="no complete reply",
        provider_request_id="req_1",
    )


def event(status: EventStatus = EventStatus.FAILED, *, body: bytes | None = b"{}") -> WebhookEvent:
    now = timezone.now()
    return WebhookEvent.objects.create(
        source="stripe",
        event_id=f"evt_{uuid.uuid4().hex}",
        event_type="charge.refunded",
        received_at=now,
        updated_at=now,
        due_at=now,
        hint_at=now,
        body=body,
        status=status,
    )


def act(
    client: Client, page: str, action: str, *rows: object, **fields: str
) -> tuple[HttpResponse, list[str]]:
    """POST an action on rows; the answer and what it said."""
    answer: Any = client.post(
        reverse(page), {"action": action, "_selected_action": [str(r) for r in rows], **fields}
    )
    return answer, [str(message) for message in get_messages(answer.wsgi_request)]


@pytest.mark.parametrize(
    "name",
    [
        "outbound_outboundcall",
        "webhooks_webhookevent",
        "payments_payment",
        "payments_customer",
        "payments_refund",
    ],
)
def test_every_list_and_page_opens(boss: Client, payment: Payment, name: str) -> None:
    """No window breaks on a row in its first state."""
    create_customer(email="someone@example.com")
    refund_payment(payment="pi_elsewhere", amount=5)
    event()
    answer = boss.get(reverse(f"admin:{name}_changelist"))
    assert answer.status_code == 200
    row = answer.context["cl"].result_list[0]
    page = boss.get(reverse(f"admin:{name}_change", args=[row.pk]))
    assert page.status_code == 200
    assert b"_save" not in page.content


@pytest.mark.parametrize("word", ["id", "reference", "provider", "request", "key", "padded"])
def test_a_call_is_found_by_any_of_its_ids(boss: Client, payment: Payment, word: str) -> None:
    """Whichever id somebody holds in hand, whole, leads to the call and to no other."""
    create_payment(amount=1, currency="usd", reference="another")
    call = put_into(payment, CallStatus.SUCCEEDED)
    attempt_of(call)
    term = {
        "id": str(call.pk).upper(),
        "reference": "order-1",
        "provider": "pi_1",
        "request": "req_1",
        "key": "k-1",
        "padded": f"  {call.pk} ",
    }[word]
    answer = boss.get(reverse(CALLS), {"q": term})
    assert [row.pk for row in answer.context["cl"].result_list] == [call.pk]


@pytest.mark.parametrize("term", ["nothing", "' OR 1=1", "pi", "0" * 5000])
def test_a_search_for_nonsense_finds_nothing(boss: Client, payment: Payment, term: str) -> None:
    """Bad input is an empty list, never a 500."""
    put_into(payment, CallStatus.SUCCEEDED)
    answer = boss.get(reverse(CALLS), {"q": term})
    assert answer.status_code == 200
    assert list(answer.context["cl"].result_list) == []


def test_a_null_character_is_complained_about(boss: Client, payment: Payment) -> None:
    """What no database can look for is an error message, never a 500."""
    answer = boss.get(reverse(CALLS), {"q": "order\x001"})
    assert answer.status_code == 200
    assert "Null characters are not allowed." in answer.content.decode()


def test_the_page_shows_attempts_and_hides_secrets(boss: Client, payment: Payment) -> None:
    """A person sees what happened; neither secret nor personal data (invariant 8)."""
    call = put_into(payment, CallStatus.UNKNOWN)
    attempt_of(call)
    html = boss.get(reverse("admin:outbound_outboundcall_change", args=[call.pk])).content.decode()
    assert "no complete reply" in html
    assert "pi_1" in html
    assert "secret_marked" not in html


def test_asking_changes_nothing(boss: Client, payment: Payment) -> None:
    """The first POST shows a question; only the confirmed one acts."""
    call = put_into(payment, CallStatus.FAILED)
    answer, said = act(boss, CALLS, "retry", call.pk)
    assert answer.status_code == 200
    assert b"same idempotency key" in answer.content
    assert said == []
    call.refresh_from_db()
    assert call.status == CallStatus.FAILED


def test_retry_says_what_it_did_and_what_it_skipped(boss: Client, payment: Payment) -> None:
    """Each row is taken by itself, and a row in the wrong state is named, not hidden."""
    failed = put_into(payment, CallStatus.FAILED)
    waiting = create_payment(amount=5, currency="usd").call
    assert waiting
    _, said = act(boss, CALLS, "retry", failed.pk, waiting.pk, confirmed="1")
    assert said == ["1 retried; 1 skipped: a pending call cannot be retried"]
    failed.refresh_from_db()
    assert (failed.status, failed.idempotency_key) == (CallStatus.PENDING, "k-1")
    assert [(n.actor, n.action) for n in failed.notes.all()] == [("boss", "retry")]


def test_retry_as_new_needs_a_reason(boss: Client, payment: Payment) -> None:
    """Another key may be another charge: it is not minted without a word of why."""
    call = put_into(payment, CallStatus.FAILED)
    answer, _ = act(boss, CALLS, "retry_as_new", call.pk, confirmed="1", reason="  ")
    assert b"Please say why" in answer.content
    call.refresh_from_db()
    assert call.status == CallStatus.FAILED
    _, said = act(boss, CALLS, "retry_as_new", call.pk, confirmed="1", reason="card replaced")
    assert said == ["1 retried as new"]
    call.refresh_from_db()
    assert call.status == CallStatus.PENDING
    assert call.idempotency_key != "k-1"
    assert [n.reason for n in call.notes.all()] == ["card replaced"]


def test_cancel_never_calls_a_maybe_cancelled(boss: Client, payment: Payment) -> None:
    """A call of which an attempt may have worked becomes unknown, and the message says so."""
    assert payment.call
    OutboundCall.objects.filter(pk=payment.call.pk).update(status=CallStatus.RETRYING)
    attempt_of(payment.call, effect_possible=True)
    fresh = create_payment(amount=5, currency="usd").call
    assert fresh
    _, said = act(boss, CALLS, "cancel", payment.call.pk, fresh.pk, confirmed="1")
    assert "1 cancelled" in said[0]
    assert "1 stopped, outcome unknown" in said[0]
    payment.call.refresh_from_db()
    assert payment.call.status == CallStatus.UNKNOWN


@pytest.mark.parametrize(
    "action, status",
    [("resolve", CallStatus.SUCCEEDED), ("resolve_failed", CallStatus.FAILED)],
)
def test_a_person_resolves_an_unknown_call(
    boss: Client, payment: Payment, action: str, status: CallStatus
) -> None:
    """What nobody can look up is decided by a person, with a reason."""
    call = put_into(payment, CallStatus.UNKNOWN)
    act(boss, CALLS, action, call.pk, confirmed="1", reason="seen in the dashboard")
    call.refresh_from_db()
    assert call.status == status


def test_each_action_has_its_own_permission(clerk: Callable[..., Client], payment: Payment) -> None:
    """Viewing is not retrying, and retrying is not retrying as new."""
    call = put_into(payment, CallStatus.FAILED)
    clerk_who_retries = clerk("retry_outboundcall")
    answer = clerk_who_retries.get(reverse("admin:outbound_outboundcall_change", args=[call.pk]))
    assert [action.name for action in answer.context["row_actions"]] == ["retry"]
    act(clerk_who_retries, CALLS, "retry_as_new", call.pk, confirmed="1", reason="because")
    call.refresh_from_db()
    assert call.status == CallStatus.FAILED
    act(clerk_who_retries, CALLS, "retry", call.pk, confirmed="1")
    call.refresh_from_db()
    assert call.status == CallStatus.PENDING


def test_a_get_never_acts(boss: Client, payment: Payment) -> None:
    """A link somebody was made to follow changes nothing."""
    call = put_into(payment, CallStatus.FAILED)
    boss.get(
        reverse(CALLS),
        {"action": "retry", "_selected_action": str(call.pk), "confirmed": "1"},
        follow=True,
    )
    call.refresh_from_db()
    assert call.status == CallStatus.FAILED


def test_a_post_without_its_token_is_refused(payment: Payment) -> None:
    """Cross-site requests are refused."""
    call = put_into(payment, CallStatus.FAILED)
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(User.objects.create_superuser("boss"))
    answer = stranger.post(
        reverse(CALLS), {"action": "retry", "_selected_action": str(call.pk), "confirmed": "1"}
    )
    assert answer.status_code == 403
    call.refresh_from_db()
    assert call.status == CallStatus.FAILED


def test_events_are_replayed(boss: Client) -> None:
    """A finished event goes back to its handlers; one without a body is skipped, by name."""
    kept, pruned, busy = event(), event(body=None), event(EventStatus.RECEIVED)
    _, said = act(boss, EVENTS, "replay", kept.pk, pruned.pk, busy.pk, confirmed="1")
    assert "1 replayed" in said[0]
    assert "past its retention" in said[0]
    assert "received cannot be replayed" in said[0]
    kept.refresh_from_db()
    assert kept.status == EventStatus.RECEIVED


def test_an_event_shows_its_body_redacted(boss: Client) -> None:
    """The body is there to understand the event, not to read a customer's address."""
    body = {"id": "evt_1", "data": {"object": {"amount": 77, "receipt_email": "a@example.com"}}}
    row = event(body=json.dumps(body).encode())
    html = boss.get(reverse("admin:webhooks_webhookevent_change", args=[row.pk])).content.decode()
    assert "77" in html
    assert "a@example.com" not in html


@pytest.mark.parametrize("page", [CALLS, EVENTS, "admin:index"])
def test_no_script_or_style_comes_from_elsewhere(boss: Client, page: str) -> None:
    """The pages keep to a strict content security policy: no inline script, no foreign source."""
    answer = boss.get(reverse(page))
    html = answer.content.decode()
    assert "<style" not in html
    assert 'style="' not in html
    scripts = re.findall(r"<script[^>]*>", html)
    assert scripts
    assert all('src="/' in tag for tag in scripts if "application/json" not in tag)
    assert not any('src="//' in tag for tag in scripts)
    assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
