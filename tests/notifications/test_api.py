"""Sending over the HTTP API: the same answers as for every other call."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.conf import LazySettings

from api.scopes import Scope
from notifications import services
from notifications.models import Message
from notifications.states import Channel
from outbound.blobs import read_blob
from outbound.errors import OutcomeUnknown, PermanentError
from outbound.models import OutboundCall
from outbound.states import CircuitMode
from tests.api.conftest import Caller, caller, document, pointers, problem
from tests.notifications.conftest import Providers, statuses

pytestmark = pytest.mark.django_db

EMAIL = {"to": "ann@example.com", "subject": "Receipt", "text": "Thank you."}
BULK: dict[str, Any] = {
    "recipients": [{"address": f"p{n}@example.com", "variables": {"name": "P"}} for n in range(4)],
    "subject": "Hi {{name}}",
    "text": "Hello.",
}
SMS = {"to": "+15005550006", "body": "Your code is 7."}
PUSH = {"token": "token-1", "title": "Hello"}
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("/emails", EMAIL),
    ("/sms", SMS),
    ("/push", PUSH),
    ("/bulk-emails", BULK),
]


@pytest.fixture
def client(providers: Providers) -> Caller:
    return caller("shop", Scope.NOTIFICATIONS_WRITE)


@pytest.mark.parametrize("path,body", WRITES[:3])
def test_accepted(client: Caller, path: str, body: dict[str, Any]) -> None:
    """202 with the call object and its address; made by whose key it was."""
    answer = client.write(path, {**body, "reference": "order-7"})
    found = document(answer, 202)
    assert (found["status"], found["adapter"], found["reference"]) == (
        "pending",
        "first",
        "order-7",
    )
    assert answer["Location"] == f"/api/v1/calls/{found['id']}"
    assert document(client.get(f"/calls/{found['id']}"), 200)["id"] == found["id"]


@pytest.mark.parametrize("path,body", WRITES)
def test_once_for_each_key(client: Caller, path: str, body: dict[str, Any]) -> None:
    """The same key again is the same message, and says that it was there."""
    first = client.write(path, body, idempotency_key="k-1")
    again = client.write(path, body, idempotency_key="k-1")
    assert document(first, 202) == document(again, 202)
    assert again["Idempotent-Replayed"] == "true"
    assert Message.objects.count() == 1
    assert problem(client.post(path, body), 400)["code"] == "idempotency_key_missing"


@pytest.mark.parametrize("path,body", WRITES)
def test_its_own_scope(providers: Providers, path: str, body: dict[str, Any]) -> None:
    """A key for payments sends no messages."""
    problem(caller("till", Scope.PAYMENTS_WRITE).write(path, body), 403)


def test_everything_of_an_email(client: Caller, providers: Providers) -> None:
    """Every field reaches the provider."""
    body = {
        **EMAIL,
        "to": ["Ann <ann@example.com>", "bob@example.com"],
        "from": "Shop <shop@example.com>",
        "cc": "cc@example.com",
        "bcc": ["bcc@example.com"],
        "reply_to": "help@example.com",
        "html": "<p>Thank you.</p>",
        "headers": {"X-Order": "7"},
        "tags": ["receipt"],
        "metadata": {"order": "7"},
        "attachments": [
            {
                "name": "a.pdf",
                "content": base64.b64encode(b"%PDF").decode(),
                "content_type": "application/pdf",
            }
        ],
    }
    document(client.write("/emails", body), 202)
    providers.work()
    asked = providers.first.seen[0].payload
    assert [each["address"] for each in asked["to"]] == ["ann@example.com", "bob@example.com"]
    assert asked["cc"][0]["address"] == "cc@example.com"
    assert asked["bcc"][0]["address"] == "bcc@example.com"
    assert asked["sender"] == {"address": "shop@example.com", "name": "Shop"}
    assert asked["reply_to"][0]["address"] == "help@example.com"
    assert (asked["headers"], asked["tags"]) == ({"X-Order": "7"}, ["receipt"])
    assert read_blob(asked["attachments"][0]["digest"]) == b"%PDF"


@pytest.mark.django_db(transaction=True)
class TestWaiting:
    def test_sent_at_once(self, client: Caller) -> None:
        """201 with what the provider said."""
        found = document(client.write("/emails", EMAIL, prefer="wait=5"), 201)
        assert (found["status"], found["result"]["message_id"]) == ("succeeded", "first-1")

    def test_failover_within_the_wait(self, client: Caller, providers: Providers) -> None:
        """The answer is that of the provider that took it."""
        providers.first.then(PermanentError("suspended", http_status=400))
        answer = client.write("/emails", EMAIL, prefer="wait=5")
        found = document(answer, 201)
        assert (found["adapter"], found["status"]) == ("second", "succeeded")
        assert answer["Location"] == f"/api/v1/calls/{found['id']}"
        (message,) = Message.objects.all()
        assert statuses(message) == {"ann@example.com": "queued"}

    def test_refused_by_all(self, client: Caller, providers: Providers) -> None:
        """The problem is the last provider's."""
        providers.first.then(PermanentError("suspended", http_status=400))
        providers.second.then(PermanentError("no", code="blocked", http_status=400))
        found = problem(client.write("/emails", EMAIL, prefer="wait=5"), 400)
        assert (found["code"], found["call"]["adapter"]) == ("blocked", "second")

    def test_a_doubt(self, client: Caller, providers: Providers) -> None:
        """202 and unknown: it is not asked again, here or elsewhere."""
        providers.first.then(OutcomeUnknown("lost"))
        found = document(client.write("/emails", EMAIL, prefer="wait=5"), 202)
        assert found["status"] == "unknown"
        assert providers.second.seen == []

    def test_strict_with_an_open_circuit(self, client: Caller, providers: Providers) -> None:
        """Now or never: where all are out of order it is never."""
        for name in ("first", "second"):
            providers.force(name, CircuitMode.FORCED_OPEN)
        answer = client.write("/sms", SMS, prefer="wait=5, handling=strict")
        assert problem(answer, 503)["code"] == "circuit_open"
        assert set(OutboundCall.objects.values_list("status", flat=True)) == {"cancelled"}


