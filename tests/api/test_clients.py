"""Who may come in: keys, scopes, rates, and the commands that look after them."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from api import services
from api.models import ApiClient, ApiKey
from api.scopes import Scope
from outbound import clock
from outbound.models import OutboundCall
from tests.api.conftest import PAYMENT, Caller, caller, document, problem
from tests.api.doors import OPERATIONS, filled
from tests.api.rows import make_call
from tests.webhooks.rows import make_event
from webhooks.states import EventStatus

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    """What a command prints."""
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_only_a_hash_is_stored() -> None:
    """The key is printed alone, once; no column holds its secret."""
    printed = run("create_api_client", "shop", "--scope", "payments:write")
    assert re.fullmatch(r"hf_[0-9a-f]{16}\.[\w-]{43}\n", printed)
    prefix, _, secret = printed.strip().partition(".")
    row = ApiKey.objects.get()
    assert (row.prefix, row.digest) == (prefix, hashlib.sha256(secret.encode()).hexdigest())
    client = ApiClient.objects.get()
    assert (client.scopes, client.rate) == (["payments:write"], 600)
    document(Caller(printed.strip()).write("/payment-intents", PAYMENT), 202)


@pytest.mark.parametrize(
    "arguments",
    [
        ["create_api_client", "shop"],
        ["create_api_client", ""],
        ["create_api_client", "a b"],
        ["create_api_client", "shop-2\n"],
        ["create_api_client", "x" * 101],
        ["create_api_client", "\udcff"],
        ["create_api_client", "other", "--scope", "\udcff"],
        ["create_api_client", "other", "--scope", "everything"],
        ["create_api_client", "other", "--rate", "0"],
        ["create_api_client", "other", "--rate", "99999999999"],
        ["rotate_api_client", "nobody"],
        ["rotate_api_client", "\udcff"],
        ["rotate_api_client", "a\nb"],
        ["rotate_api_client", "shop", "--end"],
        ["rotate_api_client", "nobody", "--end"],
        ["disable_api_client", "nobody"],
        ["disable_api_client", "\udcff"],
    ],
    ids=ascii,
)
def test_commands_say_what_is_wrong(arguments: list[str]) -> None:
    """One line, and nothing is changed."""
    run("create_api_client", "shop")
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # it can be printed
    assert (ApiClient.objects.count(), ApiKey.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)  # what is kept of keys is forgotten on commit
def test_rotation() -> None:
    """Two keys work while one replaces the other, and never three."""
    old = Caller(run("create_api_client", "shop").strip())
    new = Caller(run("rotate_api_client", "shop").strip())
    for key in (old, new):
        document(key.get("/calls"), 200)
    with pytest.raises(CommandError):
        run("rotate_api_client", "shop")
    assert run("rotate_api_client", "shop", "--end") == f"{old.key.partition('.')[0]} is revoked\n"
    problem(old.get("/calls"), 401)
    document(new.get("/calls"), 200)


@pytest.mark.django_db(transaction=True)  # what is kept of keys is forgotten on commit
def test_disabled() -> None:
    """None of its keys works any more, and it gets no new ones."""
    shop = Caller(run("create_api_client", "shop").strip())
    run("disable_api_client", "shop")
    problem(shop.get("/calls"), 401)
    for command in ("disable_api_client", "rotate_api_client"):
        with pytest.raises(CommandError):
            run(command, "shop")
    assert "shop disabled" in run("list_api_clients")


def test_the_list_shows_no_secret() -> None:
    """Names, states, scopes, and when each live key was used."""
    key = run("create_api_client", "shop", "--scope", "calls:read", "--rate", "60").strip()
    listed = run("list_api_clients")
    assert "shop enabled 60/min calls:read" in listed
    assert "last used never" in listed
    assert key.partition(".")[2] not in listed
    Caller(key).get("/calls")
    assert "never" not in run("list_api_clients")


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer {key}x", "Bearer x{key}",
        "Bearer {prefix}", "Bearer {prefix}.", "Bearer .{secret}", "Bearer {key} {key}",
        "Bearer hf_0000000000000000.{secret}", "Bearer é.ü", "Bearer " + "a." * 4000,
    ],
)  # fmt: skip
def test_who_is_not_known(shop: Caller, header: str | None) -> None:
    """No, malformed, unknown: 401, all alike."""
    prefix, _, secret = shop.key.partition(".")
    headers: dict[str, Any] = {"Authorization": None}
    if header is not None:
        headers["Authorization"] = header.format(key=shop.key, prefix=prefix, secret=secret)
    answer = shop.get("/calls", **headers)
    assert problem(answer, 401)["code"] == "unauthenticated"
    assert answer["WWW-Authenticate"] == "Bearer"


def test_the_scheme_is_not_case_sensitive(shop: Caller) -> None:
    """As RFC 9110 says."""
    document(shop.get("/calls", Authorization=f"bEARER {shop.key}"), 200)


NEEDED = {
    ("POST", "/payment-intents"): "payments:write",
    ("POST", "/customers"): "payments:write",
    ("POST", "/refunds"): "payments:write",
    ("POST", "/payment-intents/{payment_intent}/cancel"): "payments:write",
    ("GET", "/payment-intents/{payment_intent}"): "payments:read",
    ("POST", "/calls/{call_id}/retry"): "calls:write",
    ("POST", "/calls/{call_id}/cancel"): "calls:write",
    ("GET", "/events"): "events:read",
    ("GET", "/events/{event_id}"): "events:read",
    ("POST", "/events/{event_id}/replay"): "events:write",
    ("POST", "/emails"): "notifications:write",
    ("POST", "/bulk-emails"): "notifications:write",
    ("POST", "/sms"): "notifications:write",
    ("POST", "/push"): "notifications:write",
}
OPEN = {("GET", "/calls"), ("GET", "/calls/{call_id}")}  # to every client, for its own calls


@pytest.mark.parametrize("method, path", NEEDED)
def test_each_operation_needs_its_scope(method: str, path: str) -> None:
    """All other scopes together do not open it."""
    others = caller("others", *(set(Scope.values) - {NEEDED[method, path]}))
    found = problem(others.send(method, filled(path)), 403)
    assert found["code"] == "wrong_scope"
    assert NEEDED[method, path] in found["detail"]


def test_no_operation_is_open_by_mistake() -> None:
    """Each needs a scope, or shows a client's own calls only."""
    assert NEEDED.keys() | OPEN == set(OPERATIONS)


