"""The windows on messages: found by any id, explained, shown without a risk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from notifications.models import Message, Suppression
from notifications.services import Attached, send_bulk_email, send_email, send_sms, suppress
from notifications.states import Channel
from outbound.errors import PermanentError
from outbound.services import OutboundCall
from tests.notifications.conftest import Providers, statuses

pytestmark = pytest.mark.django_db

MESSAGES = "admin:notifications_message_changelist"
PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = """
    <p style="color: red" onclick="alert(1)">Hello, Ann</p><script>alert(2)</script>
    <img src="https://tracker.example/pixel.gif"><img src="cid:logo"><img src="cid:other">
    <meta http-equiv="refresh" content="0; url=https://evil.example"><base href="//evil.example">
    <a href="javascript:alert(3)">x</a><iframe src="//evil.example"></iframe>
"""


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
        wanted = ("view_message", "view_recipient", "view_suppression", *codenames)
        user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def message(providers: Providers) -> Message:
    """One that the first provider refused and the second took."""
    providers.first.then(PermanentError("first: the account is suspended"))
    logo = Attached("logo.png", PNG, "image/png", "logo")
    other = Attached("x.svg", b"<svg/>", "image/svg+xml", "other")
    made = send_email(
        to=["Ann@example.com"],
        subject="Receipt 7",
        html=HOSTILE,
        reference="order-7",
        attachments=[logo, other],
    )
    providers.work()
    return made


def page(client: Client, row: Any) -> str:
    answer = client.get(
        reverse(f"admin:notifications_{type(row).__name__.lower()}_change", args=[row.pk])
    )
    assert answer.status_code == 200
    return answer.content.decode()


def found(client: Client, term: str) -> int:
    answer: Any = client.get(reverse(MESSAGES), {"q": term})
    return answer.context["cl"].result_count  # type: ignore[no-any-return]


def test_found_by_any_id(boss: Client, message: Message) -> None:
    """The address in whatever case, our ids, the provider's, the caller's."""
    call = OutboundCall.objects.get(adapter="second")
    recipient = message.recipients.get()
    terms = ["ann@EXAMPLE.com", str(message.pk), str(call.pk), recipient.provider_message_id]
    assert [found(boss, term) for term in [*terms, "order-7", " order-7 "]] == [1] * 6
    assert [found(boss, term) for term in ["nn@example.com", "order", "%"]] == [0] * 3


def test_the_page_explains(boss: Client, message: Message) -> None:
    """Which provider has it and why, each attempt, and what became of the recipient."""
    text = page(boss, message)
    for words in (
        "Receipt 7",
        "first → second",
        "first in the route",
        "first did not take it: first: the account is suspended",
        "Ann@example.com",
        "logo.png (8 bytes)",
        "first, then second",
    ):
        assert words in text
    assert "Queued" in page(boss, message.recipients.get())


def test_the_list_needs_no_query_a_row(
    boss: Client, providers: Providers, django_assert_max_num_queries: Any
) -> None:
    """Not more than two: some recipients, and their number."""
    for number in range(5):
        send_email(to=f"p{number}@example.com", subject="x", text="x")
    with django_assert_max_num_queries(20):
        boss.get(reverse(MESSAGES))


def preview(client: Client, message: Message) -> Any:
    recipient = message.recipients.order_by("place").first()
    assert recipient
    address = reverse("admin:notifications_message_preview", args=[message.pk, recipient.pk])
    return client.get(address)


def test_the_preview_cannot_do_anything(boss: Client, message: Message) -> None:
    """No script, no remote image, no way out: by the frame, and by its own policy."""
    assert 'sandbox title="The message as Ann@example.com sees it"' in page(boss, message)
    answer = preview(boss, message)
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy
    assert policy.endswith("sandbox")
    assert "script-src" not in policy
    assert "allow-" not in policy
    text = answer.content.decode()
    for tag in ("<script", "alert(2)", "<meta http", "<base", "<iframe"):
        assert tag not in text
    assert "Hello, Ann" in text
    assert "data:image/png;base64,iVBORw0KGgo=" in text
    assert "cid:other" in text  # an SVG may hold scripts


def test_only_its_own_page_may_frame_it(boss: Client, message: Message) -> None:
    """And that page frames nothing else."""
    answer = boss.get(reverse("admin:notifications_message_change", args=[message.pk]))
    assert answer["Content-Security-Policy"].endswith("; frame-src 'self'")
    assert preview(boss, message)["X-Frame-Options"] == "SAMEORIGIN"
    listed = boss.get(reverse(MESSAGES))
    assert "frame-src" not in listed["Content-Security-Policy"]


def test_a_preview_has_the_recipients_words(boss: Client, providers: Providers) -> None:
    """Escaped, as they were sent."""
    people = [{"address": "a@example.com", "variables": {"name": "<b>Ann</b>"}}]
    bulk = send_bulk_email(recipients=people, subject="Hi", html="<p>{{name}}</p>")
    assert "<p>&lt;b&gt;Ann" in preview(boss, bulk.message).content.decode()


def test_a_preview_of_text(boss: Client, providers: Providers) -> None:
    """Of an SMS, too; nothing in it is HTML."""
    sms = send_sms(to="+15005550006", body="<script>7</script>")
    assert "&lt;script&gt;7" in preview(boss, sms).content.decode()


def test_a_preview_needs_the_permission(client: Client, message: Message) -> None:
    """Staff alone is not enough, nor is another message's recipient."""
    client.force_login(User.objects.create_user("somebody", is_staff=True))
    assert preview(client, message).status_code == 403
    other = send_email(to="b@example.com", subject="x", text="x")
    client.force_login(User.objects.create_superuser("boss"))
    mixed = reverse(
        "admin:notifications_message_preview", args=[other.pk, message.recipients.get().pk]
    )
    assert client.get(mixed).status_code == 404


