"""Look at circuits and operate them by hand."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.timezone import localtime

from outbound.errors import CallRefused
from outbound.models import Circuit, CircuitTransition
from outbound.services import operate_circuit
from outbound.states import CircuitMode

MODES = {
    "open": CircuitMode.FORCED_OPEN,
    "close": CircuitMode.FORCED_CLOSED,
    "auto": CircuitMode.AUTO,
    "observe": CircuitMode.OBSERVE,
}
HELP = {
    "open": "let nothing through",
    "close": "let everything through, whatever happens",
    "auto": "let the counts decide again",
    "observe": "count and show, and never block",
}
SHOWN = 10


class Command(BaseCommand):
    help = "Show the circuit breakers, or force one: circuits open NAME --reason 'their outage'."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("list", help="all circuits, one a line")
        show = actions.add_parser("show", help="one circuit and its last changes")
        show.add_argument("name")
        for action, text in HELP.items():
            force = actions.add_parser(action, help=text)
            force.add_argument("name")
            force.add_argument("--reason", default="", help="why; shown to everybody")
            force.add_argument("--dry-run", action="store_true", help="say only what would change")

    def handle(self, *args: Any, **options: Any) -> None:
        action = options["action"]
        if action == "list":
            self._list()
            return
        circuit = self._circuit(options["name"])
        if action == "show":
            self._show(circuit)
        else:
            self._force(circuit, MODES[action], options)

    def _circuit(self, name: str) -> Circuit:
        circuit = Circuit.objects.filter(pk=name).first()
        if circuit is None:
            known = ", ".join(Circuit.objects.order_by("pk").values_list("pk", flat=True))
            raise CommandError(f"there is no circuit {name!r} (known: {known or 'none yet'})")
        return circuit

    def _list(self) -> None:
        circuits = list(Circuit.objects.order_by("pk"))
        for circuit in circuits:
            until = f" until {_moment(circuit.open_until)}" if circuit.incident else ""
            self.stdout.write(f"{circuit.pk:<30} {circuit.state:<10} {circuit.mode}{until}")
        if not circuits:
            self.stdout.write("no circuit yet: each is made by the first call that goes through it")

    def _show(self, circuit: Circuit) -> None:
        lines = {
            "circuit": circuit.pk,
            "state": circuit.state,
            "mode": circuit.mode,
            "why": " by ".join(p for p in (circuit.mode_reason, circuit.mode_actor) if p) or "-",
            "opened": _moment(circuit.opened_at),
            "first probe": _moment(circuit.open_until) if circuit.incident else "-",
            "openings": str(circuit.openings),
            "incident": str(circuit.incident or "-"),
        }
        for name, value in lines.items():
            self.stdout.write(f"{name:<12} {value}")
        changes = CircuitTransition.objects.filter(circuit=circuit).order_by("-at")[:SHOWN]
        for change in changes:
            who = f" ({change.actor})" if change.actor else ""
            self.stdout.write(
                f"  {_moment(change.at)}  {change.from_state} to {change.to_state}, "
                f"{change.mode}: {change.why}{who}"
            )

    def _force(self, circuit: Circuit, mode: CircuitMode, options: dict[str, Any]) -> None:
        if mode != CircuitMode.AUTO and not options["reason"].strip():
            raise CommandError(f"{options['action']} needs --reason")
        if options["dry_run"]:
            self.stdout.write(f"{circuit.pk} would go from {circuit.mode} to {mode}")
            return
        try:
            operate_circuit(
                name=circuit.pk, mode=mode, reason=options["reason"], actor="manage.py circuits"
            )
        except CallRefused as error:
            raise CommandError(str(error)) from error
        circuit.refresh_from_db()
        self.stdout.write(f"{circuit.pk} is {circuit.state}, {circuit.mode}")


def _moment(at: Any) -> str:
    return f"{localtime(at):%Y-%m-%d %H:%M:%S}" if at else "-"