class TestBulk:
    def test_the_answer(self, client: Caller, providers: Providers) -> None:
        """Total, accepted, the calls by the batch limit, and each refused address; and the same
        when asked again."""
        people = [*BULK["recipients"], {"address": "nobody"}, {"address": "p5@example.com"}]
        body = {**BULK, "recipients": people}
        first = document(client.write("/bulk-emails", body, idempotency_key="b-1"), 202)
        assert (first["total"], first["accepted"]) == (6, 4)
        assert first["refused"] == [
            {
                "place": 4,
                "pointer": "/recipients/4/address",
                "detail": first["refused"][0]["detail"],
            },
            {
                "place": 5,
                "pointer": "/recipients/5/variables/name",
                "detail": "has no value for {{name}}",
            },
        ]
        assert [call["operation"] for call in first["calls"]] == ["send_bulk_email"] * 2
        assert document(client.write("/bulk-emails", body, idempotency_key="b-1"), 202) == first

    def test_everybody_refused(self, client: Caller) -> None:
        """422, and the key is free."""
        body = {**BULK, "recipients": [{"address": "nobody"}]}
        found = problem(client.write("/bulk-emails", body, idempotency_key="b-2"), 422)
        assert pointers(found) == ["/recipients/0/address"]
        document(client.write("/bulk-emails", BULK, idempotency_key="b-2"), 202)


@pytest.mark.parametrize("path,body", WRITES)
def test_nobody_to_write_to(client: Caller, path: str, body: dict[str, Any]) -> None:
    """Everybody is suppressed: 422, and nothing is stored, for there is no call to name."""
    addresses = {
        "/emails": (Channel.EMAIL, ["ann@example.com"]),
        "/sms": (Channel.SMS, [SMS["to"]]),
        "/push": (Channel.PUSH, [PUSH["token"]]),
        "/bulk-emails": (Channel.EMAIL, [f"p{n}@example.com" for n in range(4)]),
    }
    channel, suppressed = addresses[path]
    for address in suppressed:
        services.suppress(channel=channel, address=address)
    assert problem(client.write(path, body), 422)["code"] == "suppressed"
    assert not Message.objects.exists()


