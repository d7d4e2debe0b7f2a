"""The circuits' window: see what is shut, and operate it with a reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbound.services import Circuit, CircuitTransition
from outbound.states import CircuitMode, CircuitState

pytestmark = pytest.mark.django_db

LIST = reverse("admin:outbound_circuit_changelist")


@pytest.fixture
def circuit() -> Circuit:
    now = timezone.now()
    circuit = Circuit.objects.create(
        name="stripe",
        adapter="stripe",
        state=CircuitState.OPEN,
        counting_from=now,
        opened_at=now,
        open_until=now + timedelta(seconds=30),
        openings=1,
        updated_at=now,
    )
    CircuitTransition.objects.create(
        circuit=circuit,
        at=now,
        from_state=CircuitState.CLOSED,
        to_state=CircuitState.OPEN,
        mode=CircuitMode.AUTO,
        why="8 of 12 calls failed within 60 s",
    )
    return circuit


def log_in(client: Client, *codenames: str) -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_circuit", *codenames)))
    client.force_login(user)
    return client


def act(client: Client, action: str, **fields: str) -> Any:
    return client.post(LIST, {"action": action, "_selected_action": ["stripe"], **fields})


def test_the_page_tells_why(circuit: Circuit, client: Client) -> None:
    page = log_in(client).get(reverse("admin:outbound_circuit_change", args=["stripe"]))
    text = page.content.decode()
    assert "8 of 12 calls failed within 60 s" in text
    assert "Closed to Open" in text


def test_the_list_counts_who_waits(circuit: Circuit, client: Client) -> None:
    assert "stripe" in log_in(client).get(LIST).content.decode()


def test_operating_asks_first(circuit: Circuit, client: Client) -> None:
    """Nothing changes before the confirmation, nor without a reason."""
    log_in(client, "operate_circuit")
    assert "Let nothing through" in act(client, "force_open").content.decode()
    assert "Please say why" in act(client, "force_open", confirmed="1").content.decode()
    circuit.refresh_from_db()
    assert circuit.mode == CircuitMode.AUTO


@pytest.mark.parametrize(
    "action,mode",
    [
        ("force_open", CircuitMode.FORCED_OPEN),
        ("force_closed", CircuitMode.FORCED_CLOSED),
        ("observe", CircuitMode.OBSERVE),
    ],
)
def test_operating(circuit: Circuit, client: Client, action: str, mode: CircuitMode) -> None:
    """Who and why are kept with the change."""
    log_in(client, "operate_circuit")
    act(client, action, confirmed="1", reason="their status page")
    circuit.refresh_from_db()
    assert (circuit.mode, circuit.mode_actor) == (mode, "operator")
    change = CircuitTransition.objects.exclude(actor="").get(circuit=circuit)
    assert "their status page" in change.why


def test_operating_needs_its_permission(circuit: Circuit, client: Client) -> None:
    """Who may only view is not even offered it."""
    log_in(client)
    act(client, "force_open", confirmed="1", reason="because")
    circuit.refresh_from_db()
    assert circuit.mode == CircuitMode.AUTO
