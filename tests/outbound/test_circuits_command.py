"""`manage.py circuits`: look at circuits and operate them."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from outbound.models import Circuit, CircuitTransition
from outbound.states import CircuitMode
from tests.outbound.rows import attempt, enqueue
from tests.outbound.scripted import Script

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def circuit(script: Script) -> Circuit:
    """The circuit that the first call has made."""
    attempt(enqueue())
    operate = Circuit.objects.filter(pk="scripted").first()
    return operate or Circuit.objects.create(
        name="scripted",
        adapter="scripted",
        counting_from="2026-01-01T00:00Z",
        updated_at="2026-01-01T00:00Z",
    )


def circuits(*arguments: str) -> str:
    out = StringIO()
    call_command("circuits", *arguments, stdout=out)
    return out.getvalue()


def test_list(circuit: Circuit) -> None:
    assert circuits("list").split() == ["scripted", "closed", "auto"]


def test_list_without_any() -> None:
    assert circuits("list").startswith("no circuit yet")


def test_show(circuit: Circuit) -> None:
    circuits("open", "scripted", "--reason", "their maintenance")
    shown = circuits("show", "scripted")
    assert "forced_open" in shown
    assert "their maintenance by manage.py circuits" in shown


@pytest.mark.parametrize(
    "action,mode",
    [
        ("open", CircuitMode.FORCED_OPEN),
        ("close", CircuitMode.FORCED_CLOSED),
        ("observe", CircuitMode.OBSERVE),
    ],
)
def test_forcing(circuit: Circuit, action: str, mode: CircuitMode) -> None:
    """Reason and actor are kept, and `auto` ends it."""
    assert str(mode) in circuits(action, "scripted", "--reason", "because")
    circuit.refresh_from_db()
    assert (circuit.mode, circuit.mode_reason) == (mode, "because")
    change = CircuitTransition.objects.filter(circuit=circuit).order_by("at").last()
    assert change is not None
    assert change.actor == "manage.py circuits"
    circuits("auto", "scripted")
    circuit.refresh_from_db()
    assert circuit.mode == CircuitMode.AUTO


@pytest.mark.parametrize("action", ["open", "close", "observe"])
def test_forcing_needs_a_reason(circuit: Circuit, action: str) -> None:
    with pytest.raises(CommandError, match="needs --reason"):
        circuits(action, "scripted", "--reason", "  ")
    circuit.refresh_from_db()
    assert circuit.mode == CircuitMode.AUTO


@pytest.mark.parametrize("action", ["show", "open", "auto"])
def test_an_unknown_circuit(circuit: Circuit, action: str) -> None:
    """The known ones are named."""
    with pytest.raises(CommandError, match=r"no circuit 'strpie' \(known: scripted\)"):
        circuits(action, "strpie")


def test_a_dry_run_changes_nothing(circuit: Circuit) -> None:
    said = circuits("open", "scripted", "--reason", "because", "--dry-run")
    assert said.strip() == "scripted would go from auto to forced_open"
    circuit.refresh_from_db()
    assert circuit.mode == CircuitMode.AUTO