def test_no_provider(client: Caller, settings: LazySettings) -> None:
    """A fault of the settings is ours, and says which."""
    settings.SMS_ROUTE, settings.OUTBOUND_ADAPTERS = [], {}
    found = problem(client.write("/sms", SMS), 503)
    assert found["code"] == "no_provider"
    assert "SMS_ROUTE" in found["detail"]


@pytest.mark.parametrize(
    "path,changes,expected",
    [
        ("/emails", {"to": "nobody"}, ["/to"]),
        ("/emails", {"to": ["ann@example.com", "nobody"]}, ["/to/1"]),
        ("/emails", {"to": "a@example.com\nBcc: b@example.com"}, ["/to"]),
        ("/emails", {"to": []}, ["/to"]),
        ("/emails", {"to": None}, ["/to"]),
        ("/emails", {"to": 5}, ["/to"]),
        ("/emails", {"from": "Shop"}, ["/from"]),
        ("/emails", {"sender": "shop@example.com"}, ["/sender"]),
        ("/emails", {"subject": ""}, ["/subject"]),
        ("/emails", {"subject": "a\r\nBcc: b@example.com"}, ["/subject"]),
        ("/emails", {"subject": "x" * 999}, ["/subject"]),
        ("/emails", {"text": ""}, [""]),
        ("/emails", {"text": "\x00"}, ["/text"]),
        ("/emails", {"text": "\ud800"}, ["/text"]),
        ("/emails", {"headers": {"Bcc": "b@example.com"}}, ["/headers"]),
        ("/emails", {"headers": {"X-A": "1\nX-B: 2"}}, ["/headers"]),
        ("/emails", {"tags": ["a b"]}, ["/tags/0"]),
        ("/emails", {"metadata": {"holdfast_call": "x"}}, ["/metadata"]),
        ("/emails", {"attachments": [{"name": "a", "content": "§"}]}, ["/attachments/0/content"]),
        (
            "/emails",
            {"attachments": [{"name": "a", "content": "", "content_type": "x"}]},
            ["/attachments/0/content_type"],
        ),
        ("/emails", {"nonsense": 1}, ["/nonsense"]),
        ("/emails", {"to": [f"p{n}@example.com" for n in range(51)]}, ["/to"]),
        ("/bulk-emails", {"recipients": []}, ["/recipients"]),
        ("/bulk-emails", {"recipients": [{"address": 5}]}, ["/recipients/0/address"]),
        ("/bulk-emails", {"text": "{{ Name }}"}, ["/text"]),
        ("/bulk-emails", {"variables": {"Name": "x"}}, None),
        ("/sms", {"to": "015005550006"}, ["/to"]),
        ("/sms", {"to": "+1"}, ["/to"]),
        ("/sms", {"body": ""}, ["/body"]),
        ("/sms", {"body": "x" * 1601}, ["/body"]),
        ("/sms", {"from": "a name that is long"}, ["/from"]),
        ("/push", {"token": ""}, ["/token"]),
        ("/push", {"token": "a b"}, ["/token"]),
        ("/push", {"title": ""}, [""]),
        ("/push", {"ttl_seconds": 1.5}, ["/ttl_seconds"]),
        ("/push", {"ttl_seconds": True}, ["/ttl_seconds"]),
        ("/push", {"image_url": "http://example.com/x.png"}, ["/image_url"]),
    ],
)
def test_wrong_fields(
    client: Caller, path: str, changes: dict[str, Any], expected: list[str] | None
) -> None:
    """422 with a pointer into what was sent, and nothing is stored."""
    body = {**dict(WRITES)[path], **changes}
    found = problem(client.write(path, body), 422)
    if expected is not None:
        assert set(pointers(found)) == set(expected)
    assert not Message.objects.exists()
    assert not OutboundCall.objects.exists()