def test_own_calls_and_others() -> None:
    """Its own calls a client always reads; others' need calls:read, and what came of them
    calls:payload."""
    shop, blind = caller("shop", "payments:write"), caller("blind", "payments:write")
    reader, seer = caller("reader", "calls:read"), caller("seer", "calls:read", "calls:payload")
    path = shop.write("/payment-intents", PAYMENT)["Location"].removeprefix("/api/v1")
    OutboundCall.objects.update(result={"client_secret": "s"})
    assert document(shop.get(path), 200)["result"] == {"client_secret": "s"}
    problem(blind.get(path), 403)
    assert document(blind.get("/calls"), 200) == {"items": [], "next": None}
    assert document(reader.get(path), 200)["result"] is None
    assert document(reader.get("/calls"), 200)["items"][0]["result"] is None
    assert document(seer.get(path), 200)["result"] == {"client_secret": "s"}
    assert [c["result"] for c in document(shop.get("/calls"), 200)["items"]] == [
        {"client_secret": "s"}
    ]


def test_the_last_use_is_noted_once_a_minute(shop: Caller) -> None:
    """Not with every request: that would be a write each."""
    assert ApiKey.objects.get().last_used_at is None
    shop.get("/calls")
    first = ApiKey.objects.get().last_used_at
    assert first is not None
    with CaptureQueriesContext(connection) as queries:
        shop.get("/calls")
    assert not [q for q in queries if q["sql"].startswith("UPDATE") and "api_apikey" in q["sql"]]
    with clock.use(lambda: first + timedelta(seconds=61)):
        shop.get("/calls")
    assert ApiKey.objects.get().last_used_at == first + timedelta(seconds=61)


@pytest.mark.both_databases
def test_too_many_requests() -> None:
    """429 with the time to wait; other clients do not feel it, and later it works again."""
    slow, other = caller("slow", rate=2), caller("other", rate=2)
    for _ in range(2):
        document(slow.get("/calls"), 200)
    answer = slow.get("/calls")
    assert problem(answer, 429)["code"] == "rate_limited"
    wait = int(answer["Retry-After"])
    assert 1 <= wait <= 30
    document(other.get("/calls"), 200)
    later = clock.now() + timedelta(seconds=wait + 1)
    with clock.use(lambda: later):
        document(slow.get("/calls"), 200)


def test_what_is_known_of_a_key(shop: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once in a while, not with every request; what another process has changed since
    counts when that while is over."""
    monkeypatch.setattr(services, "KEPT_SECONDS", 3600)
    document(shop.get("/calls"), 200)
    with CaptureQueriesContext(connection) as queries:
        document(shop.get("/calls"), 200)
    assert not [q for q in queries if "api_apikey" in q["sql"]]
    problem(Caller(f"{shop.key}x").get("/calls"), 401)
    ApiClient.objects.update(disabled_at=clock.now())
    monkeypatch.setattr(services, "KEPT_SECONDS", 0)
    problem(shop.get("/calls"), 401)
    ApiClient.objects.update(disabled_at=None)
    document(shop.get("/calls"), 200)


def test_the_admin_shows_no_secret(shop: Caller, client: Client) -> None:
    """A page per client, with its keys' prefixes."""
    client.force_login(User.objects.create_superuser("root"))
    row = ApiClient.objects.get()
    pages = [
        client.get(reverse("admin:api_apiclient_changelist")),
        client.get(reverse("admin:api_apiclient_change", args=[row.pk])),
    ]
    prefix, _, secret = shop.key.partition(".")
    text = "".join(page.content.decode() for page in pages)
    assert [page.status_code for page in pages] == [200, 200]
    assert prefix in text
    assert "payments:write" in text
    assert secret not in text
    assert ApiKey.objects.get().digest not in text


def test_actors_have_names(desk: Caller) -> None:
    """What a client did to a call or an event says who it was."""
    call = make_call()
    document(desk.post(f"/calls/{call.pk}/cancel", {"reason": "not wanted"}), 200)
    note = OutboundCall.objects.get().notes.get()
    assert (note.actor, note.reason) == ("api:desk", "not wanted")
    event = make_event(status=EventStatus.FAILED)
    document(desk.post(f"/events/{event.pk}/replay"), 202)
    assert event.notes.get().actor == "api:desk"
