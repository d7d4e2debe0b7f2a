"""What Stripe failed to deliver is found in its own list of events, and handled like the rest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from outbound import services
from outbound.leases import periodic_lease
from outbound.models import OutboundCall
from outbound.services import operate_circuit
from outbound.states import CircuitMode
from sandbox.control import Sandbox
from webhooks import catching_up, engine, tasks
from webhooks.catching_up import OVERLAP, Caught, catch_up, listing_sources
from webhooks.errors import CannotCatchUp, MalformedBody, UnknownSource
from webhooks.models import CatchUp, WebhookEvent
from webhooks.services import receive_listed
from webhooks.sources import source_for
from webhooks.states import EventStatus

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox.start() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox, settings: Settings) -> Sandbox:
    running.reset()
    entry = settings.OUTBOUND_ADAPTERS["stripe"]
    options = {**entry["OPTIONS"], "API_BASE": running.url}
    settings.OUTBOUND_ADAPTERS = {"stripe": {**entry, "OPTIONS": options}}
    settings.WEBHOOK_SOURCES = {
        **settings.WEBHOOK_SOURCES,
        "github": {
            "SOURCE": "webhooks.providers.github.GitHubSource",
            "OPTIONS": {"SECRETS": ["s"]},
        },
    }
    return running


def happen(sandbox: Sandbox, count: int) -> list[str]:
    """Events that nobody delivers; their ids."""
    return [
        sandbox.emit_event("customer.created", {"id": f"cus_{number}", "object": "customer"})
        for number in range(count)
    ]


def ids() -> set[str]:
    return set(WebhookEvent.objects.values_list("event_id", flat=True))


def found(caught: Caught | None) -> tuple[int, int]:
    assert caught is not None
    return caught.listed, caught.missing


def test_over_several_pages(sandbox: Sandbox) -> None:
    """All of them, once; the second time nothing is missing. They are handled like any other."""
    happened = happen(sandbox, 250)
    assert found(catch_up(source="stripe")) == (250, 250)
    assert ids() == set(happened)
    assert found(catch_up(source="stripe")) == (250, 0)
    row = WebhookEvent.objects.first()
    assert row is not None
    assert (row.matched_secret, row.deliveries_seen) == ("listed", 1)
    engine.process(str(row.pk))
    row.refresh_from_db()
    assert row.status != EventStatus.RECEIVED
    assert {call.operation for call in OutboundCall.objects.all()} == {"list_events"}


def test_it_goes_on_where_it_broke_off(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider goes away behind the second page: what was read is stored, and stays read."""
    happened = happen(sandbox, 250)
    pages = 0
    read = services.perform_read

    def two_pages(**options: Any) -> OutboundCall:
        nonlocal pages
        pages += 1
        if pages == 3:
            sandbox.set_mix(rate=1.0, kinds=[{"kind": "status", "status": 503}])
        return read(**options)

    monkeypatch.setattr(catching_up, "perform_read", two_pages)
    monkeypatch.setattr(catching_up, "PAGE_SECONDS", 2.0)
    with pytest.raises(CannotCatchUp):
        catch_up(source="stripe")
    assert len(ids()) == 200
    sandbox.clear_faults()
    operate_circuit(name="stripe", mode=CircuitMode.FORCED_CLOSED, reason="it is back")
    assert found(catch_up(source="stripe")) == (250, 250)
    assert pages == 4
    assert ids() == set(happened)


def test_from_where_it_was_complete(sandbox: Sandbox) -> None:
    """With some overlap, for what is listed late; or from when one says."""
    happen(sandbox, 3)
    catch_up(source="stripe")
    row = CatchUp.objects.get()
    first = row.seen_until
    catch_up(source="stripe")
    row.refresh_from_db()
    assert row.since == first - OVERLAP
    assert row.seen_until > first
    later = datetime.now(UTC) + timedelta(hours=1)
    assert found(catch_up(source="stripe", since=later)) == (0, 0)


def test_an_open_circuit(sandbox: Sandbox) -> None:
    """Nothing is sent."""
    happen(sandbox, 1)
    catch_up(source="stripe")
    operate_circuit(name="stripe", mode=CircuitMode.FORCED_OPEN, reason="maintenance")
    before = len(sandbox.requests())
    with pytest.raises(CannotCatchUp):
        catch_up(source="stripe")
    assert len(sandbox.requests()) == before


def test_one_at_a_time(sandbox: Sandbox) -> None:
    with periodic_lease("webhooks.catch_up:stripe", seconds=60):
        assert catch_up(source="stripe") is None
        with pytest.raises(CommandError, match="another process"):
            call_command("catch_up", "stripe")


def test_what_failed_is_not_armed_by_a_list(sandbox: Sandbox) -> None:
    """It is no delivery."""
    happen(sandbox, 1)
    catch_up(source="stripe")
    WebhookEvent.objects.update(status=EventStatus.FAILED)
    catch_up(source="stripe")
    row = WebhookEvent.objects.get()
    assert (row.status, row.deliveries_seen) == (EventStatus.FAILED, 1)


@pytest.mark.usefixtures("sandbox")
class TestCommand:
    def test_the_line(self, sandbox: Sandbox) -> None:
        happen(sandbox, 2)
        printed = StringIO()
        call_command("catch_up", "stripe", "--since", "2020-01-02T03:04:05", stdout=printed)
        assert printed.getvalue() == (
            "stripe: 2 events listed since 2020-01-02 03:04:05 UTC, 2 were missing\n"
        )

    @pytest.mark.parametrize(
        "arguments, reason",
        [
            (["nobody"], "no enabled source"),
            (["github"], "no list of events"),
            (["stripe", "--since", "yesterday"], "no time"),
        ],
    )
    def test_wrong(self, arguments: list[str], reason: str) -> None:
        with pytest.raises(CommandError, match=reason):
            call_command("catch_up", *arguments)

    def test_who_can_be_asked(self) -> None:
        assert listing_sources() == ["stripe"]
        with pytest.raises(UnknownSource):
            catch_up(source="nobody")


def test_the_task(sandbox: Sandbox) -> None:
    """It goes through all, and a provider that is away does not stop it."""
    happen(sandbox, 2)
    tasks.catch_up_all()
    assert len(ids()) == 2
    operate_circuit(name="stripe", mode=CircuitMode.FORCED_OPEN, reason="maintenance")
    tasks.catch_up_all()


@pytest.mark.usefixtures("sandbox")
def test_pages() -> None:
    """Malformed ones are told; events of the other mode are left out."""
    source = source_for("stripe")
    for page in ({}, {"data": 1}, {"data": [1]}, {"data": [{"id": "evt_1"}]}):
        with pytest.raises(MalformedBody):
            source.read_list(page)
    live = {"id": "evt_1", "type": "a", "livemode": True}
    test = {"id": "evt_2", "type": "a", "livemode": False}
    envelopes, after = source.read_list({"data": [live, test], "has_more": True})
    assert after == "evt_2"
    assert receive_listed(source="stripe", envelopes=envelopes).new == 1
    assert ids() == {"evt_2"}
    assert source.read_list({"data": [], "has_more": True}) == ([], "")