def test_many_recipients(boss: Client, providers: Providers) -> None:
    """The page shows some, counts all, and leads to the rest."""
    people = [{"address": f"p{n}@example.com"} for n in range(30)]
    message = send_bulk_email(recipients=people, subject="Hi", text="x").message
    text = page(boss, message)
    assert "and 5 more" in text
    listed: Any = boss.get(
        reverse("admin:notifications_recipient_changelist"), {"message__id__exact": str(message.pk)}
    )
    assert listed.context["cl"].result_count == 30


def act(client: Client, model: str, action: str, row: Any, **more: str) -> Any:
    return client.post(
        reverse(f"admin:notifications_{model}_changelist"),
        {"action": action, "_selected_action": str(row.pk), "confirmed": "1", **more},
    )


def test_cancel(clerk: Callable[..., Client], providers: Providers) -> None:
    """With the permission, after a confirmed POST, by one service call."""
    message = send_email(to="ann@example.com", subject="x", text="x")
    act(clerk("cancel_message"), "message", "cancel", message, reason="a mistake")
    assert statuses(message) == {"ann@example.com": "cancelled"}


def test_no_cancel_without_the_permission(
    clerk: Callable[..., Client], providers: Providers
) -> None:
    """Nothing happens."""
    message = send_email(to="ann@example.com", subject="x", text="x")
    act(clerk(), "message", "cancel", message)
    assert statuses(message) == {"ann@example.com": "requested"}


def test_suppressions(clerk: Callable[..., Client], providers: Providers) -> None:
    """A person may add one, and lift one with a reason."""
    client = clerk("add_suppression", "lift_suppression")
    added = client.post(
        reverse("admin:notifications_suppression_add"),
        {"channel": "email", "address": "Ann@example.com", "note": "asked by phone"},
    )
    assert added.status_code == 302
    row = Suppression.objects.get()
    assert (row.reason, row.created_by, row.address_key) == ("manual", "clerk", "ann@example.com")
    assert "asked by phone" in page(client, row)
    act(client, "suppression", "lift", row)
    assert Suppression.objects.exists(), "a reason is needed"
    act(client, "suppression", "lift", row, reason="asked again")
    assert not Suppression.objects.exists()


@pytest.mark.parametrize("address", ["", "nobody", "a@b@c", "x" * 300 + "@example.com"])
def test_a_suppression_of_nothing(boss: Client, address: str) -> None:
    """What is no address is refused on the form."""
    answer: Any = boss.post(
        reverse("admin:notifications_suppression_add"), {"channel": "email", "address": address}
    )
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors["address"]


def test_one_that_is_there(boss: Client, providers: Providers) -> None:
    """Twice is once: the first reason stays."""
    suppress(channel=Channel.EMAIL, address="ann@example.com", actor="first")
    answer = boss.post(
        reverse("admin:notifications_suppression_add"),
        {"channel": "email", "address": "ann@example.com"},
        follow=True,
    )
    assert answer.status_code == 200
    assert Suppression.objects.get().created_by == "first"
